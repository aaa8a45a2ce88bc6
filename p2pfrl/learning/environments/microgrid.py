"""Microgrid: a home with a battery, solar panels and a tariff."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache, partial
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field
from typing_extensions import override

from p2pfrl.core.rule import rule
from p2pfrl.learning.environments.base import Array, Environment, Spec
from p2pfrl.learning.environments.solving import solved

Row = Mapping[str, Any]

IDLE, FOLLOW, CHARGE, CHARGE_HALF, DISCHARGE = range(5)
_HOURS = np.arange(24)
_SHAPE = (
    0.5
    + 0.6 * np.exp(-np.square((_HOURS - 7.5) / 1.5))
    + 1.6 * np.exp(-np.square((_HOURS - 19.0) / 2.5))
)
_LOAD = _SHAPE / _SHAPE.mean()
_SUN = np.maximum(0.0, np.sin(np.pi * (_HOURS - 6) / 12.0))
_CLOUD = 0.3  # part of the sun that passes clouds
_PEAK_HOURS = 4
_PHYSICS = {
    "capacity": 10.0,
    "power": 3.0,
    "efficiency": 0.95,
    "load": 0.8,
    "solar": 3.0,
    "night": 0.12,
    "day": 0.25,
    "peak": 0.45,
    "sell": 0.06,
    "peak_hour": 18.0,
    "resistance": 0.01,
    "wear": 0.01,
    "noise": 0.3,
    "cloudy": 0.25,
}
_RANGES = {
    "capacity": (0.01, 1000000.0),
    "power": (0.001, 1000000.0),
    "efficiency": (0.01, 1.0),
    "load": (0.0, 1000000.0),
    "solar": (0.0, 1000000.0),
    "night": (-1000.0, 1000.0),
    "day": (-1000.0, 1000.0),
    "peak": (-1000.0, 1000.0),
    "sell": (-1000.0, 1000.0),
    "peak_hour": (0.0, 24.0),
    "resistance": (0.0, 1000.0),
    "wear": (0.0, 1000.0),
    "noise": (0.0, 1.0),
    "cloudy": (0.0, 1.0),
}
_POINTS, _NOISES = 81, 15  # of the stored energy, and of the load's noise, in the optimum


@rule
class Microgrid(Environment):
    """Run a battery hour by hour; reward is the money saved, in EUR, minus the battery's wear.

    Net load n = load LOAD(h) (1 + noise (2 xi - 1)) - solar SUN(h) (.3 if cloudy), in kW. LOAD has
    a peak in the morning and a higher one in the evening, and mean 1; SUN(h) = max(0, sin(pi (h -
    6) / 12)). xi is uniform in each hour, and clouds come or go with probability `cloudy`. The
    battery charges with u = min(a power, (capacity - e) / efficiency) or discharges with d = min(-a
    power, e efficiency): e' = e + efficiency u - d / efficiency. The grid gives g = n + u - d and
    costs price max(g, 0) - sell max(-g, 0) + price resistance g^2. The price is `peak` for four
    hours from `peak_hour`, else `night` before 6, else `day`. The reward is the cost without the
    battery minus that with it minus wear |u - d|. Actions: 0 idle, 1 follow the net load, 2 charge,
    3 charge with half power, 4 discharge. Episodes start at midnight with an empty battery and have
    48 hours.

    Observed are 2 e / capacity - 1, sin and cos of the hour, clouds, n / 2, 4 price - 1 now and in
    the next hour; the physics are not. Physics: capacity 10 kWh, power 3 kW, efficiency .95 each
    way, load .8 kW, solar 3 kW, night .12, day .25, peak .45, sell .06 EUR/kWh, peak_hour 18,
    resistance .01 per kW, wear .01 EUR/kWh, noise .3, cloudy .25; numbers as used here. Measures
    per hour: cost, losses (kWh: of conversion, and resistance g^2), grid, stored, privacy_cost ((g
    - load)^2: a meter that shows a constant tells nothing of the home; Tan, Gomez-Vilardebo,
    Gunduz, IEEE TIFS 12, 2017); at the end of each day peak (largest |g|) and load_factor (mean |g|
    / peak).

    Baselines: `self_consumption` always follows the net load; `tariff` also charges to 60% in the
    night and keeps that for the peak. The optimum is by dynamic programming over hour, clouds and
    stored energy, with 81 points and linear interpolation.
    """

    max_steps: int = Field(default=48, ge=1)

    @property
    @override
    def spec(self) -> Spec:
        """Seven observations, five actions."""
        return Spec(
            observation=7,
            state=7,  # stored, hour, clouds, xi, largest |g| of the day, its sum, step
            actions=5,
            reset_noise=2,
            step_noise=2,
            max_steps=self.max_steps,
            physics=_PHYSICS,
            ranges=_RANGES,
            measures=(
                *("cost", "losses", "grid", "stored", "privacy_cost", "peak", "load_factor"),
            ),
            baselines={"self_consumption": _self_consumption, "tariff": _tariff},
        )

    @override
    def optimum(self, physics: Row) -> Array | None:
        """Return the value of the start by dynamic programming."""
        return solved(physics, tuple(_PHYSICS), partial(_best, self.max_steps))

    @override
    def reset(self, physics: Row, noise: Array) -> Array:
        """Return an empty battery at midnight."""
        out = np.zeros((*noise.shape[:-1], 7))
        out[..., 2] = noise[..., 0] < 0.5
        out[..., 3] = noise[..., 1]
        return out

    @override
    def observe(self, state: Array, physics: Row) -> NDArray[np.float32]:
        """Return what the docstring of the class says."""
        stored, hour, cloud, xi = (state[..., k] for k in range(4))
        out = np.empty((*stored.shape, 7), dtype=np.float32)
        out[..., 0] = 2.0 * stored / physics["capacity"] - 1.0
        out[..., 1] = np.sin(2.0 * np.pi * hour / 24.0)
        out[..., 2] = np.cos(2.0 * np.pi * hour / 24.0)
        out[..., 3] = cloud
        out[..., 4] = net_load(hour, cloud, xi, physics) / 2.0
        out[..., 5] = price(hour, physics) * 4.0 - 1.0
        out[..., 6] = price((hour + 1) % 24, physics) * 4.0 - 1.0
        return out

    @override
    def step(
        self, state: Array, action: NDArray[Any], physics: Row, noise: Array
    ) -> tuple[Array, Array, NDArray[np.bool_], dict[str, Array]]:
        """Charge or discharge for an hour."""
        stored, hour, cloud, xi = (state[..., k] for k in range(4))
        net, now = net_load(hour, cloud, xi, physics), price(hour, physics)
        after, power = battery(stored, _wanted(action, net, physics), physics)
        grid = net + power
        cost = _bill(grid, now, physics)
        peak, total = np.maximum(state[..., 4], np.abs(grid)), state[..., 5] + np.abs(grid)
        is_midnight = hour == 23
        out = np.empty_like(state)
        out[..., 0], out[..., 1] = after, (hour + 1) % 24
        out[..., 2] = np.where(noise[..., 0] < physics["cloudy"], 1.0 - cloud, cloud)
        out[..., 3] = noise[..., 1]
        out[..., 4], out[..., 5] = (
            np.where(is_midnight, 0.0, peak),
            np.where(is_midnight, 0.0, total),
        )
        out[..., 6] = state[..., 6] + 1
        measures = {
            "cost": cost,
            "losses": power - (after - stored) + physics["resistance"] * np.square(grid),
            "grid": grid,
            "stored": after,
            "privacy_cost": np.square(grid - physics["load"]),
            "peak": np.where(is_midnight, peak, np.nan),
            "load_factor": np.where(is_midnight, total / 24.0 / np.maximum(peak, 1e-9), np.nan),
        }
        reward = _bill(net, now, physics) - cost - physics["wear"] * np.abs(power)
        return out, reward, np.zeros(reward.shape, dtype=np.bool_), measures


def price(hour: Array, physics: Row) -> Array:
    """Return the price of the hour, EUR/kWh."""
    is_peak = (hour >= physics["peak_hour"]) & (hour < physics["peak_hour"] + _PEAK_HOURS)
    return np.where(is_peak, physics["peak"], np.where(hour < 6, physics["night"], physics["day"]))


def net_load(hour: Array, cloud: Array, xi: Array, physics: Row) -> Array:
    """Return load minus sun, kW."""
    at = np.asarray(hour).astype(np.intp) % 24
    load: Array = physics["load"] * _LOAD[at] * (1.0 + physics["noise"] * (2.0 * xi - 1.0))
    sun: Array = physics["solar"] * _SUN[at] * np.where(cloud > 0, _CLOUD, 1.0)
    return load - sun


def battery(stored: Array, part: Array, physics: Row) -> tuple[Array, Array]:
    """Return the energy after an hour at `part` of full power, and the power that flowed, kW."""
    efficiency, wanted = physics["efficiency"], part * physics["power"]
    up = np.minimum(np.maximum(wanted, 0.0), (physics["capacity"] - stored) / efficiency)
    down = np.minimum(np.maximum(-wanted, 0.0), stored * efficiency)
    after: Array = np.clip(stored + efficiency * up - down / efficiency, 0.0, physics["capacity"])
    return after, up - down


def _bill(grid: Array, now: Array, physics: Row) -> Array:
    """Return the cost of an hour, EUR."""
    lost = physics["resistance"] * np.square(grid)
    cost: Array = now * (np.maximum(grid, 0.0) + lost) - physics["sell"] * np.maximum(-grid, 0.0)
    return cost


def _wanted(action: NDArray[Any], net: Array, physics: Row) -> Array:
    """Return the part of full power that an action asks for; positive charges."""
    follow: Array = np.clip(-net / physics["power"], -1.0, 1.0)
    fixed: Array = np.array([0.0, 0.0, 1.0, 0.5, -1.0])[action]
    return np.where(action == FOLLOW, follow, fixed)


def _self_consumption(state: Array, physics: Row, t: NDArray[np.int64]) -> NDArray[np.int64]:
    return np.full(state.shape[:2], FOLLOW)


def _tariff(state: Array, physics: Row, t: NDArray[np.int64]) -> NDArray[np.int64]:
    stored, hour, cloud, xi = (state[..., k] for k in range(4))
    now, net = price(hour, physics), net_load(hour, cloud, xi, physics)
    keeps = (now < physics["peak"]) & (net > 0)
    charges = (now < physics["day"]) & (stored < 0.6 * physics["capacity"])
    return np.where(charges, CHARGE, np.where(keeps, IDLE, FOLLOW))


@lru_cache(maxsize=256)
def _best(steps: int, values: tuple[float, ...]) -> float:
    """Return the value of the start: the mean over clouds of V_0(clouds, e = 0)."""
    row = dict(zip(_PHYSICS, map(np.float64, values), strict=True))
    energies = np.linspace(0.0, values[0], _POINTS)
    xi = (np.arange(_NOISES) + 0.5) / _NOISES
    value = np.zeros((2, _POINTS))
    for t in range(steps - 1, -1, -1):
        hour = np.float64(t % 24)
        now, following = price(np.asarray(hour), row), value
        value = np.empty_like(following)
        for cloud in range(2):
            net = net_load(np.asarray(hour), np.asarray(cloud), xi, row)[:, None]
            ahead = following[cloud] * (1.0 - row["cloudy"]) + following[1 - cloud] * row["cloudy"]
            best = np.full((_NOISES, _POINTS), -np.inf)
            for action in range(5):
                after, power = battery(energies, _wanted(np.array(action), net, row), row)
                earned = _bill(net, now, row) - _bill(net + power, now, row)
                earned = earned - row["wear"] * np.abs(power)
                best = np.maximum(best, earned + np.interp(after, energies, ahead))
            value[cloud] = best.mean(axis=0)
    return float(value[:, 0].mean())
