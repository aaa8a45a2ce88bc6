"""A learner whose agents may experience something that did not happen: Byzantine ones do.

Their actions are replaced on the way to the environment, or their rewards on the way back. The
returns that are recorded are those that the environment gave.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from typing_extensions import override

from p2pfrl.core.parameters import Vector
from p2pfrl.core.rng import Purpose, Streams
from p2pfrl.learning.environments.around import AroundSimulator
from p2pfrl.learning.environments.base import Simulator, Step
from p2pfrl.learning.environments.base import State as SimulatorState
from p2pfrl.learning.environments.random_actions import random_action
from p2pfrl.learning.learners.base import Batch, Outcome, PooledTraining, Stack, State, Wrapped

MASK = "tampered"
"""Name of the state array `(n,)` with a bit for each change that holds in an agent's update."""
_STREAM = f"{Purpose.ATTACK}-experience"


class Tampering(Protocol):
    """A change of what agents experience (exchange/attacks/experience.py)."""

    @property
    def is_random(self) -> bool:
        """Whether actions are drawn at random."""

    def rewards(
        self, reward: NDArray[np.float64], uniform: NDArray[np.float64]
    ) -> NDArray[np.float64]:
        """Return the rewards `(b, m)` that agents learn from."""


class TamperedSimulator(AroundSimulator):
    """A simulator in which actions and rewards of some agents change on the way.

    Args:
        inner: the simulator of the environment.
        changes: bit by bit.
        masks: agent -> bits of the changes that hold in the update under way.
        seed: of the run.
    """

    def __init__(
        self,
        inner: Simulator,
        changes: Sequence[Tampering],
        masks: Mapping[int, int],
        seed: int,
    ) -> None:
        super().__init__(inner)
        self._changes, self._masks, self._seed = changes, masks, seed
        self._rows: list[tuple[Tampering, NDArray[np.intp]]] = []
        self._streams = Streams.of(seed, [], _STREAM)
        self._obs: NDArray[np.float32] = np.zeros((0, 0, 0), dtype=np.float32)

    @override
    def observe(self, agents: Sequence[int], state: SimulatorState) -> NDArray[np.float32]:
        self._obs = self.inner.observe(agents, state)
        return self._obs

    @override
    def begin(
        self, agents: Sequence[int], index: Sequence[int], purpose: str = "environment"
    ) -> None:
        """Begin a rollout; only those of training have changes."""
        self.inner.begin(agents, index, purpose)
        self._streams = Streams.of(self._seed, agents, _STREAM, index)
        self._rows = []
        for bit, change in enumerate(self._changes if purpose == "environment" else ()):
            rows = [row for row, i in enumerate(agents) if self._masks.get(i, 0) >> bit & 1]
            if rows:
                self._rows.append((change, np.array(rows, dtype=np.intp)))

    @property
    def only_forces(self) -> bool:
        """Whether all that ever changes is that actions are drawn at random, in one way."""
        return len(self._changes) == 1 and self._changes[0].is_random

    def forced(
        self, agents: Sequence[int], index: Sequence[int], steps: int
    ) -> NDArray[np.int64] | None:
        """Return the actions `(b, steps, m)` of one choice that are drawn for agents in an update.

        They are those that `step` would draw one after the other. -1 stands for an agent's own
        action; None for all agents' own. It is for simulators that `only_forces`.
        """
        is_tampered = np.array([self._masks.get(agent, 0) > 0 for agent in agents])
        if not is_tampered.any():
            return None
        streams = Streams.of(self._seed, agents, _STREAM, index)
        blank = np.zeros((len(agents), steps * self.instances, 1), dtype=np.float32)
        drawn = random_action(self.spec, blank, streams).reshape(len(agents), steps, -1)
        return np.where(is_tampered[:, None, None], drawn, -1).astype(np.int64)

    @override
    def with_world(self) -> Simulator | None:
        inner = self.inner.with_world()
        if inner is None:
            return None
        return TamperedSimulator(inner, self._changes, self._masks, self._seed)

    @override
    def step(self, state: SimulatorState, action: NDArray[np.generic]) -> Step:
        if not self._rows:
            return self.inner.step(state, action)
        for change, rows in self._rows:
            if change.is_random:
                action = action.copy()
                action[rows] = random_action(self.spec, self._obs, self._streams)[rows]
        step = self.inner.step(state, action)
        reward = step.reward.copy()
        for change, rows in self._rows:
            if not change.is_random:
                uniform = self._streams.uniform(self.instances)
                reward[rows] = change.rewards(reward[rows], uniform[rows])
        self._obs = step.obs
        return replace(step, reward=reward)


class Tampered(Wrapped):
    """A learner in tampered simulators: the state array `MASK` says which changes hold.

    The world sets an agent's bits when its update starts; they are inputs of the update.

    Args:
        inner: the learner.
        masks: those of the simulators that it trains in.
    """

    def __init__(self, inner: Stack, masks: dict[int, int]) -> None:
        super().__init__(inner)
        self._masks = masks
        self.pooled = None if inner.pooled is None else _Pooled(inner.pooled, self.changed)

    @override
    def init(self, agents: Sequence[int]) -> State:
        return {**self.inner.init(agents), MASK: np.zeros(len(agents), dtype=np.int64)}

    @override
    def update(self, batch: Batch) -> Outcome:
        with self.changed(batch) as own:
            outcome = self.inner.update(own)
        return replace(outcome, state={**outcome.state, MASK: batch.state[MASK]})

    @contextmanager
    def changed(self, batch: Batch) -> Iterator[Batch]:
        """Let the simulators know which changes hold; the inner learner has no such state."""
        self._masks.clear()
        self._masks.update(zip(batch.agents, batch.state[MASK].tolist(), strict=True))
        yield replace(batch, state={n: v for n, v in batch.state.items() if n != MASK})


class _Pooled(PooledTraining):
    """Centralized training on what agents experienced, tampered or not."""

    def __init__(self, inner: PooledTraining, changed: Callable[[Batch], Any]) -> None:
        self._inner, self._changed = inner, changed
        self.pooled_options = inner.pooled_options

    @override
    def collect(self, batch: Batch) -> Outcome:
        with self._changed(batch) as own:
            outcome = self._inner.collect(own)
        return replace(outcome, state={**outcome.state, MASK: batch.state[MASK]})

    @override
    def learn(
        self, parameters: Vector, state: State, transitions: Sequence[Vector], index: int
    ) -> float:
        return self._inner.learn(parameters, state, transitions, index)
