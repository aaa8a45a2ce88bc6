"""Fleet: a car on a winding road with slower traffic; lane keeping and lane changing."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field
from typing_extensions import override

from p2pfrl.core.rule import rule
from p2pfrl.learning.environments.base import Array, Environment, Spec

Row = Mapping[str, NDArray[Any]]

STEP = 0.2
"""Seconds of a step."""
WIDTH = 3.5
"""Meters of a lane."""
_BASE, _LENGTH, _SIDE = 2.7, 4.5, 2.0  # wheelbase; a car; side distance at which cars pass
_STEER, _POWER, _BRAKE = 0.05, 2.0, 6.0  # rad, m/s^2, m/s^2 at full action
_GRAVITY = 9.81
_BEND = 300.0  # meters from a bend to the next one of its kind
_FAR = 100.0  # meters that are seen
_PHYSICS = {"curvature": 0.006, "friction": 0.8, "limit": 20.0, "traffic": 12.0}
_RANGES = {
    "curvature": (-0.05, 0.05),
    "friction": (0.01, 10.0),
    "limit": (1.0, 100.0),
    "traffic": (0.1, 1000.0),
}
S, D, PSI, V = range(4)
"""Columns of the state: meters along the road, meters left of the middle of the rightmost lane,
heading against the road (rad), speed. Then the step, and gap (m, from middle to middle) and speed
of the next car in every lane."""


@rule
class Fleet(Environment):
    """Drive fast, in a lane, around slower cars; one car per agent, on its own kind of road.

    A kinematic bicycle in coordinates of the road, per step of .2 s: s' = v cos(psi) / (1 - kappa
    d), d' = v sin(psi), psi' = v k - kappa s', v' = a. The road bends with kappa = curvature sin(2
    pi s / 300 m). Actions are steering and acceleration in [-1, 1]: k = tan(.05 steering) / 2.7 m,
    cut to the tires' friction g / v^2, and a up to 2 m/s^2, braking up to 6 m/s^2 and friction g; v
    stays within [0, 45]. In each lane there is one next car, at 50 to 80% of the limit; behind it
    the next one appears ahead by 20 m and an exponential distance of mean 1000 / traffic m, at most
    300 m. An episode ends with a collision (middles closer than 4.5 m along and 2 m across) or 1.75
    m beyond the middle of an outer lane; it is cut after 150 steps (30 s). It starts in the
    rightmost lane at 80% of the limit.

    Reward per step: .1 (v cos(psi) / limit, at most 1, - 2 x the share above the limit - .5 ((d -
    middle of the nearest lane) / 3.5 m)^2 - .05 (steering^2 + acceleration^2)), and -10 at the end
    that is no cut. Observed are the lane (left free, right free), the offset in it, heading, speed,
    speed / limit, curvature here and 1, 2 s ahead, and gap and closing speed in this lane, to the
    left and to the right. The physics are not. Physics: curvature .006 /m, friction .8, limit 20
    m/s, traffic 12 cars per km and lane; numbers as used here. Measures per step: progress (m/s
    along the road), offset (|m|), changes (of the nearest lane), above_limit (share of time); at
    the end of an episode crashed (0 or 1).

    Baselines: `keep_lane` steers proportionally to offset and heading with the road's curvature
    added, and follows at the distance of the intelligent driver model; `change_lanes` also takes a
    neighboring lane whose next car is further away by 15 m. Both know curvature, friction and
    limit. No optimum is known.

    Reference: the distance is that of Treiber, Hennecke, Helbing, "Congested traffic states in
    empirical observations and microscopic simulations", Physical Review E 62, 2000, arXiv
    cond-mat/0002177.

    Attributes:
        lanes: of the road.
    """

    lanes: int = Field(default=2, ge=1, le=4)
    max_steps: int = Field(default=150, ge=1)

    @property
    @override
    def spec(self) -> Spec:
        """Fifteen observations, two bounded actions."""
        return Spec(
            observation=15,
            state=5 + 2 * self.lanes,
            action_low=(-1.0, -1.0),
            action_high=(1.0, 1.0),
            reset_noise=2 * self.lanes,
            step_noise=2 * self.lanes,
            max_steps=self.max_steps,
            physics=_PHYSICS,
            ranges=_RANGES,
            measures=("progress", "offset", "changes", "above_limit", "crashed"),
            baselines={
                "keep_lane": partial(_drive, self.lanes, False),
                "change_lanes": partial(_drive, self.lanes, True),
            },
        )

    @override
    def reset(self, physics: Row, noise: Array) -> Array:
        """Return a car in the rightmost lane, at 80% of the limit."""
        n = self.lanes
        out = np.zeros((*noise.shape[:-1], 5 + 2 * n))
        out[..., V] = 0.8 * physics["limit"]
        gaps, speeds = _following(noise, physics, n)
        out[..., 5 : 5 + n], out[..., 5 + n :] = gaps, speeds
        return out

    @override
    def observe(self, state: Array, physics: Row) -> NDArray[np.float32]:
        """Return what the docstring of the class says."""
        n = self.lanes
        lane, v = _lane(state, n), state[..., V]
        out = np.empty((*state.shape[:-1], 15), dtype=np.float32)
        out[..., 0], out[..., 1] = lane < n - 1, lane > 0
        out[..., 2] = (state[..., D] - WIDTH * lane) / WIDTH
        out[..., 3] = 5.0 * state[..., PSI]
        out[..., 4] = v / 20.0 - 1.0
        out[..., 5] = 2.0 * (v / physics["limit"] - 1.0)
        for k in range(3):
            out[..., 6 + k] = 100.0 * _bend(state[..., S] + k * v, physics)
        for k, side in enumerate((0, 1, -1)):
            gap, speed = _next(state, lane + side, n)
            out[..., 9 + 2 * k], out[..., 10 + 2 * k] = gap / 50.0 - 1.0, (v - speed) / 10.0
        return out

    @override
    def step(
        self, state: Array, action: NDArray[Any], physics: Row, noise: Array
    ) -> tuple[Array, Array, NDArray[np.bool_], dict[str, Array]]:
        """Drive for .2 s, then move the other cars."""
        n, limit = self.lanes, physics["limit"]
        s, d, psi, v = (state[..., k] for k in range(4))
        steering, pedal = action[..., 0].astype(np.float64), action[..., 1].astype(np.float64)
        grip = physics["friction"] * _GRAVITY
        turn = np.clip(
            np.tan(_STEER * steering) / _BASE, -(most := grip / np.maximum(v, 1.0) ** 2), most
        )
        bend = _bend(s, physics)
        along = v * np.cos(psi) / (1.0 - bend * d)
        pull = np.where(pedal > 0, _POWER * pedal, np.maximum(_BRAKE * pedal, -grip))
        out = np.empty_like(state)
        out[..., S], out[..., D] = s + STEP * along, d + STEP * v * np.sin(psi)
        out[..., PSI] = psi + STEP * (v * turn - bend * along)
        out[..., V] = np.clip(v + STEP * pull, 0.0, 45.0)
        out[..., 4] = state[..., 4] + 1
        lane = _lane(out, n)
        gaps = state[..., 5 : 5 + n] + STEP * (state[..., 5 + n :] - along[..., None])
        beside = np.abs(out[..., D, None] - WIDTH * np.arange(n)) < _SIDE
        hit = _any((np.abs(gaps) < _LENGTH) & beside)
        off = (out[..., D] < -WIDTH / 2) | (out[..., D] > WIDTH * (n - 0.5))
        crashed = hit | off
        fresh, speeds = _following(noise, physics, n)
        is_behind = gaps < -10.0
        out[..., 5 : 5 + n] = np.where(is_behind, fresh, gaps)
        out[..., 5 + n :] = np.where(is_behind, speeds, state[..., 5 + n :])
        offset = out[..., D] - WIDTH * lane
        above = np.maximum(out[..., V] / limit - 1.0, 0.0)
        reward = 0.1 * (
            np.minimum(along / limit, 1.0)
            - 2.0 * above
            - 0.5 * np.square(offset / WIDTH)
            - 0.05 * (np.square(steering) + np.square(pedal))
        )
        is_last = crashed | (out[..., 4] == self.max_steps)
        measures = {
            "progress": along,
            "offset": np.abs(offset),
            "changes": (lane != _lane(state, n)).astype(np.float64),
            "above_limit": (above > 0).astype(np.float64),
            "crashed": np.where(is_last, crashed.astype(np.float64), np.nan),
        }
        return out, reward - 10.0 * crashed, crashed, measures


def _bend(s: Array, physics: Row) -> Array:
    """Return the curvature of the road at s, 1/m."""
    bend: Array = physics["curvature"] * np.sin((2.0 * np.pi / _BEND) * s)
    return bend


def _lane(state: Array, lanes: int) -> Array:
    """Return the number of the nearest lane; 0 is the rightmost."""
    return np.clip(np.rint(state[..., D] / WIDTH), 0.0, lanes - 1.0)


def _next(state: Array, lane: Array, lanes: int) -> tuple[Array, Array]:
    """Return gap, at most 100 m, and speed of the next car in a lane; 0 where there is no lane."""
    gap, speed = np.zeros(lane.shape), np.zeros(lane.shape)
    for number in range(lanes):
        is_there = lane == number
        gap = np.where(is_there, state[..., 5 + number], gap)
        speed = np.where(is_there, state[..., 5 + lanes + number], speed)
    return np.minimum(gap, _FAR), speed


def _following(noise: Array, physics: Row, lanes: int) -> tuple[Array, Array]:
    """Return gaps and speeds of cars that appear, `(b, m, lanes)` each."""
    far = -np.log1p(-noise[..., :lanes]) * (1000.0 / physics["traffic"][..., None])
    speed = physics["limit"][..., None] * (0.5 + 0.3 * noise[..., lanes:])
    return np.minimum(20.0 + far, 300.0), speed


def _any(values: NDArray[np.bool_]) -> NDArray[np.bool_]:
    return np.asarray(values.any(axis=-1))


def _drive(
    lanes: int, may_change: bool, state: Array, physics: Row, t: NDArray[np.int64]
) -> NDArray[np.float32]:
    """Steer to the middle of a lane, and keep speed or distance."""
    lane, v = _lane(state, lanes), state[..., V]
    wanted, (gap, speed) = lane, _next(state, lane, lanes)
    best = gap
    for side in (1, -1) if may_change else ():
        there, other = _next(state, lane + side, lanes)
        takes = (there > best + 15.0) & (there > 12.0)
        wanted, best = np.where(takes, lane + side, wanted), np.where(takes, there, best)
        speed = np.where(
            takes & (np.abs(state[..., D] - WIDTH * (lane + side)) < WIDTH), other, speed
        )
    # Curvature that brings offset and heading to 0, critically damped over the distance driven.
    error, reach = WIDTH * wanted - state[..., D], np.maximum(1.5 * v, 12.0)
    turn = _bend(state[..., S], physics) + error / reach**2 * 2.0 - 2.5 * state[..., PSI] / reach
    steering = np.arctan(turn * _BASE) / _STEER
    sharpest = np.abs(physics["curvature"]) + 1e-9
    fastest = np.minimum(physics["limit"], np.sqrt(0.7 * physics["friction"] * _GRAVITY / sharpest))
    room = np.maximum(gap - _LENGTH, 0.1)
    brake = np.sqrt(_POWER * np.minimum(3.0, 0.5 * physics["friction"] * _GRAVITY))
    keeps = np.maximum(3.0 + v * 1.2 + v * (v - _next(state, lane, lanes)[1]) / (2.0 * brake), 0.0)
    pull = _POWER * (1.0 - (v / fastest) ** 4 - np.square(keeps / room) * (gap < _FAR))
    pedal = np.where(pull > 0, pull / _POWER, pull / _BRAKE)
    both: Array = np.stack([steering, pedal], axis=-1)
    return np.clip(both, -1.0, 1.0).astype(np.float32)
