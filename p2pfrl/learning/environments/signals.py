"""Signals: one signalized intersection with point queues and random arrivals."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache, partial
from math import exp, factorial
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field
from typing_extensions import override

from p2pfrl.core.rule import rule
from p2pfrl.learning.environments.base import Array, Baseline, Environment, Spec
from p2pfrl.learning.environments.solving import solved

Row = Mapping[str, NDArray[Any]]

STEP = 4.0
"""Seconds of a step. A change of the stage (yellow, then red for all) takes one step."""
SATURATION = 2.0
"""Vehicles that a green lane serves per step: 1800 per hour."""
ROOM = 30.0
"""Vehicles that a lane holds; those that find it full are turned away and counted."""
_MOST = 9  # arrivals per lane and step; more than 9 count as 9
_PHYSICS = {"demand": 1000.0, "share": 0.5, "left": 0.25, "wave": 0.0}
_RANGES = {
    "demand": (0.0, 100000.0),
    "share": (0.0, 1.0),
    "left": (0.0, 1.0),
    "wave": (-1.0, 1.0),
}
_IDLE, _START = 2.0e-4, 0.008  # liters: per second of a waiting vehicle, per stop and start


@rule
class Signals(Environment):
    """Choose the green stage of an intersection; reward -0.1 x queued vehicles, per step of 4 s.

    Lane l has a queue q_l of 0 to 30 vehicles. If the action is another stage than the green one,
    the stage changes and nobody is served in this step; the next step cannot change it again.
    Otherwise min(q_l, 2) vehicles leave every green lane. Then a Poisson number of vehicles arrives
    per lane, at most 9. Episodes last 15 minutes and start with 0 to 3 vehicles per lane. With two
    lanes, north-south and east-west, there are two stages. With eight, each of four approaches has
    a lane straight on and one to the left: stages are straight and left, north-south and east-west.
    Observed are sqrt(q) / 3, the stage, and whether it has just changed.

    Physics: demand (vehicles per hour, all lanes), share (of it that comes north-south), left
    (share of an approach that turns left, eight lanes), wave (north-south demand x (1 + wave sin(2
    pi t / T)), east-west x (1 - the same)). Measures per step: queue, served, arrived, blocked
    (found the lane full), stops (joined a lane that was not green and empty), fuel (liters, 2e-4
    per second of waiting and .008 per stop, as used here), switches; at the end of an episode
    delay, seconds per vehicle: 4 s x queue / served (Little).

    Baselines: `webster` has fixed times, cycle C = (1.5 L + 5) / (1 - Y) with L = 4 s per stage
    lost, Y the sum of the stages' flow ratios, and greens in proportion to these. `max_pressure`
    serves the stage with the longest queues, if it is ahead of the green one by more than a step
    serves. The optimum, of two lanes, is by dynamic programming over queues, stage and step. It
    knows the step, which agents do not observe.

    Reference: Webster, "Traffic signal settings", Road Research Technical Paper 39, 1958; Varaiya,
    "Max pressure control of a network of signalized intersections", Transportation Research Part C
    36, 2013.

    Attributes:
        lanes: 2 or 8.
    """

    lanes: Literal[2, 8] = 2
    max_steps: int = Field(default=225, ge=1)

    @property
    @override
    def spec(self) -> Spec:
        """Queues and stage are observed; an action per stage."""
        stages = len(_stages(self.lanes))
        policies: dict[str, Baseline] = {
            "webster": partial(_webster, self.lanes),
            "max_pressure": partial(_max_pressure, self.lanes),
        }
        return Spec(
            observation=self.lanes + stages + 1,
            state=self.lanes + 5,  # queues, stage, changed, step, sums of queue and served
            actions=stages,
            reset_noise=self.lanes,
            step_noise=self.lanes,
            max_steps=self.max_steps,
            physics=_PHYSICS,
            ranges=_RANGES,
            measures=(
                "queue",
                "served",
                "arrived",
                "blocked",
                "stops",
                "fuel",
                "switches",
                "delay",
            ),
            baselines=policies,
        )

    @override
    def optimum(self, physics: Row) -> Array | None:
        """Return the value of the start by dynamic programming; None for eight lanes."""
        if self.lanes != 2:
            return None
        return solved(physics, ("demand", "share", "wave"), partial(_best, self.max_steps))

    @override
    def reset(self, physics: Row, noise: Array) -> Array:
        """Return queues of 0 to 3 vehicles, stage 0 green."""
        out = np.zeros((*noise.shape[:-1], self.lanes + 5))
        out[..., : self.lanes] = np.floor(4.0 * noise)
        return out

    @override
    def observe(self, state: Array, physics: Row) -> NDArray[np.float32]:
        """Return sqrt(q) / 3, the stage one-hot, and whether it has just changed."""
        n, stages = self.lanes, len(_stages(self.lanes))
        out = np.empty((*state.shape[:-1], n + stages + 1), dtype=np.float32)
        out[..., :n] = np.sqrt(state[..., :n]) / 3.0
        out[..., n : n + stages] = state[..., n, None] == np.arange(stages)
        out[..., n + stages] = state[..., n + 1]
        return out

    @override
    def step(
        self, state: Array, action: NDArray[Any], physics: Row, noise: Array
    ) -> tuple[Array, Array, NDArray[np.bool_], dict[str, Array]]:
        """Change the stage or serve, then let vehicles arrive."""
        n = self.lanes
        queue, stage, changed, time = (
            state[..., :n],
            state[..., n],
            state[..., n + 1],
            state[..., n + 2],
        )
        changes = (changed == 0) & (action != stage)
        stage = np.where(changes, action, stage)
        green = _stages(n)[stage.astype(np.intp)] & ~changes[..., None]
        served = np.where(green, np.minimum(queue, SATURATION), 0.0)
        came = poisson(rates(n, time / self.max_steps, physics), noise)
        left = queue - served
        joined = np.minimum(came, ROOM - left)
        total, through = _sum(left + joined), _sum(served)
        stops = _sum(np.where(green & (left == 0), 0.0, joined))
        out = np.empty_like(state)
        out[..., :n], out[..., n], out[..., n + 1] = left + joined, stage, changes
        out[..., n + 2] = time + 1
        out[..., n + 3], out[..., n + 4] = state[..., n + 3] + total, state[..., n + 4] + through
        delay = STEP * out[..., n + 3] / np.maximum(out[..., n + 4], 1.0)
        measures = {
            "queue": total,
            "served": through,
            "arrived": _sum(came),
            "blocked": _sum(came - joined),
            "stops": stops,
            "fuel": _IDLE * STEP * total + _START * stops,
            "switches": changes.astype(np.float64),
            "delay": np.where(out[..., n + 2] == self.max_steps, delay, np.nan),
        }
        return out, -0.1 * total, np.zeros(total.shape, dtype=np.bool_), measures


@lru_cache(maxsize=2)
def _stages(lanes: int) -> NDArray[np.bool_]:
    """Return which lanes each stage serves, `(stages, lanes)`.

    Eight lanes are straight on from north, south, east, west, then left from them.
    """
    if lanes == 2:
        return np.eye(2, dtype=np.bool_)
    return np.repeat(np.eye(4, dtype=np.bool_)[[0, 2, 1, 3]], 2, axis=1)


def rates(lanes: int, time: Array | float, physics: Row) -> Array:
    """Return the mean arrivals per step of every lane, `(..., lanes)`; `time` is 0 to 1."""
    total = physics["demand"] * (STEP / 3600.0)
    wave = physics["wave"] * np.sin(2.0 * np.pi * np.asarray(time))
    ways = (
        total * physics["share"] * (1.0 + wave),
        total * (1.0 - physics["share"]) * (1.0 - wave),
    )
    if lanes == 2:
        return np.stack(ways, axis=-1)
    straight, left = (1.0 - physics["left"]) / 2.0, physics["left"] / 2.0
    return np.stack(
        [way * part for part in (straight, left) for way in ways for _ in "ab"], axis=-1
    )


def poisson(mean: Array, noise: Array) -> Array:
    """Return Poisson numbers, at most 9: how many of P(0), P(0) + P(1), ... are below the noise."""
    chance = np.exp(-mean)
    below, out = chance, (noise > chance).astype(np.float64)
    for k in range(1, _MOST):
        chance = chance * mean / k
        below = below + chance
        out += noise > below
    return out


def _sum(values: Array) -> Array:
    """Return the sum over lanes, added in order."""
    out: Array = values[..., 0]
    for lane in range(1, values.shape[-1]):
        out = out + values[..., lane]
    return out


def _flow_ratios(lanes: int, physics: Row) -> Array:
    """Return, per stage, the largest arrivals over served vehicles, `(..., stages)`."""
    mean = rates(lanes, 0.0, {**physics, "wave": 0.0 * physics["wave"]})
    return np.stack(
        [mean[..., lanes_].max(axis=-1) / SATURATION for lanes_ in _stages(lanes)], axis=-1
    )


def greens(lanes: int, physics: Row) -> Array:
    """Return Webster's steps of green of every stage, `(..., stages)`, at least 1."""
    ratio = _flow_ratios(lanes, physics)
    total, lost = np.minimum(_sum(ratio), 0.95), STEP * ratio.shape[-1]
    cycle = (1.5 * lost + 5.0) / (1.0 - total)
    share = ratio / np.maximum(_sum(ratio), 1e-9)[..., None]
    found: Array = np.maximum(np.round((cycle - lost)[..., None] * share / STEP), 1.0)
    return found


