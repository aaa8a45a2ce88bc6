"""MountainCar: rock a weak car out of a valley, as Gymnasium's two versions compute it.

Reference: Moore, 1990.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field
from typing_extensions import override

from p2pfrl.core.rule import rule
from p2pfrl.core.scene import BLUE, DARK, GREEN, Disc, Rod, Scene
from p2pfrl.learning.environments.base import Array, Environment, Spec

_LEFT, _RIGHT = -1.2, 0.6
_SPEED = 0.07


@rule
class MountainCar(Environment):
    """Drive left, coast or drive right until the car is on the hill; reward -1 per step.

    An episode has at most 200 steps. State (position, velocity). Physics, in Gymnasium's units per
    step: force, gravity, and the goal's position and least velocity.
    """

    max_steps: int = Field(default=200, ge=1)

    @property
    @override
    def spec(self) -> Spec:
        """Two observations, three actions."""
        physics = {"force": 0.001, "gravity": 0.0025, "goal_position": 0.5, "goal_velocity": 0.0}
        return Spec(
            observation=2,
            state=2,
            actions=3,
            reset_noise=1,
            max_steps=self.max_steps,
            ranges={
                "force": (-1.0, 1.0),
                "gravity": (0.0, 1.0),
                "goal_position": (_LEFT, _RIGHT),
                "goal_velocity": (-_SPEED, _SPEED),
            },
            physics=physics,
        )

    @override
    def reset(self, physics: Mapping[str, NDArray[Any]], noise: Array) -> Array:
        """Return cars at rest, uniform in [-0.6, -0.4]."""
        out = np.zeros((*noise.shape[:-1], 2))
        out[..., 0] = -0.6 + noise[..., 0] * 0.2
        return out

    @override
    def observe(self, state: Array, physics: Mapping[str, NDArray[Any]]) -> NDArray[np.float32]:
        """Return the state."""
        return state.astype(np.float32)

    @override
    def scene(self, state: Array) -> Scene:
        """Return the valley, the car, and a post where the goal is by default."""
        return _valley(float(state[0]), self.spec.physics["goal_position"])

    @override
    def step(
        self, state: Array, action: NDArray[Any], physics: Mapping[str, NDArray[Any]], noise: Array
    ) -> tuple[Array, Array, NDArray[np.bool_], dict[str, Array]]:
        """Accelerate by (action - 1) force - gravity cos(3 position)."""
        push = (action - 1) * physics["force"] + np.cos(3 * state[..., 0]) * -physics["gravity"]
        velocity = np.clip(state[..., 1] + push, -_SPEED, _SPEED)
        position = np.clip(state[..., 0] + velocity, _LEFT, _RIGHT)
        velocity = np.where((position == _LEFT) & (velocity < 0), 0.0, velocity)
        terminated = (position >= physics["goal_position"]) & (velocity >= physics["goal_velocity"])
        return (
            np.stack((position, velocity), axis=-1),
            np.full(terminated.shape, -1.0),
            terminated,
            {},
        )


@rule
class MountainCarContinuous(Environment):
    """Drive with a force in [-1, 1] until the car is on the hill; reward 100 there.

    Every step costs 0.1 force^2, and an episode has at most 999 steps. State (position, velocity),
    float32 arithmetic as in Gymnasium. Physics: power, gravity, and the goal's position and least
    velocity.
    """

    max_steps: int = Field(default=999, ge=1)

    @property
    @override
    def spec(self) -> Spec:
        """Two observations, one force in [-1, 1]."""
        return Spec(
            observation=2,
            state=2,
            action_low=(-1.0,),
            action_high=(1.0,),
            reset_noise=1,
            max_steps=self.max_steps,
            ranges={
                "power": (-1.0, 1.0),
                "gravity": (0.0, 1.0),
                "goal_position": (_LEFT, _RIGHT),
                "goal_velocity": (-_SPEED, _SPEED),
            },
            physics={
                "power": 0.0015,
                "gravity": 0.0025,
                "goal_position": 0.45,
                "goal_velocity": 0.0,
            },
        )

    @override
    def reset(self, physics: Mapping[str, NDArray[Any]], noise: Array) -> Array:
        """Return cars at rest, uniform in [-0.6, -0.4], in float32.

        Gymnasium rounds from the first step on.
        """
        out = np.zeros((*noise.shape[:-1], 2))
        out[..., 0] = (-0.6 + noise[..., 0] * 0.2).astype(np.float32)
        return out

    @override
    def observe(self, state: Array, physics: Mapping[str, NDArray[Any]]) -> NDArray[np.float32]:
        """Return the state."""
        return state.astype(np.float32)

    @override
    def scene(self, state: Array) -> Scene:
        """Return the valley, the car, and a post where the goal is by default."""
        return _valley(float(state[0]), self.spec.physics["goal_position"])

    @override
    def step(
        self, state: Array, action: NDArray[Any], physics: Mapping[str, NDArray[Any]], noise: Array
    ) -> tuple[Array, Array, NDArray[np.bool_], dict[str, Array]]:
        """Accelerate by power force - gravity cos(3 position)."""
        position, velocity = state[..., 0].astype(np.float32), state[..., 1].astype(np.float32)
        asked = action[..., 0].astype(np.float32)
        force = np.clip(asked, np.float32(-1.0), np.float32(1.0))
        slope = (physics["gravity"] * np.cos((np.float32(3) * position).astype(np.float64))).astype(
            np.float32
        )
        velocity = velocity + (force * physics["power"].astype(np.float32) - slope)
        velocity = np.clip(velocity, np.float32(-_SPEED), np.float32(_SPEED))
        position = np.clip(position + velocity, np.float32(_LEFT), np.float32(_RIGHT))
        velocity = np.where(
            (position == np.float32(_LEFT)) & (velocity < 0), np.float32(0), velocity
        )
        out = np.stack((position, velocity), axis=-1).astype(np.float64)
        terminated = (position >= physics["goal_position"].astype(np.float32)) & (
            velocity >= physics["goal_velocity"].astype(np.float32)
        )
        reward = np.where(terminated, 100.0, 0.0) - np.square(asked.astype(np.float64)) * 0.1
        return out, reward, terminated, {}


def _valley(position: float, goal: float) -> Scene:
    """Return the scene with height (1 + sin(3 position)) / 2, as Gymnasium draws it."""
    ways = np.linspace(_LEFT, _RIGHT, 40)
    ground = [(float(x - _LEFT), float(_height(x))) for x in ways]
    x, y = goal - _LEFT, _height(goal)
    shapes = [Rod(ends, 0.02, DARK) for ends in pairwise(ground)]
    shapes.append(Rod(((x, y), (x, y + 0.2)), 0.03, GREEN))
    car = Disc(position - _LEFT, _height(position) + 0.06, 0.06, BLUE)
    return Scene(_RIGHT - _LEFT, 1.4, (*shapes, car))


def _height(position: float) -> float:
    return 0.1 + (1 + float(np.sin(3 * position))) / 2
