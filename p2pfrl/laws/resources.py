"""Laws of resources: means weighted by capacity."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np
from typing_extensions import override

from p2pfrl.consensus.aggregators.base import Aggregator, Arrived, Memory, weighted_mean
from p2pfrl.core.parameters import Vector
from p2pfrl.core.rule import rule
from p2pfrl.experiment.run import simulate
from p2pfrl.laws.base import Figure, Law, at_most, near
from p2pfrl.laws.runs import FLAT, Array, Table, play, start, text
from p2pfrl.scenario import loads

_SPEEDS = (1.0, 2.0, 4.0, 8.0)
_DIMENSION = 32
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
        200,
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
    return float(np.square(simulate(scenario).metrics["error"]).mean() / _DIMENSION)


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


LAWS = (
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
