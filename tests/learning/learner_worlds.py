"""Small tasks that the learners' tests share."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from p2pfrl.core.rule import rule
from p2pfrl.learning.environments.base import Array, Environment, Problem, Spec
from p2pfrl.learning.environments.cartpole import CartPole
from p2pfrl.learning.environments.pendulum import Pendulum
from p2pfrl.learning.learners.base import Learner, Stack, Task


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
    problem: Problem, agents: int, *, instances: int = 4, seed: int = 1, episodes: int = 2
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
    )


def stack(
    learner: Learner, problem: Problem, agents: int, *, instances: int = 4, seed: int = 1
) -> Stack:
    """Return the learner bound to such a task."""
    return learner.prepare(task(problem, agents, instances=instances, seed=seed))


DISCRETE, CONTINUOUS = CartPole(), Pendulum()
