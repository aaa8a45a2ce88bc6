"""A simulator around another one: what it does not change is that of the other."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from typing_extensions import override

from p2pfrl.core.scene import Scene
from p2pfrl.learning.environments.base import Simulator, State


class AroundSimulator(Simulator):
    """Base of simulators that change the steps of another one.

    Args:
        inner: the simulator that steps.
    """

    def __init__(self, inner: Simulator) -> None:
        self.inner = inner
        self.spec, self.instances, self.world = inner.spec, inner.instances, inner.world

    @property
    def working(self) -> Callable[[str], None] | None:
        """Called with the agent, the update and the step, where steps are slow."""
        return self.inner.working

    @working.setter
    def working(self, value: Callable[[str], None] | None) -> None:
        self.inner.working = value

    @override
    def init(self, agents: Sequence[int], purpose: str = "environment") -> State:
        return self.inner.init(agents, purpose)

    @override
    def observe(self, agents: Sequence[int], state: State) -> NDArray[np.float32]:
        return self.inner.observe(agents, state)

    @override
    def shown(self, agents: Sequence[int], state: State) -> NDArray[np.float32]:
        return self.inner.shown(agents, state)

    @override
    def begin(
        self, agents: Sequence[int], index: Sequence[int], purpose: str = "environment"
    ) -> None:
        self.inner.begin(agents, index, purpose)

    @property
    @override
    def baselines(self) -> Mapping[str, Callable[[State], NDArray[Any]]]:
        return self.inner.baselines

    @override
    def note_open(self, index: int, count: int) -> None:
        self.inner.note_open(index, count)

    @override
    def picture(self, state: State) -> Scene | NDArray[np.uint8] | None:
        return self.inner.picture(state)

    @override
    def close(self) -> None:
        self.inner.close()
