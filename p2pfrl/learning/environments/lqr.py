"""Linear-quadratic control: a continuous task whose best policy is known in closed form."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field
from typing_extensions import override

from p2pfrl.core.rng import Purpose, generator
from p2pfrl.core.rule import rule
from p2pfrl.learning.environments.base import Array, Environment, Spec


@rule
class LQR(Environment):
    """Steer x' = A_i x + B_i u + noise w to 0; reward -(|x|^2 + control_cost |u|^2).

    An episode has `max_steps` steps. A_i = A + perturbation G_i, rescaled to spectral radius
    `radius`, and B_i = B + perturbation H_i. The elements of A and B (from (seed, "problem")), G_i
    and H_i (from (seed, i, "problem")) are N(0, 1 / dimension). w is uniform with variance 1 per
    coordinate; episodes start uniformly in [-1, 1]. Physics: perturbation, noise, control_cost.

    Attributes:
        bound: largest absolute value of each component of the action.
        dimension: of the state x.
        controls: of the action u, each within [-bound, bound].
        radius: spectral radius of every A_i; below 1 the uncontrolled state decays.
    """

    dimension: int = Field(default=3, ge=1, le=32)
    controls: int = Field(default=2, ge=1, le=32)
    radius: float = Field(default=0.95, gt=0, le=1)
    bound: float = Field(default=2.0, gt=0)
    max_steps: int = Field(default=50, ge=1)

    @property
    @override
    def spec(self) -> Spec:
        """The state is observed; bounded continuous actions."""
        return Spec(
            observation=self.dimension,
            state=self.dimension,
            action_low=(-self.bound,) * self.controls,
            action_high=(self.bound,) * self.controls,
            reset_noise=self.dimension,
            step_noise=self.dimension,
            max_steps=self.max_steps,
            ranges={
                "perturbation": (0.0, 1000.0),
                "noise": (0.0, 1000.0),
                "control_cost": (0.0, 1000000.0),
            },
            physics={"perturbation": 0.0, "noise": 0.1, "control_cost": 0.1},
        )

    @override
    def physics(
        self, seed: int, agents: Sequence[int], columns: Mapping[str, Array]
    ) -> dict[str, NDArray[Any]]:
        """Return columns, `A` `(b, dimension, dimension)`, `B` `(b, dimension, controls)`."""
        common_a, common_b = self._draw(generator(seed, Purpose.PROBLEM))
        a, b = np.empty((len(agents), *common_a.shape)), np.empty((len(agents), *common_b.shape))
        for i, agent in enumerate(agents):
            own_a, own_b = self._draw(generator(seed, agent, Purpose.PROBLEM))
            size = columns["perturbation"][i]
            matrix = common_a + size * own_a
            a[i] = matrix * (self.radius / np.abs(np.linalg.eigvals(matrix)).max())
            b[i] = common_b + size * own_b
        return dict(columns) | {"A": a, "B": b}

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
        """Apply the control; the reward is for the state it was applied in."""
        control = action.astype(np.float64)
        cost = _total(np.square(state)) + physics["control_cost"] * _total(np.square(control))
        out = (2.0 * noise - 1.0) * (np.sqrt(3.0) * physics["noise"][..., None])
        out = out + _product(physics["A"], state) + _product(physics["B"], control)
        return out, -cost, np.zeros(cost.shape, dtype=np.bool_), {}

    def optimal_gain(self, physics: Mapping[str, NDArray[Any]], gamma: float = 1.0) -> Array:
        """Return K `(b, controls, dimension)`: u = -K x has the best endless discounted return.

        Solves the Riccati equation P = I + g A'PA - g A'PB (r I + g B'PB)^-1 g B'PA by iteration,
        per agent. The bound on the controls is ignored.

        Args:
            physics: rows as `physics` returned them.
            gamma: discount g; 1 needs radius < 1 or a stabilizable pair.
        """
        gains = []
        for a, b, r in zip(physics["A"], physics["B"], physics["control_cost"], strict=True):
            value, gain = np.eye(self.dimension), np.zeros((self.controls, self.dimension))
            for _ in range(10_000):
                inner = r * np.eye(self.controls) + gamma * b.T @ value @ b
                gain = gamma * np.linalg.solve(inner, b.T @ value @ a)
                following = np.eye(self.dimension) + gamma * a.T @ value @ (a - b @ gain)
                if np.abs(following - value).max() <= 1e-13 * np.abs(value).max():
                    break
                value = following
            gains.append(gain)
        return np.stack(gains)

    def _draw(self, rng: np.random.Generator) -> tuple[Array, Array]:
        scale = 1.0 / np.sqrt(self.dimension)
        a = rng.standard_normal((self.dimension, self.dimension)) * scale
        return a, rng.standard_normal((self.dimension, self.controls)) * scale


def _total(values: Array) -> Array:
    """Return the sum over the last axis, added in a fixed order."""
    out = values[..., 0]
    for k in range(1, values.shape[-1]):
        out = out + values[..., k]
    return out


def _product(matrix: Array, vector: Array) -> Array:
    """Return `matrix` `(b, 1, d, k)` times `vector` `(b, m, k)`, added in a fixed order."""
    out = matrix[..., 0] * vector[..., :1]
    for k in range(1, vector.shape[-1]):
        out = out + matrix[..., k] * vector[..., k : k + 1]
    return out
