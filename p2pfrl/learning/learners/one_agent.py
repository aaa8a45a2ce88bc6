"""The environments of one agent, for learners that are written for one agent."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from typing_extensions import override

from p2pfrl.core.errors import AgentError
from p2pfrl.learning.environments.base import Simulator, Step
from p2pfrl.learning.environments.vector import ArrayVectorEnv
from p2pfrl.learning.learners.actions import ActionError, fitting
from p2pfrl.learning.rollout import Measures, note_returns


class OneAgentEnv(ArrayVectorEnv):
    """The copies of one agent's environment, whose episodes go on from update to update.

    Attributes:
        agent: whose environments they are.
        taken: steps of each copy since `begin`.
        returns: of the episodes that finished since then, in order.
    """

    def __init__(self, simulator: Simulator, agent: int) -> None:
        super().__init__(simulator, [agent])
        self.agent = agent
        self.taken = self._index = self._most = 0
        self.returns: list[float] = []
        self._means = Measures(1, simulator.spec.measures)

    def begin(
        self,
        index: int,
        steps: int,
        obs: NDArray[np.float32],
        advance: Callable[[NDArray[Any]], Step],
    ) -> None:
        """Start update number `index`.

        Args:
            index: of the agent's updates.
            steps: that it takes.
            obs: current observations `(1, m, o)`.
            advance: actions of the copies -> the agent's row of the step.
        """
        self._index, self._most, self._obs, self._step = index, steps, obs, advance
        self.taken, self.returns = 0, []
        self._means = Measures(1, self._simulator.spec.measures)

    def measures(self) -> dict[str, float]:
        """Return the means of the environment's own measures since `begin`."""
        return {name: float(values[0]) for name, values in self._means.means().items()}

    @override
    def reset(
        self, *, seed: int | list[int | None] | None = None, options: dict[str, Any] | None = None
    ) -> tuple[NDArray[np.float32], dict[str, Any]]:
        """Return the current observations: episodes go on. `seed` is not used."""
        return self._flat(self._obs), {}

    @override
    def _advance(self, actions: NDArray[Any]) -> Step:
        try:
            fit = fitting(actions, self._simulator.spec, self._simulator.instances)
        except ActionError as error:
            where = f"update {self._index}, step {self.taken}: learn"
            raise AgentError(self.agent, f"{where}: {error}") from error
        if self.taken == self._most:
            reason = f"learn took more than {self._most} steps of each copy (learner.steps)"
            raise AgentError(self.agent, f"update {self._index}: {reason}")
        step = self._step(fit)
        self.taken += 1
        self._obs = step.obs
        self._means.add(step)
        note_returns(step, [self.returns])
        return step
