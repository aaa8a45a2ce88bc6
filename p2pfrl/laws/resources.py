"""Laws of resources: allocations, assigned work, and means weighted by capacity."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np
from scipy.optimize import brentq, linprog
from typing_extensions import override

from p2pfrl.consensus.aggregators.base import Aggregator, Arrived, Memory, weighted_mean
from p2pfrl.core.allocation import allocate
from p2pfrl.core.parameters import Vector
from p2pfrl.core.rng import Purpose, generator
from p2pfrl.core.rule import rule
from p2pfrl.experiment.run import simulate
from p2pfrl.laws.base import Figure, Law, at_most, near
from p2pfrl.laws.runs import FLAT, Array, Table, ended, play, play_tables, start, text
from p2pfrl.scenario import loads

_SPEEDS = (1.0, 2.0, 4.0, 8.0)
_DIMENSION = 128
_COMPUTE: Table = {"speed": list(_SPEEDS)}


@rule
class Inverse(Aggregator):
    """sum_k w_k x_k with w_k proportional to 1 / R_k: what this law warns of.

    Attributes:
        capacities: R_k in order of id.
    """

    capacities: tuple[float, ...] = _SPEEDS

    @override
    def aggregate(
        self, received: Sequence[Arrived], model: Vector, state: Memory
    ) -> tuple[Vector, Memory]:
        weights = np.array([1.0 / self.capacities[arrived.sender] for arrived in received])
        return weighted_mean(received, (weights / weights.sum()).tolist()), state


def _consensus() -> Iterator[Figure]:
    for topology, rounds in (("ring", 120), ("star", 480)):
        run = play(
            len(_SPEEDS),
            rounds,
            learner=FLAT,
            compute=_COMPUTE,
            topology={"kind": topology},
            mixing={"kind": "capacity"},
        )
        expected = np.average(start(run, 1), axis=0, weights=_SPEEDS)
        moved = float(np.abs(np.average(run.parameters, axis=0, weights=_SPEEDS) - expected).max())
        yield at_most(f"{topology}: move of the weighted mean in {rounds} rounds", 1e-13, moved)
        apart = float(np.abs(run.parameters - expected).max())
        yield at_most(f"{topology}: distance of agents from it", 1e-9, apart)
        assert run.lambda_2 is not None
        early, late = run.metrics["consensus_distance"][[20, 60]]
        factor = float(late / early) ** (1 / 40)
        yield near(f"{topology}: factor of disagreement per round", run.lambda_2, factor, 5e-3)


def _mean() -> Iterator[Figure]:
    n, learner = len(_SPEEDS), {"lr": 0.1}
    own = play(n, 1, mode="independent", compute=_COMPUTE, learner=learner).parameters
    expected = np.average(own, axis=0, weights=_SPEEDS)
    for mode in ("central", "hierarchical"):
        run = play(
            n,
            1,
            mode=mode,
            compute=_COMPUTE,
            learner=learner,
            coordinator={"aggregator": {"kind": "mean", "weights": "speed"}},
        )
        apart = float(np.abs(run.parameters - expected).max())
        yield at_most(f"{mode}: error of the mean weighted by speed", 1e-12, apart)


def variance(aggregator: Table | Aggregator) -> float:
    """Return the variance of a model's step, where agent k averages R_k gradients of noise 1.

    All agents have the objective ||x - x*||^2 / 2, and one step of lr = 1 leads to x* and the mean
    noise.
    """
    groups = "".join(
        f"[[groups]]\nagents = [{k}]\nlearner = {{noise = {r**-0.5}}}\n"
        for k, r in enumerate(_SPEEDS)
    )
    learner: Table = {"dimension": _DIMENSION, "curvature": [1.0, 1.0], "spread": 0.0, "lr": 1.0}
    table = aggregator if isinstance(aggregator, dict) else {"kind": "mean"}
    head = text(
        len(_SPEEDS),
        50,
        mode="central",
        learner=learner,
        compute=_COMPUTE,
        coordinator={"aggregator": table},
        evaluation={"episodes": 0},
    )
    scenario = loads(head + groups)
    if isinstance(aggregator, Aggregator):
        section = replace(scenario.coordinator, aggregator=aggregator)
        scenario = replace(scenario, coordinator=section)
    return float(np.square(ended(simulate(scenario)).metrics["error"]).mean() / _DIMENSION)


def _trap() -> Iterator[Figure]:
    speeds = np.array(_SPEEDS)
    cases: tuple[tuple[str, Table | Aggregator, Array], ...] = (
        ("R_k", {"kind": "mean", "weights": "speed"}, speeds),
        ("1", {"kind": "mean"}, np.ones(len(speeds))),
        ("1 / R_k", Inverse(), 1.0 / speeds),
    )
    for name, aggregator, weights in cases:
        weights = weights / weights.sum()
        expected = float((weights**2 / speeds).sum())
        what = f"variance of a step, weights proportional to {name}"
        yield near(what, expected, variance(aggregator), 0.08 * expected, digits=3)


def _cases() -> Iterator[tuple[float, Array, Array, Array, float]]:
    """Yield random problems of two to eight agents: alpha, weights, bounds, and the total."""
    rng = generator(5, Purpose.CHECK)
    for alpha in (0.0, 0.5, 1.0, 2.0, 4.0):
        for _ in range(24):
            n = int(rng.integers(2, 9))
            weights, low = (
                rng.uniform(0.2, 5.0, n),
                rng.uniform(0.0, 0.5, n) * rng.integers(0, 2, n),
            )
            high = low + np.where(rng.random(n) < 0.5, rng.uniform(0.1, 3.0, n), np.inf)
            yield alpha, weights, low, high, float(low.sum() + rng.uniform(0.1, 1.0) * n)


def dual(alpha: float, weights: Array, low: Array, high: Array, total: float) -> Array:
    """Return the optimum for alpha > 0 by a root of the dual: scipy finds the price of R."""

    def at(log_price: float) -> Array:
        shares: Array = np.clip((weights / np.exp(log_price)) ** (1.0 / alpha), low, high)
        return shares

    if float(high.sum()) <= total:
        return high
    price = brentq(lambda p: float(at(p).sum()) - total, -60.0, 60.0, xtol=1e-15, rtol=1e-15)
    return at(float(price))


def residual(alpha: float, weights: Array, low: Array, high: Array, shares: Array) -> float:
    """Return the greatest relative violation of the conditions of Karush, Kuhn and Tucker.

    With the multiplier of the sum, marginal utilities are equal to it where no bound holds, at most
    it at a lower bound, and at least it at an upper one.
    """
    with np.errstate(divide="ignore"):
        marginal = weights * shares**-alpha
    is_low, is_high = shares <= low + 1e-12, shares >= high - 1e-12
    most = marginal[~is_high].max(initial=0.0)
    least = marginal[~is_low].min(initial=np.inf)
    return max(0.0, float(most / least) - 1.0) if np.isfinite(least) and most > 0.0 else 0.0


def _allocation() -> Iterator[Figure]:
    worst, off, sums, gap = 0.0, 0.0, 0.0, 0.0
    for alpha, weights, low, high, total in _cases():
        shares = allocate(weights, low, high, total, alpha)
        sums = max(sums, abs(float(shares.sum()) - min(total, float(high.sum()))))
        inside = bool((low <= shares).all() and (shares <= high).all())
        assert inside, "a share is outside of its bounds"
        worst = max(worst, residual(alpha, weights, low, high, shares))
        if alpha > 0.0:
            other = dual(alpha, weights, low, high, total)
            off = max(off, float(np.abs(shares - other).max()))
        else:
            found = linprog(
                -weights,
                A_ub=np.ones((1, len(weights))),
                b_ub=[total],
                bounds=list(zip(low, high, strict=True)),
            )
            best = float(found.fun)  # type: ignore[arg-type]  # a number, if it succeeded
            gap = max(gap, abs(float(weights @ shares) + best))
    yield at_most("120 random problems: error of sum_k R_k", 1e-12, sums)
    yield at_most("conditions of Karush, Kuhn and Tucker, relative violation", 1e-9, worst)
    yield at_most("alpha > 0: distance from scipy's root of the dual", 1e-8, off)
    yield at_most("linear: distance from the optimum of scipy's linprog", 1e-8, gap)
    weights = np.array([1.0, 4.0, 9.0])
    free = np.zeros(3), np.full(3, np.inf), 6.0
    for alpha, parts in ((1.0, weights / 14.0), (2.0, np.sqrt(weights) / 6.0)):
        apart = float(np.abs(allocate(weights, *free, alpha) - 6.0 * parts).max())
        yield at_most(f"alpha {alpha:g} without bounds: error of R w^(1/alpha) / sum", 1e-14, apart)


def _effect() -> Iterator[Figure]:
    compute: Table = {"seconds_per_env_step": 1.0, "speed": list(_SPEEDS)}
    inverse = [1.0 / speed for speed in _SPEEDS]
    quick: Table = {"latency": 0.0, "bandwidth": 1e18}
    cases: tuple[tuple[str, Table, float], ...] = (
        ("none", {"utility": "none"}, 1.0),
        ("log, weights 1 / speed", {"utility": "log", "weights": inverse}, sum(inverse) / 4),
    )
    for name, allocation, expected in cases:
        tables: dict[str, Table] = {"compute": compute, "allocation": allocation, "network": quick}
        run = play_tables(len(_SPEEDS), 5, tables, mode="central")
        seconds = float(run.summary["virtual_seconds"]) / 5
        yield near(f"speeds 1, 2, 4, 8, {name}: seconds of a round", expected, seconds, 1e-6)
    slow: Table = {"latency": 0.0, "bandwidth": 1e3}
    for weights, share in (([1.0, 1.0], 1.0), ([4.0, 1.0], 0.4)):
        shared: Table = {"utility": "log", "resource": "bandwidth", "weights": weights}
        tables = {"compute": {"seconds_per_env_step": 0.0}, "network": slow, "allocation": shared}
        run = play_tables(2, 4, tables, mode="gossip")
        size = run.summary["bytes_sent"] / run.summary["messages_sent"]
        seconds = float(run.summary["virtual_seconds"]) / 4
        what = f"bandwidth by log, weights {weights}: seconds of a round"
        yield near(what, size / (1e3 * share), seconds, 1e-6)


def _work() -> Iterator[Figure]:
    n, every, step = len(_SPEEDS), 8, 0.25
    quick: Table = {"latency": 0.0, "bandwidth": 1e18}
    compute: Table = {"seconds_per_env_step": step, "speed": list(_SPEEDS)}
    cases: tuple[tuple[str, Table, list[int], float], ...] = (
        ("equal", {}, [8, 8, 8, 8], every * step),
        ("speed", {"assign": "speed"}, [2, 4, 9, 17], 9 * step / 4),
        ("time", {"assign": "time", "time": 1.0}, [4, 8, 16, 32], 1.0),
    )
    for name, work, updates, seconds in cases:
        tables = {"compute": compute, "network": quick, "schedule": {"every": every}, "work": work}
        run = play_tables(n, 3, {**tables, "energy": {"per_step": 1.0}}, mode="central")
        made = run.agents["env_steps"][-n:] / 3
        off = float(np.abs(made - updates).max())
        yield at_most(f"{name}: error of the updates of a round, {updates}", 0.0, off)
        found = float(run.summary["virtual_seconds"]) / 3
        yield near(f"{name}: seconds of a round", seconds, found, 1e-6)


def _fixed_points() -> Iterator[Figure]:
    lr, updates = 0.012, np.array([2, 4, 9, 17])
    learner: Table = {"dimension": 2, "curvature": [1.0, 1.0], "lr": lr}
    moves = 1.0 - (1.0 - lr) ** updates
    errors = []
    for name, weights in (("mean", moves), ("normalized", moves / updates)):
        tables: dict[str, Table] = {
            "learner": learner,
            "compute": {"speed": list(_SPEEDS)},
            "schedule": {"every": 8},
            "work": {"assign": "speed"},
            "exchange": {"payload": "delta"},
            "coordinator": {"aggregator": {"kind": name}},
        }
        run = play_tables(4, 160, tables, mode="central")
        optima = run.problem["x_star"]
        expected = np.average(optima, axis=0, weights=weights)
        apart = float(np.abs(run.parameters[0] - expected).max())
        yield at_most(f"{name}: distance from its fixed point in theory", 1e-5, apart)
        errors.append(float(np.linalg.norm(run.parameters[0] - optima.mean(axis=0))))
    share = errors[1] / errors[0]
    yield at_most("error of the mean objective's minimum, normalized / mean", 0.1, share)


LAWS = (
    Law(
        "assigned_work",
        "agents that make updates in proportion to their speed, or for a time, end rounds together",
        "computed",
        _work,
    ),
    Law(
        "normalized",
        "with unequal work the mean leads to the objectives weighted by work, changes per step to their mean",
        "Wang, Liu, Liang, Joshi, Poor, NeurIPS 2020, arXiv 2007.07481",
        _fixed_points,
    ),
    Law(
        "allocation",
        "shares are the optimum that scipy finds, and satisfy the conditions of Karush, Kuhn and Tucker",
        "computed; Kelly, Maulloo, Tan, 1998; Mo, Walrand, 2000",
        _allocation,
    ),
    Law(
        "allocation_effect",
        "shares of speed and bandwidth change the time of a round by as much",
        "computed",
        _effect,
    ),
    Law(
        "capacity_consensus",
        "agents that mix by capacity agree on the mean that weighs each by its capacity",
        "computed; Hastings, Biometrika 57(1), 1970",
        _consensus,
    ),
    Law(
        "capacity_mean",
        "a coordinator, and a tree of coordinators, weigh agents by their capacity",
        "computed",
        _mean,
    ),
    Law(
        "capacity_variance",
        "weights proportional to capacity have the least noise, and inverse ones more than equal ones",
        "computed: sum_k w_k^2 / R_k where agent k averages R_k gradients",
        _trap,
    ),
)
