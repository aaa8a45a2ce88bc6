"""Drift: keep a drifting point near the origin; agents differ in how far their actions move it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field
from typing_extensions import override

from p2pfrl.core.distributions.assigned import Arithmetic
from p2pfrl.core.distributions.base import Distribution
from p2pfrl.core.rule import rule
from p2pfrl.learning.environments.base import Array, Environment, Spec

_FAR = 5.0


@rule
class Drift(Environment):
    """Keep a drifting point near 0 by moves of +-0.1 difficulty; reward minus the mean |state|.

    Action a moves coordinate j up where bit j of a is set, else down, so there are 2^dimension
    actions. Then every coordinate drifts by a number uniform in [-noise, noise]. Episodes start
    uniformly in [-1, 1] per coordinate, end beyond 5, and are cut after 200 steps. Physics:
    difficulty, by default 0.5, 0.7, 0.9, ... over the agents, and noise. The best an agent can do
    is to hover around 0 at about half a step, so its return falls with its difficulty. Where a step
    is long (difficulty above about 3.6) it pays to leave [-5, 5] early.

    Attributes:
        dimension: numbers of an observation.
    """

    dimension: int = Field(default=2, ge=1, le=6)
    max_steps: int = Field(default=200, ge=1)

    @property
    @override
    def spec(self) -> Spec:
        """The state is observed; 2^dimension actions."""
        return Spec(
            observation=self.dimension,
            state=self.dimension,
            actions=2**self.dimension,
            reset_noise=self.dimension,
            step_noise=self.dimension,
            max_steps=self.max_steps,
            ranges={
                "difficulty": (0.001, 1000.0),
                "noise": (0.0, 1000.0),
            },
            physics={"difficulty": 1.0, "noise": 0.05},
        )

    @property
    @override
    def vary(self) -> Mapping[str, Distribution]:
        """Return difficulty 0.5, 0.7, 0.9, ..."""
        return {"difficulty": Arithmetic(start=0.5, step=0.2)}

    @override
    def reset(self, physics: Mapping[str, NDArray[Any]], noise: Array) -> Array:
        """Return states uniform in [-1, 1]."""
        return noise * 2.0 - 1.0

    @override
    def observe(self, state: Array, physics: Mapping[str, NDArray[Any]]) -> NDArray[np.float32]:
        """Return the state."""
        return state.astype(np.float32)

    @override
    def step(
        self, state: Array, action: NDArray[Any], physics: Mapping[str, NDArray[Any]], noise: Array
    ) -> tuple[Array, Array, NDArray[np.bool_], dict[str, Array]]:
        """Move by the action, then drift."""
        up = (action.astype(np.int64)[..., None] >> np.arange(self.dimension)) & 1
        moved = state + (2.0 * up - 1.0) * (0.1 * physics["difficulty"][..., None])
        out = moved + (2.0 * noise - 1.0) * physics["noise"][..., None]
        distance = np.abs(out)
        total = distance[..., 0]
        for axis in range(1, self.dimension):
            total = total + distance[..., axis]
        return out, -total / self.dimension, (distance > _FAR).any(axis=-1), {}
