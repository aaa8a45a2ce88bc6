"""Acrobot: swing the tip of two links up, as Gymnasium's Acrobot-v1 computes it.

Reference: Sutton, NIPS 1996.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field
from typing_extensions import override

from p2pfrl.core.rule import rule
from p2pfrl.core.scene import BLUE, DARK, ORANGE, PALE, Disc, Rod, Scene
from p2pfrl.learning.environments.base import Array, Environment, Spec

_TAU = 0.2
_VIEW = 4.4  # m, of a picture
_SPEEDS = (4 * np.pi, 9 * np.pi)


@rule
class Acrobot(Environment):
    """Swing the tip above one link's length by a torque at the joint; reward -1 per step.

    The torque is -1, 0 or 1 N m, and the episode ends when the tip is there. State (angle 1, angle
    2, their speeds), hanging at 0; observation (cos 1, sin 1, cos 2, sin 2, speeds). One step is
    one Runge-Kutta step of 0.2 s of the equations of Sutton and Barto's book. Physics: gravity in
    m/s^2, link masses in kg, the first link's length and the centers of mass in m, the links'
    moment of inertia in kg m^2, the torque in N m.
    """

    max_steps: int = Field(default=500, ge=1)

    @property
    @override
    def spec(self) -> Spec:
        """Six observations, three actions."""
        physics = {
            "gravity": 9.8,
            "link_length_1": 1.0,
            "link_mass_1": 1.0,
            "link_mass_2": 1.0,
            "link_com_pos_1": 0.5,
            "link_com_pos_2": 0.5,
            "link_moi": 1.0,
            "torque": 1.0,
        }
        return Spec(
            observation=6,
            state=4,
            actions=3,
            reset_noise=4,
            max_steps=self.max_steps,
            ranges={
                "gravity": (0.0, 100.0),
                "link_length_1": (0.1, 10.0),
                "link_mass_1": (0.1, 10.0),
                "link_mass_2": (0.1, 10.0),
                "link_com_pos_1": (0.0, 10.0),
                "link_com_pos_2": (0.0, 10.0),
                "link_moi": (0.1, 10.0),
                "torque": (-10.0, 10.0),
            },
            physics=physics,
        )

    @override
    def reset(self, physics: Mapping[str, NDArray[Any]], noise: Array) -> Array:
        """Return states uniform in [-0.1, 0.1], rounded to float32 as Gymnasium does."""
        return (noise * 0.2 - 0.1).astype(np.float32).astype(np.float64)

    @override
    def observe(self, state: Array, physics: Mapping[str, NDArray[Any]]) -> NDArray[np.float32]:
        """Return cosines and sines of the angles, and the speeds."""
        out = np.empty((*state.shape[:-1], 6), dtype=np.float32)
        out[..., 0], out[..., 1] = np.cos(state[..., 0]), np.sin(state[..., 0])
        out[..., 2], out[..., 3] = np.cos(state[..., 1]), np.sin(state[..., 1])
        out[..., 4:] = state[..., 2:]
        return out

    @override
    def scene(self, state: Array) -> Scene:
        """Return both links, as long as by default, and the height that the tip has to pass."""
        first, second = float(state[0]), float(state[0] + state[1])
        joint = (_VIEW / 2 + np.sin(first), _VIEW / 2 - np.cos(first))
        tip = (joint[0] + np.sin(second), joint[1] - np.cos(second))
        return Scene(
            _VIEW,
            _VIEW,
            (
                Rod(((0.0, _VIEW / 2 + 1), (_VIEW, _VIEW / 2 + 1)), 0.03, PALE),
                Rod(((_VIEW / 2, _VIEW / 2), joint), 0.12, BLUE),
                Rod((joint, tip), 0.12, ORANGE),
                Disc(_VIEW / 2, _VIEW / 2, 0.1, DARK),
                Disc(*joint, 0.1, DARK),
            ),
        )

    @override
    def step(
        self, state: Array, action: NDArray[Any], physics: Mapping[str, NDArray[Any]], noise: Array
    ) -> tuple[Array, Array, NDArray[np.bool_], dict[str, Array]]:
        """Apply torque (action - 1) for 0.2 s: one classical Runge-Kutta step of fourth order."""
        torque = (action - 1) * physics["torque"]
        k1 = _derivative(state, torque, physics)
        k2 = _derivative(state + _TAU / 2.0 * k1, torque, physics)
        k3 = _derivative(state + _TAU / 2.0 * k2, torque, physics)
        k4 = _derivative(state + _TAU * k3, torque, physics)
        out = state + _TAU / 6.0 * (k1 + 2 * k2 + 2 * k3 + k4)
        out[..., :2] = _wrap(out[..., :2])
        for axis, speed in enumerate(_SPEEDS, start=2):
            out[..., axis] = np.minimum(np.maximum(out[..., axis], -speed), speed)
        terminated = -np.cos(out[..., 0]) - np.cos(out[..., 1] + out[..., 0]) > 1.0
        return out, np.where(terminated, 0.0, -1.0), terminated, {}


def _wrap(angle: Array) -> Array:
    """Return the angles in [-pi, pi], by repeated subtraction of 2 pi as Gymnasium does."""
    while (outside := angle > np.pi).any():
        angle = np.where(outside, angle - 2 * np.pi, angle)
    while (outside := angle < -np.pi).any():
        angle = np.where(outside, angle + 2 * np.pi, angle)
    return angle


def _derivative(state: Array, torque: Array, physics: Mapping[str, NDArray[Any]]) -> Array:
    """Return d(state)/dt, in Gymnasium's order of operations."""
    m1, m2, g = physics["link_mass_1"], physics["link_mass_2"], physics["gravity"]
    l1, lc1, lc2 = physics["link_length_1"], physics["link_com_pos_1"], physics["link_com_pos_2"]
    moi = physics["link_moi"]
    angle1, angle2, speed1, speed2 = (state[..., k] for k in range(4))
    cos2, sin2 = np.cos(angle2), np.sin(angle2)
    d1 = (
        m1 * np.square(lc1)
        + m2 * (np.square(l1) + np.square(lc2) + 2 * l1 * lc2 * cos2)
        + moi
        + moi
    )
    d2 = m2 * (np.square(lc2) + l1 * lc2 * cos2) + moi
    phi2 = m2 * lc2 * g * np.cos(angle1 + angle2 - np.pi / 2.0)
    phi1 = (
        -m2 * l1 * lc2 * np.square(speed2) * sin2
        - 2 * m2 * l1 * lc2 * speed2 * speed1 * sin2
        + (m1 * lc1 + m2 * l1) * g * np.cos(angle1 - np.pi / 2)
        + phi2
    )
    out = np.empty_like(state)
    out[..., 0], out[..., 1] = speed1, speed2
    out[..., 3] = (torque + d2 / d1 * phi1 - m2 * l1 * lc2 * np.square(speed1) * sin2 - phi2) / (
        m2 * np.square(lc2) + moi - np.square(d2) / d1
    )
    out[..., 2] = -(d2 * out[..., 3] + phi1) / d1
    return out
