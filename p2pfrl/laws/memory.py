"""Laws of networks with a memory."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field
from typing_extensions import override

from p2pfrl.core.rule import rule
from p2pfrl.laws.base import Figure, Law, at_least, near
from p2pfrl.laws.runs import play
from p2pfrl.learning.environments.base import Array, Environment, Spec


@rule
class Corridor(Environment):
    """A T-maze: the first observation says which way to turn after `length` steps.

    Observation (cue of -1 or 1 at first, else 0; 1 at the junction, else 0). Only the action at the
    junction counts: 1 if it is the cue's, else 0. A policy without memory sees the same at the
    junction whatever the cue was, and either cue has probability 1/2: its mean return is 1/2.
    After Bakker, Reinforcement learning with long short-term memory, NIPS 2001.

    Attributes:
        length: steps from the cue to the junction.
    """

    length: int = Field(default=4, ge=1)

    @property
    @override
    def spec(self) -> Spec:
        return Spec(observation=2, state=2, actions=2, reset_noise=1)

    @override
    def reset(self, physics: Mapping[str, NDArray[Any]], noise: Array) -> Array:
        return np.concatenate([np.where(noise > 0.5, 1.0, -1.0), np.zeros_like(noise)], axis=-1)

    @override
    def observe(self, state: Array, physics: Mapping[str, NDArray[Any]]) -> NDArray[np.float32]:
        cue, clock = state[..., 0], state[..., 1]
        seen = np.where(clock == 0, cue, 0.0), clock == self.length
        return np.stack(seen, axis=-1).astype(np.float32)

    @override
    def step(
        self, state: Array, action: NDArray[Any], physics: Mapping[str, NDArray[Any]], noise: Array
    ) -> tuple[Array, Array, NDArray[np.bool_], dict[str, Array]]:
        is_last = state[..., 1] == self.length
        reward = (is_last & ((2.0 * action - 1.0) == state[..., 0])).astype(np.float64)
        return state + np.array([0.0, 1.0]), reward, is_last, {}


def turned(memory: str, seed: int) -> float:
    """Return the mean return of three agents on a ring that learn the T-maze by PPO."""
    learner = {
        "kind": "ppo",
        "memory": memory,
        "shared_trunk": True,
        "hidden": [16],
        "reward_scale": 1.0,
        "lr": 1e-2,
        "steps": 25,
        "num_minibatches": 2,
    }
    environment = {"id": f"{__name__}:Corridor", "instances": 8}
    record = play(
        3, 30, seed=seed, environment=environment, learner=learner, evaluation={"episodes": 300}
    )
    return float(record.summary["evaluation"]["own"])


def _maze() -> Iterator[Figure]:
    for seed in (1, 2, 3):
        yield at_least(f"seed {seed}: return with a memory", 0.95, turned("gru", seed))
        yield near(f"seed {seed}: without", 0.5, turned("none", seed), 0.08)


LAWS = (
    Law(
        "memory_maze",
        "agents with a memory turn at a T-junction as they were told; without one the return is 1/2",
        "after Bakker, NIPS 2001; computed",
        _maze,
        is_slow=True,
    ),
)
