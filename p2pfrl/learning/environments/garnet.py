"""Garnet: random Markov decision processes with adjustable heterogeneity over agents."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from pydantic import Field
from typing_extensions import override

from p2pfrl.core.rng import Purpose, generator
from p2pfrl.core.rule import rule
from p2pfrl.learning.environments.base import Array, Spec
from p2pfrl.learning.environments.tabular import Tables, Tabular


@rule
class Garnet(Tabular):
    """Random MDP Garnet(S, A, b): each (s, a) leads to b random states, with a uniform reward.

    Rewards are uniform in [0, 1]. Agent i has P_i = (1 - e) P + e P'_i and R_i = (1 - f) R + f
    R'_i: P, R from (seed, "problem"), P'_i, R'_i from (seed, i, "problem"), e and f its physics
    `perturbation` and `reward_perturbation`. So two agents' kernels differ by at most max(e_i, e_j)
    in total variation. Start states are uniform; episodes are cut at `max_steps`.

    With `kinds` > 1 there are that many common processes instead of one, drawn likewise, and agent
    i has that of kind i mod kinds: agents of one kind are alike, others have nothing in common.
    With `opposed` odd kinds earn -R where even ones earn R, as in Mangold et al., "SCAFFLSA",
    NeurIPS 2024, arXiv 2402.04114.

    Reference: Archibald, McKinnon, Thomas, "On the generation of Markov decision processes",
    Journal of the Operational Research Society 46, 1995; in this form Bhatnagar, Sutton,
    Ghavamzadeh, Lee, "Natural actor-critic algorithms", Automatica 45, 2009.

    Attributes:
        states: S.
        actions: A.
        branching: b.
        max_steps: time limit of an episode.
        kinds: number of common processes.
        opposed: kinds of odd number earn the negative of the first kind's rewards.
    """

    states: int = Field(default=30, ge=2, le=1000)
    actions: int = Field(default=2, ge=2, le=100)
    branching: int = Field(default=2, ge=1)
    max_steps: int = Field(default=100, ge=1)
    kinds: int = Field(default=1, ge=1)
    opposed: bool = False

    def __post_init__(self) -> None:
        if self.branching > self.states:
            raise ValueError(
                f"branching must be at most states = {self.states}, got {self.branching}"
            )
        if self.opposed and self.kinds == 1:
            raise ValueError("opposed needs kinds of at least 2: there is none of odd number")

    @property
    @override
    def spec(self) -> Spec:
        """One-hot states."""
        return Spec(
            observation=self.states,
            state=1,
            actions=self.actions,
            reset_noise=1,
            step_noise=1,
            max_steps=self.max_steps,
            ranges={
                "perturbation": (0.0, 1.0),
                "reward_perturbation": (0.0, 1.0),
            },
            states=self.states,
            physics={"perturbation": 0.0, "reward_perturbation": 0.0},
        )

    @property
    @override
    def successors(self) -> int:
        """Those of the common process and of the agent's own."""
        return min(2 * self.branching, self.states)

    @override
    def tables(self, seed: int, agent: int, row: Mapping[str, float]) -> Tables:
        """Return the agent's mixture of the common MDP and its own."""
        kind = agent % self.kinds
        common_p, common_r = self._draw(
            generator(seed, Purpose.PROBLEM) if kind == 0 else generator(seed, Purpose.KIND, kind)
        )
        if self.opposed:
            common_r = self._draw(generator(seed, Purpose.PROBLEM))[1] * (-1.0 if kind % 2 else 1.0)
        own_p, own_r = self._draw(generator(seed, agent, Purpose.PROBLEM))
        e, f = row["perturbation"], row["reward_perturbation"]
        return Tables(
            transition=(1 - e) * common_p + e * own_p,
            reward=(1 - f) * common_r + f * own_r,
            entry=np.zeros(self.states),
            start=np.full(self.states, 1.0 / self.states),
            terminal=np.zeros(self.states, dtype=np.bool_),
        )

    def _draw(self, rng: np.random.Generator) -> tuple[Array, Array]:
        """Draw P `(S, A, S)` and R `(S, A)`: distinct successors, uniform cut points."""
        pairs = self.states * self.actions
        successors = np.argsort(rng.random((pairs, self.states)), axis=1)[:, : self.branching]
        cuts = np.sort(rng.random((pairs, self.branching - 1)), axis=1)
        transition = np.zeros((pairs, self.states))
        chances = np.diff(cuts, axis=1, prepend=0.0, append=1.0)
        np.put_along_axis(transition, successors, chances, axis=1)
        return transition.reshape(self.states, self.actions, self.states), rng.random(
            (self.states, self.actions)
        )
