"""Small tasks that the learners' tests share."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from p2pfrl.core.rule import rule
from p2pfrl.learning.environments.base import Array, Environment, Problem, Spec
from p2pfrl.learning.environments.cartpole import CartPole
from p2pfrl.learning.environments.pendulum import Pendulum
from p2pfrl.learning.learners.base import EngineName, Learner, Stack, Task


@rule
class Constant(Environment):
    """Reward 1 for ever, cut after `limit` steps.

    The observation is the step within the episode over 10, and a one.
    """

    limit: int = 3

    @property
    def spec(self) -> Spec:
        return Spec(observation=2, state=1, actions=2, max_steps=self.limit, measures=("clock",))

    def reset(self, physics: Mapping[str, NDArray[Any]], noise: Array) -> Array:
        return np.zeros((*noise.shape[:2], 1))

    def observe(self, state: Array, physics: Mapping[str, NDArray[Any]]) -> NDArray[np.float32]:
        return np.concatenate([state / 10.0, np.ones_like(state)], axis=-1).astype(np.float32)

    def step(
        self, state: Array, action: NDArray[Any], physics: Mapping[str, NDArray[Any]], noise: Array
    ) -> tuple[Array, Array, NDArray[np.bool_], dict[str, Array]]:
        after = state + 1.0
        shape = state.shape[:2]
        return after, np.ones(shape), np.zeros(shape, dtype=np.bool_), {"clock": after[..., 0]}


@rule
class Target(Environment):
    """One-step episodes with reward -(action - goal)^2 and the goal 0.5.

    It is a continuous action with a known optimum.
    """

    @property
    def spec(self) -> Spec:
        return Spec(observation=1, state=1, action_low=(-2.0,), action_high=(2.0,), max_steps=1)

    def reset(self, physics: Mapping[str, NDArray[Any]], noise: Array) -> Array:
        return np.ones((*noise.shape[:2], 1))

    def observe(self, state: Array, physics: Mapping[str, NDArray[Any]]) -> NDArray[np.float32]:
        return state.astype(np.float32)

    def step(
        self, state: Array, action: NDArray[Any], physics: Mapping[str, NDArray[Any]], noise: Array
    ) -> tuple[Array, Array, NDArray[np.bool_], dict[str, Array]]:
        reward = -np.square(action[..., 0].astype(np.float64) - 0.5)
        return state, reward, np.ones(state.shape[:2], dtype=np.bool_), {}


def task(
    problem: Problem,
    agents: int,
    *,
    instances: int = 4,
    seed: int = 1,
    episodes: int = 2,
    engine: EngineName = "torch",
) -> Task:
    """Return a task whose agents differ where the problem has a `gravity` or a `g`."""
    columns = {name: np.full(agents, value) for name, value in problem.spec.physics.items()}
    for name in ("gravity", "g"):
        if name in columns:
            columns[name] = columns[name] * np.linspace(0.8, 1.2, agents)
    physics = problem.physics(seed, range(agents), columns)
    return Task(
        seed,
        agents,
        problem.simulator(physics, instances, seed),
        problem.simulator(physics, episodes, seed),
        engine=engine,
    )


def stack(
    learner: Learner,
    problem: Problem,
    agents: int,
    *,
    instances: int = 4,
    seed: int = 1,
    engine: EngineName = "torch",
) -> Stack:
    """Return the learner bound to such a task."""
    return learner.prepare(task(problem, agents, instances=instances, seed=seed, engine=engine))


DISCRETE, CONTINUOUS = CartPole(), Pendulum()


@rule
class Dials(Environment):
    """One-step episodes: the reward is how many of several dials were set as the goal says.

    The goal is observed one-hot, dial by dial. With `is_masked`, the mask forbids every wrong
    number of the first dial.
    """

    heads: tuple[int, ...] = (3, 2)
    is_masked: bool = False

    @property
    def spec(self) -> Spec:
        size, dials = sum(self.heads), len(self.heads)
        return Spec(
            observation=size * (1 + self.is_masked),
            state=dials,
            heads=self.heads,
            reset_noise=dials,
            max_steps=1,
            is_masked=self.is_masked,
        )

    def reset(self, physics: Mapping[str, NDArray[Any]], noise: Array) -> Array:
        return np.floor(noise * np.array(self.heads))

    def observe(self, state: Array, physics: Mapping[str, NDArray[Any]]) -> NDArray[np.float32]:
        goals = [np.eye(n)[state[..., h].astype(int)] for h, n in enumerate(self.heads)]
        rest = [np.ones_like(goal) for goal in goals[1:]]
        parts = [*goals, *([goals[0], *rest] if self.is_masked else [])]
        return np.concatenate(parts, axis=-1).astype(np.float32)

    def step(
        self, state: Array, action: NDArray[Any], physics: Mapping[str, NDArray[Any]], noise: Array
    ) -> tuple[Array, Array, NDArray[np.bool_], dict[str, Array]]:
        assert action.shape == state.shape
        reward = (action == state).sum(axis=-1).astype(np.float64)
        return state, reward, np.ones(state.shape[:2], dtype=np.bool_), {}


@rule
class Corridor(Environment):
    """A corridor of six cells, whose last one is the goal; every step costs 1.

    Actions are left, right, and `useless` ones that stay where one is. With `is_masked` the mask
    forbids these, and left in the first cell; measure `forbidden` counts how often one was taken.
    """

    useless: int = 0
    is_masked: bool = False

    @property
    def spec(self) -> Spec:
        actions = 2 + self.useless
        return Spec(
            observation=6 + actions * self.is_masked,
            state=1,
            actions=actions,
            reset_noise=1,
            max_steps=20,
            measures=("forbidden",),
            is_masked=self.is_masked,
        )

    def reset(self, physics: Mapping[str, NDArray[Any]], noise: Array) -> Array:
        return np.floor(noise * 5)

    def _mask(self, state: Array) -> NDArray[np.bool_]:
        allowed = np.zeros((*state.shape[:2], 2 + self.useless), dtype=np.bool_)
        allowed[..., 0], allowed[..., 1] = state[..., 0] > 0, True
        return allowed

    def observe(self, state: Array, physics: Mapping[str, NDArray[Any]]) -> NDArray[np.float32]:
        cell = np.eye(6)[state[..., 0].astype(int)]
        parts = [cell, self._mask(state)] if self.is_masked else [cell]
        return np.concatenate(parts, axis=-1).astype(np.float32)

    def step(
        self, state: Array, action: NDArray[Any], physics: Mapping[str, NDArray[Any]], noise: Array
    ) -> tuple[Array, Array, NDArray[np.bool_], dict[str, Array]]:
        allowed = np.take_along_axis(self._mask(state), action[..., None], axis=-1)[..., 0]
        move = np.where(action == 0, -1.0, np.where(action == 1, 1.0, 0.0))
        after = np.clip(state + move[..., None], 0.0, 5.0)
        forbidden = {"forbidden": (~allowed).astype(np.float64)}
        return after, np.full(state.shape[:2], -1.0), after[..., 0] == 5.0, forbidden
