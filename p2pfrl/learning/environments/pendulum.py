"""Pendulum: swing up and hold, as Gymnasium's Pendulum-v1 computes it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field
from typing_extensions import override

from p2pfrl.core.rule import rule
from p2pfrl.core.scene import BLUE, DARK, Disc, Rod, Scene
from p2pfrl.learning.environments.base import Array, Environment, Spec

_TAU = 0.05
_VIEW = 2.4  # m, of a picture
_SPEED = 8.0
_TORQUE = 2.0


@rule
class Pendulum(Environment):
    """Swing a pendulum up and hold it; reward -(angle^2 + 0.1 speed^2 + 0.001 torque^2).

    The torque is at most 2 N m, and an episode never ends by itself. State (angle, speed), upright
    at 0; observation (cos, sin, speed). Physics: gravity `g` in m/s^2, mass `m` in kg, length `l`
    in m. As in Gymnasium the torque's part is computed in float32, the rest in float64.
    """

    max_steps: int = Field(default=200, ge=1)

    @property
    @override
    def spec(self) -> Spec:
        """Three observations, one torque in [-2, 2]."""
        return Spec(
            observation=3,
            state=2,
            action_low=(-_TORQUE,),
            action_high=(_TORQUE,),
            reset_noise=2,
            max_steps=self.max_steps,
            ranges={
                "g": (0.0, 1000.0),
                "m": (0.001, 1000.0),
                "l": (0.001, 1000.0),
            },
            physics={"g": 10.0, "m": 1.0, "l": 1.0},
        )

    @override
    def reset(self, physics: Mapping[str, NDArray[Any]], noise: Array) -> Array:
        """Return angles uniform in [-pi, pi] and speeds uniform in [-1, 1]."""
        out = noise * 2.0 - 1.0
        out[..., 0] *= np.pi
        return out

    @override
    def observe(self, state: Array, physics: Mapping[str, NDArray[Any]]) -> NDArray[np.float32]:
        """Return (cos, sin, speed)."""
        out = np.empty((*state.shape[:-1], 3), dtype=np.float32)
        out[..., 0], out[..., 1], out[..., 2] = (
            np.cos(state[..., 0]),
            np.sin(state[..., 0]),
            state[..., 1],
        )
        return out

    @override
    def scene(self, state: Array) -> Scene:
        """Return the pendulum, as long as by default."""
        angle, center = float(state[0]), _VIEW / 2
        tip = (center - np.sin(angle), center + np.cos(angle))
        shapes = (Rod(((center, center), tip), 0.1, BLUE), Disc(center, center, 0.08, DARK))
        return Scene(_VIEW, _VIEW, shapes)

    @override
    def step(
        self, state: Array, action: NDArray[Any], physics: Mapping[str, NDArray[Any]], noise: Array
    ) -> tuple[Array, Array, NDArray[np.bool_], dict[str, Array]]:
        """Apply the torque for 0.05 s: semi-implicit Euler."""
        angle, speed = state[..., 0], state[..., 1]
        torque = np.clip(
            action[..., 0].astype(np.float32), np.float32(-_TORQUE), np.float32(_TORQUE)
        )
        from_upright = ((angle + np.pi) % (2 * np.pi)) - np.pi
        cost = (
            np.square(from_upright) + 0.1 * np.square(speed) + np.float32(0.001) * np.square(torque)
        )
        push = (3.0 / (physics["m"] * np.square(physics["l"]))).astype(np.float32) * torque
        faster = speed + (3 * physics["g"] / (2 * physics["l"]) * np.sin(angle) + push) * _TAU
        out = np.empty_like(state)
        out[..., 1] = np.clip(faster, -_SPEED, _SPEED)
        out[..., 0] = angle + out[..., 1] * _TAU
        return out, -cost, np.zeros(cost.shape, dtype=np.bool_), {}
