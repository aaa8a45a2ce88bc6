"""Networked MDP: random worlds whose members seek the mean of their private rewards."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field
from typing_extensions import override

from p2pfrl.core.rng import Purpose, generator
from p2pfrl.core.rule import rule
from p2pfrl.learning.environments.base import Array, Spec
from p2pfrl.learning.environments.shared_tabular import JointTables, SharedTabular, require_small


@rule
class NetworkedMDP(SharedTabular):
    """A random Markov game of k members with 2 actions each, who see the state and the actions.

    P(s'|s, a) of a joint action a is uniform in [0, 1] plus 1e-5, normalized; the mean reward
    R_i(s, a) of member i is uniform in [0, 4]. Both are the world's own, from (seed, world). A
    member gets R_i(s, a) plus uniform noise in [-noise, noise], and the first state is any, equally
    often. What is sought is the mean reward of the world, which nobody observes: with share = "own"
    members learn it from each other alone.

    Physics: noise. Measures: team_reward (the mean over members). Baseline: best_joint, the joint
    actions of the highest expected mean return, by dynamic programming over the time left.

    Reference: Zhang, Yang, Liu, Zhang, Basar, "Fully decentralized multi-agent reinforcement
    learning with networked agents", ICML 2018, arXiv 1802.08757; sizes as used here.

    Attributes:
        members: k.
        states: S.
        share: own: each member gets its own reward; team: everyone gets the mean.
        max_steps: time limit of an episode.
    """

    members: int = Field(default=4, ge=2)
    states: int = Field(default=5, ge=1)
    share: Literal["own", "team"] = "own"
    max_steps: int = Field(default=100, ge=1)

    def __post_init__(self) -> None:
        require_small(self.members, 2, self.states)

    @property
    @override
    def spec(self) -> Spec:
        """One-hot states, two actions."""
        return Spec(
            observation=self.states,
            state=1,
            actions=2,
            reset_noise=1,
            step_noise=1 + self.members,
            max_steps=self.max_steps,
            ranges={
                "noise": (0.0, 1000000.0),
            },
            states=self.states,
            physics={"noise": 0.5},
            measures=("team_reward",),
            baselines={"best_joint": self._best_joint},
            members=self.members,
        )

    @property
    @override
    def pays_team(self) -> bool:
        return self.share == "team"

    @override
    def tables(self, seed: int, world: int) -> JointTables:
        """Draw P and R."""
        rng, joint = generator(seed, world, Purpose.PROBLEM), 2**self.members
        transition = rng.random((self.states, joint, self.states)) + 1e-5
        return JointTables(
            transition=transition / transition.sum(axis=-1, keepdims=True),
            reward=4 * rng.random((self.members, self.states, joint)),
        )

    @override
    def physics(
        self, seed: int, agents: Sequence[int], columns: Mapping[str, Array]
    ) -> dict[str, NDArray[Any]]:
        """Return also `best (b,T,S)`, the best joint action by step and state."""
        found = super().physics(seed, agents, columns)
        return found | {"best": best_joint(found["P"], found["team"], self.max_steps)[1]}

    @override
    def optimum(self, physics: Mapping[str, NDArray[Any]]) -> Array | None:
        """Return the best expected mean return; None where members are paid their own."""
        if self.share == "own":
            return None
        return best_joint(physics["P"], physics["team"], self.max_steps)[0]

    def _best_joint(
        self, world: Array, physics: Mapping[str, NDArray[Any]], elapsed: NDArray[np.int64]
    ) -> NDArray[Any]:
        rows, t = np.arange(len(world))[:, None], np.minimum(elapsed, self.max_steps - 1)
        joint = physics["best"][rows, 0, 0, t, world[..., 0].astype(np.intp)]
        digits: NDArray[np.intp] = joint[:, None] >> np.arange(self.members)[::-1, None] & 1
        return digits


def best_joint(transition: Array, reward: Array, steps: int) -> tuple[Array, NDArray[np.intp]]:
    """Return the highest expected return over `steps` steps, and the joint actions that reach it.

    V_T = 0, V_t(s) = max_a r(s, a) + sum_s' P(s'|s, a) V_(t+1)(s').

    Args:
        transition: P `(b, S, J, S)`.
        reward: r `(b, S, J)`.
        steps: length T of an episode.

    Returns:
        return `(b,)`, the mean over first states; actions `(b, T, S)`.
    """
    b, states, _ = reward.shape
    value, best = np.zeros((b, states)), np.empty((b, steps, states), dtype=np.intp)
    for t in range(steps - 1, -1, -1):
        ahead = reward + np.matmul(transition, value[:, None, :, None])[..., 0]
        best[:, t], value = ahead.argmax(axis=-1), ahead.max(axis=-1)
    return value.mean(axis=1), best