def _webster(lanes: int, state: Array, physics: Row, t: NDArray[np.int64]) -> NDArray[np.int64]:
    ends = np.cumsum(greens(lanes, physics) + 1.0, axis=-1)  # a step for the change
    place = np.mod(t + 1, ends[..., -1])[..., None]  # the first stage is green at the start
    return np.asarray((place >= ends).sum(axis=-1))


def _max_pressure(lanes: int, state: Array, physics: Row, t: NDArray[np.int64]) -> NDArray[np.intp]:
    pressure = np.stack([_sum(state[..., :lanes][..., at]) for at in _stages(lanes)], axis=-1)
    now = state[..., lanes].astype(np.intp)
    own = np.take_along_axis(pressure, now[..., None], axis=-1)[..., 0]
    return np.where(pressure.max(axis=-1) > own + SATURATION, pressure.argmax(axis=-1), now)


@lru_cache(maxsize=256)
def _best(steps: int, physics: tuple[float, ...]) -> float:
    """Return the value of the start: V_t(stage, changed, q1, q2) backward from V_T = 0."""
    demand, share, wave = physics
    row = {name: np.array(value) for name, value in _PHYSICS.items()}
    row |= {"demand": np.array(demand), "share": np.array(share), "wave": np.array(wave)}
    places = np.arange(int(ROOM) + 1)
    cost = -0.1 * (places[:, None] + places)
    served = np.maximum(places - int(SATURATION), 0)
    value = np.zeros((2, 2, len(places), len(places)))
    moves = [_arrivals(mean) for mean in rates(2, 0.0, row)]
    for t in range(steps - 1, -1, -1):
        if wave:
            moves = [_arrivals(mean) for mean in rates(2, t / steps, row)]
        ahead = np.matmul(moves[0], np.matmul(cost + value, moves[1].T))  # by queues after service
        value = np.empty_like(value)
        for stage in range(2):
            stays = ahead[stage, 0][served] if stage == 0 else ahead[stage, 0][:, served]
            value[stage, 1] = stays
            value[stage, 0] = np.maximum(stays, ahead[1 - stage, 1])
    return float(value[0, 0, :4, :4].mean())


def _arrivals(mean: float) -> Array:
    """Return the probabilities from queue i to queue j by arrivals alone."""
    chance = [exp(-mean) * mean**k / factorial(k) for k in range(_MOST)]
    chance.append(1.0 - sum(chance))
    n = int(ROOM) + 1
    out = np.zeros((n, n))
    for i in range(n):
        for k, p in enumerate(chance):
            out[i, min(i + k, n - 1)] += p
    return out
