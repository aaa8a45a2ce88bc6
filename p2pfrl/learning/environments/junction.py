"""Junction: vehicles cross a junction without signals, each of them an agent, a shared world."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field
from typing_extensions import override

from p2pfrl.core.rule import rule
from p2pfrl.core.scene import BLUE, LIGHT, PALE, RED, Box, Disc, Scene, Shape
from p2pfrl.learning.environments.base import Array, Spec
from p2pfrl.learning.environments.shared import (
    SharedEnvironment,
    by_instance,
    per_member,
    shared_reward,
)

STEP = 0.5
"""Seconds of a step."""
ZONE = 12.0
"""Meters of the conflict zone: a box of 7.5 m and a vehicle of 4.5 m."""
FASTEST = 15.0
"""Meters per second."""
_CHANGES = np.array([-4.0, 0.0, 2.0])  # m/s^2, by action
_BRAKE, _HOLD, _ACCELERATE = range(3)
_SLOWEST = 4.0  # m/s, below which an estimated arrival does not assume
_VIEW = 140.0  # m, of a picture
_FROM = ((0, 1), (1, 0), (0, -1), (-1, 0))  # east, north of the center, by vehicle
_SPARE = 1.0  # m left before the zone by one who yields


@rule
class Junction(SharedEnvironment):
    """Cross a junction: vehicles on k approaches set their accelerations, -4, 0 or +2 m/s^2.

    Vehicle i starts x = 40 to 80 m before the conflict zone at v = 8 to 12 m/s. v' = clip(v + a dt,
    0, 15), x' = x - (v + v') dt / 2, dt = .5 s. The zone is where 0 >= x > -12 m. Two vehicles on
    crossing approaches (i - j odd) that are in it within the same step have crashed. A vehicle that
    has passed or crashed is gone. An episode ends when all are, or after 60 steps.

    A member observes, of itself, x / 40, v / 10, the time to the zone max(x, 0) / max(v, 4) in 8 s,
    and whether it is there; of each other, clockwise, the distance behind itself in 20 m, x / 40, v
    / 10, how much later it comes to the zone in 4 s, and whether it has still to leave the zone.

    Reward per step while there: -time_cost dt - fuel_cost x mL - crash_cost if it crashes, shared
    as `share` says. Fuel in mL/s: .1569 + .0245 v - 7.415e-4 v^2 + 5.975e-5 v^3 + max(a, 0) (.07224
    + .09681 v + .001075 v^2). Physics: brake, engine (factors of decelerations and accelerations),
    time_cost (per s), fuel_cost (per mL), crash_cost. Measures per step: fuel (mL), throughput
    (vehicles per minute that pass the junction); once per vehicle and episode, when it is gone,
    collisions (1 or 0); when it has passed, travel_time (s).

    Baselines: `full_throttle` accelerates. `first_come_first_served` yields to crossing vehicles
    that are due at the zone before it, at max(x, 0) / max(v, 4), the lower number first of equal
    ones: to yield is to accelerate, hold or brake, the first of these after which one can stop
    before the zone.

    Reference: Dresner, Stone, "A multiagent approach to autonomous intersection management",
    Journal of Artificial Intelligence Research 31, 2008, whose policy is the model of the second
    baseline. The formula of fuel is that of Kamal, Mukai, Murata, Kawabe, "Model predictive control
    of vehicles on urban roads for improved fuel economy", IEEE Transactions on Control Systems
    Technology 21(3), 2013, with constants as used here.

    Attributes:
        members: vehicles, one on each approach: north, east, south, west.
        share: own: each vehicle has its own reward; team: the mean of all.
        max_steps: steps of an episode at most.
    """

    members: int = Field(default=4, ge=2, le=4)
    share: Literal["own", "team"] = "team"
    max_steps: int = Field(default=60, ge=1)

    @property
    @override
    def spec(self) -> Spec:
        """Position, speed, whether it is there (-1: crashed) and time of each vehicle."""
        k = self.members
        return Spec(
            observation=4 + 5 * (k - 1),
            state=4 * k,
            actions=len(_CHANGES),
            reset_noise=2 * k,
            max_steps=self.max_steps,
            ranges={
                "brake": (0.01, 100.0),
                "engine": (0.01, 100.0),
                "time_cost": (0.0, 1000000.0),
                "fuel_cost": (0.0, 1000000.0),
                "crash_cost": (0.0, 1000000.0),
            },
            physics={
                "brake": 1.0,
                "engine": 1.0,
                "time_cost": 0.1,
                "fuel_cost": 0.02,
                "crash_cost": 10.0,
            },
            measures=("collisions", "travel_time", "fuel", "throughput"),
            baselines={
                "full_throttle": _full_throttle,
                "first_come_first_served": self._first_come_first_served,
            },
            members=k,
        )

    @override
    def reset(self, physics: Mapping[str, NDArray[Any]], noise: Array) -> Array:
        """Return worlds in which every vehicle drives towards the zone."""
        k = self.members
        x, v = 40.0 + 40.0 * noise[..., :k], 8.0 + 4.0 * noise[..., k:]
        return np.concatenate([x, v, np.ones_like(x), np.zeros_like(x)], axis=-1)

    @override
    def observe(self, world: Array, physics: Mapping[str, NDArray[Any]]) -> NDArray[np.float32]:
        """Return what each vehicle sees of itself and of the others; 0 of those that are gone."""
        k = self.members
        x, v, there, _ = self._parts(world)
        here = (there > 0).astype(np.float64)
        due = _due(x, v)
        out = np.empty((len(world), k, world.shape[1], 4 + 5 * (k - 1)), dtype=np.float32)
        seen = out.swapaxes(1, 2)
        seen[..., 0] = x / 40 * here
        seen[..., 1] = v / 10 * here
        seen[..., 2] = due / 8 * here
        seen[..., 3] = here
        for d in range(1, k):
            other, at = (np.arange(k) + d) % k, 5 * d - 1
            is_here = here[..., other]
            seen[..., at] = (x[..., other] - x) / 20 * is_here
            seen[..., at + 1] = x[..., other] / 40 * is_here
            seen[..., at + 2] = v[..., other] / 10 * is_here
            seen[..., at + 3] = (due[..., other] - due) / 4 * is_here
            seen[..., at + 4] = is_here
        return out

    @override
    def step(
        self,
        world: Array,
        action: NDArray[Any],
        physics: Mapping[str, NDArray[Any]],
        noise: Array,
    ) -> tuple[Array, Array, NDArray[np.bool_], dict[str, Array]]:
        """Drive for a step, then see who has crashed and who has passed."""
        x, v, there, time = self._parts(world)
        here = there > 0
        wanted = _CHANGES[by_instance(action)]
        wanted = wanted * np.where(
            wanted < 0, by_instance(physics["brake"]), by_instance(physics["engine"])
        )
        after = np.where(here, np.clip(v + wanted * STEP, 0.0, FASTEST), 0.0)
        place = np.where(here, x - 0.5 * (v + after) * STEP, x)
        burnt = np.where(here, fuel(v, (after - v) / STEP) * STEP, 0.0)
        inside = here & (place <= 0.0) & (x > -ZONE)
        crashed = inside & _any_crossing(inside)
        passed = here & ~crashed & (place <= -ZONE)
        now = np.where(here, time + STEP, time)
        is_there = np.where(crashed, -1.0, np.where(passed, 0.0, there))
        cost = np.where(here, by_instance(physics["time_cost"]) * STEP, 0.0)
        cost = cost + by_instance(physics["fuel_cost"]) * burnt
        cost = cost + by_instance(physics["crash_cost"]) * crashed
        out = np.concatenate([place, after, is_there, now], axis=-1)
        over = (is_there > 0).sum(axis=-1) == 0
        through = passed.sum(axis=-1, keepdims=True) * (60.0 / STEP)
        measures = {
            "collisions": per_member(np.where(crashed | passed, crashed, np.nan)),
            "travel_time": per_member(np.where(passed, now, np.nan)),
            "fuel": per_member(burnt),
            "throughput": per_member(np.broadcast_to(through, x.shape)),
        }
        return out, shared_reward(self.share, per_member(-cost)), over, measures

    @override
    def scene(self, state: Array) -> Scene:
        """Return the roads, the conflict zone and the vehicles, in meters."""
        x, _, there, time = self._parts(state)
        half, road = _VIEW / 2, ZONE
        shapes: list[Shape] = [
            Box(half, half, road, _VIEW, LIGHT),
            Box(half, half, _VIEW, road, LIGHT),
            Box(half, half, road, road, PALE),
        ]
        for i, (east, north) in enumerate(_FROM[: self.members]):
            if there[i]:
                far = float(x[i]) + ZONE / 2
                color = RED if there[i] < 0 else BLUE
                shapes.append(Disc(half + east * far, half + north * far, 3.5, color, str(i)))
        return Scene(_VIEW, _VIEW, tuple(shapes), f"{float(time.max()):.1f} s")

    def _parts(self, world: Array) -> tuple[Array, Array, Array, Array]:
        """Return views `(G, m, k)`: x, v, whether there, time."""
        k = self.members
        return world[..., :k], world[..., k : 2 * k], world[..., 2 * k : 3 * k], world[..., 3 * k :]

    def _first_come_first_served(
        self, world: Array, physics: Mapping[str, NDArray[Any]], t: NDArray[np.int64]
    ) -> NDArray[np.int64]:
        x, v, there, _ = self._parts(world)
        k, due = self.members, np.where(x <= 0.0, -1.0, _due(x, v))
        yields = np.zeros(x.shape, dtype=np.bool_)
        for i in range(k):
            for j in range(1 - i % 2, k, 2):
                is_first = due[..., j] <= due[..., i] if j < i else due[..., j] < due[..., i]
                yields[..., i] |= is_first & (there[..., j] > 0)
        yields &= x > 0.0
        brake = -_CHANGES[_BRAKE] * by_instance(physics["brake"])
        engine = _CHANGES[_ACCELERATE] * by_instance(physics["engine"])
        faster = np.minimum(v + engine * STEP, FASTEST)
        can_accelerate = x - 0.5 * (v + faster) * STEP > _stopping(faster, brake) + _SPARE
        can_hold = x - v * STEP > _stopping(v, brake) + _SPARE
        slower = np.where(can_hold, _HOLD, _BRAKE)
        chosen = np.where(yields & ~can_accelerate, slower, _ACCELERATE)
        return per_member(chosen.astype(np.int64))


def fuel(speed: Array, acceleration: Array) -> Array:
    """Return the consumption in mL/s at a speed (m/s) and an acceleration (m/s^2)."""
    cruise = 0.1569 + speed * (2.450e-2 + speed * (-7.415e-4 + speed * 5.975e-5))
    more = 0.07224 + speed * (9.681e-2 + speed * 1.075e-3)
    out: Array = cruise + np.maximum(acceleration, 0.0) * more
    return out


def _any_crossing(inside: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Return, for each vehicle, whether any on a crossing approach is inside."""
    out = np.empty_like(inside)
    out[..., 0::2] = inside[..., 1::2].any(axis=-1, keepdims=True)
    out[..., 1::2] = inside[..., 0::2].any(axis=-1, keepdims=True)
    return out


def _due(x: Array, v: Array) -> Array:
    """Return the estimated time to the zone, seconds."""
    out: Array = np.maximum(x, 0.0) / np.maximum(v, _SLOWEST)
    return out


def _stopping(speed: Array, brake: Array) -> Array:
    """Return the meters to a stop, with half a step of braking spare."""
    out: Array = speed * speed / (2 * brake) + 0.5 * speed * STEP
    return out


def _full_throttle(
    world: Array, physics: Mapping[str, NDArray[Any]], t: NDArray[np.int64]
) -> NDArray[np.int64]:
    k = physics["brake"].shape[1]
    return np.full((len(world), k, world.shape[1]), _ACCELERATE)
