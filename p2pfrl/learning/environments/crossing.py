"""Crossing: the smallest task of unlike agents whose best common policy is stochastic."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from pydantic import Field
from typing_extensions import override

from p2pfrl.core.distributions.assigned import Arithmetic
from p2pfrl.core.distributions.base import Distribution
from p2pfrl.core.errors import P2PFRLError
from p2pfrl.core.rule import rule
from p2pfrl.learning.environments.base import Spec
from p2pfrl.learning.environments.tabular import Tables, Tabular


@rule
class Crossing(Tabular):
    """Go left (0) or right (1): one way leads out with reward 1, the other leads nowhere.

    Leaving ends the episode. State 0 is the crossing, 1 is outside. Physics: `way`, the number of
    the action that leads out, modulo 2; by default the agent's id, so that every second agent has
    to go left. Where half of the agents go each way, a common policy that goes left with
    probability p is worth 1/2 (p / (1 - gamma (1 - p)) + (1 - p) / (1 - gamma p)). That is 1/2 if
    it always takes one way, and at most 1 / (2 - gamma), with p = 1/2. So no deterministic common
    policy is optimal.

    Reference: an instance of the observation that the best common policy of unlike agents may have
    to be stochastic: Labbi et al., AISTATS 2026, arXiv 2505.23459.

    Attributes:
        max_steps: time limit of an episode.
    """

    max_steps: int = Field(default=100, ge=1)

    @property
    @override
    def spec(self) -> Spec:
        """Two states, two actions."""
        return Spec(
            observation=2,
            state=1,
            actions=2,
            reset_noise=1,
            step_noise=1,
            max_steps=self.max_steps,
            ranges={
                "way": (0.0, 1000000000.0),
            },
            states=2,
            physics={"way": 0.0},
        )

    @property
    @override
    def vary(self) -> Mapping[str, Distribution]:
        """Return the ways 0, 1, 2, ...: left, right, left, ..."""
        return {"way": Arithmetic(start=0.0, step=1.0)}

    @property
    @override
    def successors(self) -> int:
        """Return 1: every move has one outcome."""
        return 1

    @override
    def tables(self, seed: int, agent: int, row: Mapping[str, float]) -> Tables:
        if row["way"] % 1:
            raise P2PFRLError(
                f"crossing: agent {agent}: way must be a whole number, got {row['way']:g}"
            )
        way = int(row["way"]) % 2
        transition = np.zeros((2, 2, 2))
        transition[0, way, 1] = transition[0, 1 - way, 0] = 1.0
        transition[1, :, 1] = 1.0
        return Tables(
            transition=transition,
            reward=np.zeros((2, 2)),
            entry=np.array([0.0, 1.0]),
            start=np.array([1.0, 0.0]),
            terminal=np.array([False, True]),
        )
