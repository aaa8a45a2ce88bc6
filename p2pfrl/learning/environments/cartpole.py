"""CartPole: balance a pole on a cart, as Gymnasium's CartPole-v1 computes it.

Reference: Barto, Sutton, Anderson, 1983.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field
from typing_extensions import override

from p2pfrl.core.rule import rule
from p2pfrl.core.scene import BLUE, DARK, ORANGE, PALE, Box, Disc, Rod, Scene
from p2pfrl.learning.environments.base import Array, Environment, Spec

_ANGLE = 12 * 2 * np.pi / 360
_POSITION = 2.4
_TAU = 0.02
_AXLE = 0.6  # m above the lower end of a picture


@rule
class CartPole(Environment):
    """Balance a pole on a cart; reward 1 per step, at most 500 steps.

    State (x, x', angle, angle'), Euler steps of 0.02 s; ends beyond 2.4 m or 12 degrees. Physics:
    gravity, masses, length and force, in SI units.
    """

    max_steps: int = Field(default=500, ge=1)

    @property
    @override
    def spec(self) -> Spec:
        """Four observations, two actions."""
        physics = {
            "gravity": 9.8,
            "masscart": 1.0,
            "masspole": 0.1,
            "length": 0.5,
            "force_mag": 10.0,
        }
        return Spec(
            observation=4,
            state=4,
            actions=2,
            reset_noise=4,
            max_steps=self.max_steps,
            ranges={
                "gravity": (0.0, 1000.0),
                "masscart": (0.001, 1000.0),
                "masspole": (0.0, 1000.0),
                "length": (0.001, 1000.0),
                "force_mag": (-10000.0, 10000.0),
            },
            physics=physics,
        )

    @override
    def reset(self, physics: Mapping[str, NDArray[Any]], noise: Array) -> Array:
        """Return states uniform in [-0.05, 0.05]."""
        return noise * 0.1 - 0.05

    @override
    def observe(self, state: Array, physics: Mapping[str, NDArray[Any]]) -> NDArray[np.float32]:
        """Return the state."""
        return state.astype(np.float32)

    @override
    def scene(self, state: Array) -> Scene:
        """Return the track between its ends, the cart, and the pole as long as by default."""
        x, angle = _POSITION + float(state[0]), float(state[2])
        top = (x + np.sin(angle), _AXLE + np.cos(angle))
        return Scene(
            2 * _POSITION,
            2.0,
            (
                Rod(((0.0, 0.4), (2 * _POSITION, 0.4)), 0.03, PALE),
                Box(x, 0.5, 0.5, 0.2, DARK),
                Rod(((x, _AXLE), top), 0.08, ORANGE),
                Disc(x, _AXLE, 0.06, BLUE),
            ),
        )

    @override
    def step(
        self, state: Array, action: NDArray[Any], physics: Mapping[str, NDArray[Any]], noise: Array
    ) -> tuple[Array, Array, NDArray[np.bool_], dict[str, Array]]:
        """Push the cart left (0) or right (1)."""
        x, x_dot, theta, theta_dot = state[..., 0], state[..., 1], state[..., 2], state[..., 3]
        masspole, length = physics["masspole"], physics["length"]
        total_mass = masspole + physics["masscart"]
        polemass_length = masspole * length
        force = np.where(action == 1, physics["force_mag"], -physics["force_mag"])
        cos, sin = np.cos(theta), np.sin(theta)
        temp = (force + polemass_length * np.square(theta_dot) * sin) / total_mass
        theta_acc = (physics["gravity"] * sin - cos * temp) / (
            length * (4.0 / 3.0 - masspole * np.square(cos) / total_mass)
        )
        x_acc = temp - polemass_length * theta_acc * cos / total_mass
        out = np.empty_like(state)
        out[..., 0] = x + _TAU * x_dot
        out[..., 1] = x_dot + _TAU * x_acc
        out[..., 2] = theta + _TAU * theta_dot
        out[..., 3] = theta_dot + _TAU * theta_acc
        terminated = (np.abs(out[..., 0]) > _POSITION) | (np.abs(out[..., 2]) > _ANGLE)
        return out, np.ones(terminated.shape), terminated, {}
