"""Portfolio: one risky asset and cash, two observed regimes, proportional costs."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache, partial
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field
from scipy.special import ndtri
from typing_extensions import override

from p2pfrl.core.rule import rule
from p2pfrl.learning.environments.base import Array, Environment, Spec
from p2pfrl.learning.environments.solving import solved

Row = Mapping[str, NDArray[Any]]

WEIGHTS = np.linspace(0.0, 1.0, 6)
KEEP = len(WEIGHTS)
"""The last action: no trade."""
_PHYSICS = {
    "up": 0.008,
    "down": -0.012,
    "calm": 0.12,
    "rough": 0.16,
    "leave_up": 0.05,
    "leave_down": 0.15,
    "cash": 0.002,
    "cost": 0.005,
}
_RANGES = {
    "up": (-1.0, 1.0),
    "down": (-1.0, 1.0),
    "calm": (0.0, 2.0),
    "rough": (0.0, 2.0),
    "leave_up": (0.0, 1.0),
    "leave_down": (0.0, 1.0),
    "cash": (-1.0, 1.0),
    "cost": (0.0, 0.99),
}
_POINTS, _NODES = 101, 41  # of the weight, and of the asset's return, in the optimum


@rule
class Portfolio(Environment):
    """Choose the weight of a risky asset each month; reward is the log growth of wealth in percent.

    The asset's log return is normal, with mean `up` and deviation `calm` in one regime, `down` and
    `rough` in the other; regimes are left with probability `leave_up` and `leave_down` per month.
    Cash grows by e^cash. Actions 0 to 5 buy or sell to weight 0, .2, ..., 1, action 6 does not
    trade; trading from weight w to w* costs the share `cost` |w* - w| of wealth. Then the weight
    drifts with prices: w <- w e^r / (w e^r + (1 - w) e^cash). The reward is 100 (log(w e^r + (1 -
    w) e^cash) + log(1 - cost |w* - w|)). Episodes are 60 months and start with cash, in the second
    regime with probability 1/4.

    Observed are the regime, the weight and the cost. Physics: up .008, down -.012, calm .12, rough
    .16, leave_up .05, leave_down .15, cash .002, cost .005; numbers as used here. Measures per
    month: growth, turnover, weight, drawdown (log wealth below its maximum).

    Baselines: `hold` buys .6 and never trades again, `rebalance` trades back to .6 every month,
    `switch` has weight 1 in the first regime and 0 in the second. The optimum is by dynamic
    programming over month, regime and weight, with 101 points and linear interpolation.

    Reference: Kelly, "A new interpretation of information rate", Bell System Technical Journal 35,
    1956; Merton, "Lifetime portfolio selection under uncertainty", Review of Economics and
    Statistics 51, 1969.
    """

    max_steps: int = Field(default=60, ge=1)

    @property
    @override
    def spec(self) -> Spec:
        """Three observations, seven actions."""
        return Spec(
            observation=3,
            state=3,  # regime (1: the second), weight, log wealth below its maximum
            actions=KEEP + 1,
            reset_noise=1,
            step_noise=2,
            max_steps=self.max_steps,
            physics=_PHYSICS,
            ranges=_RANGES,
            measures=("growth", "turnover", "weight", "drawdown"),
            baselines={"hold": _hold, "rebalance": _rebalance, "switch": _switch},
        )

    @override
    def optimum(self, physics: Row) -> Array | None:
        """Return the value of the start by dynamic programming."""
        return solved(physics, tuple(_PHYSICS), partial(_best, self.max_steps))

    @override
    def reset(self, physics: Row, noise: Array) -> Array:
        """Return cash, and a regime."""
        out = np.zeros((*noise.shape[:-1], 3))
        out[..., 0] = noise[..., 0] < 0.25
        return out

    @override
    def observe(self, state: Array, physics: Row) -> NDArray[np.float32]:
        """Return regime and weight in [-1, 1], and 100 cost."""
        out = np.empty((*state.shape[:-1], 3), dtype=np.float32)
        out[..., :2] = 2.0 * state[..., :2] - 1.0
        out[..., 2] = 100.0 * physics["cost"]
        return out

    @override
    def step(
        self, state: Array, action: NDArray[Any], physics: Row, noise: Array
    ) -> tuple[Array, Array, NDArray[np.bool_], dict[str, Array]]:
        """Trade, then let prices and the regime move."""
        p, is_second, before = physics, state[..., 0] > 0, state[..., 1]
        weight = np.where(action == KEEP, before, WEIGHTS[np.minimum(action, KEEP - 1)])
        turnover = np.abs(weight - before)
        z = ndtri(np.clip(noise[..., 0], 1e-12, 1.0 - 1e-12))
        asset = np.exp(np.where(is_second, p["down"] + p["rough"] * z, p["up"] + p["calm"] * z))
        wealth = weight * asset + (1.0 - weight) * np.exp(p["cash"])
        growth = np.log(wealth) + np.log1p(-p["cost"] * turnover)
        leaves = noise[..., 1] < np.where(is_second, p["leave_down"], p["leave_up"])
        below = np.minimum(state[..., 2] + growth, 0.0)
        out = np.stack([is_second ^ leaves, weight * asset / wealth, below], axis=-1)
        measures = {
            "growth": 100.0 * growth,
            "turnover": turnover,
            "weight": weight,
            "drawdown": -below,
        }
        return out, 100.0 * growth, np.zeros(growth.shape, dtype=np.bool_), measures


def _hold(state: Array, physics: Row, t: NDArray[np.int64]) -> NDArray[np.int64]:
    return np.where(t == 0, 3, KEEP)


def _rebalance(state: Array, physics: Row, t: NDArray[np.int64]) -> NDArray[np.int64]:
    return np.full(state.shape[:2], 3)


def _switch(state: Array, physics: Row, t: NDArray[np.int64]) -> NDArray[np.int64]:
    return np.where(state[..., 0] > 0, 0, KEEP - 1)


@lru_cache(maxsize=256)
def _best(steps: int, values: tuple[float, ...]) -> float:
    """Return the value of the start: 3/4 V_0(first, w = 0) + 1/4 V_0(second, w = 0)."""
    p = dict(zip(_PHYSICS, values, strict=True))
    weights = np.linspace(0.0, 1.0, _POINTS)
    nodes, chances = np.polynomial.hermite_e.hermegauss(_NODES)
    chances = chances / chances.sum()
    regimes = ((p["up"], p["calm"], p["leave_up"]), (p["down"], p["rough"], p["leave_down"]))
    # Only the weight after a trade matters for what follows, so a trade is a choice of a column.
    earned, after = [], []
    for mean, deviation, _ in regimes:
        asset = np.exp(mean + deviation * nodes)
        wealth = weights[:, None] * asset + (1.0 - weights[:, None]) * np.exp(p["cash"])
        earned.append(100.0 * (np.log(wealth) * chances).sum(axis=1))
        after.append(weights[:, None] * asset / wealth)
    targets = np.searchsorted(weights, WEIGHTS - 1e-9)
    fees = 100.0 * np.log1p(-p["cost"] * np.abs(weights[targets] - weights[:, None]))
    value = np.zeros((2, _POINTS))
    for _ in range(steps):
        following, value = value, np.empty_like(value)
        for regime, (_, _, leave) in enumerate(regimes):
            ahead = (1.0 - leave) * following[regime] + leave * following[1 - regime]
            kept = earned[regime] + np.interp(after[regime], weights, ahead) @ chances
            value[regime] = np.maximum(kept, (fees + kept[targets]).max(axis=1))
    return float(0.75 * value[0, 0] + 0.25 * value[1, 0])
