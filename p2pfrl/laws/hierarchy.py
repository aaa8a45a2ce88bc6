"""Laws of coordinator trees: the same result as one coordinator, with a bounded load per node."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from math import isqrt

import numpy as np

from p2pfrl.core.parameters import Vector
from p2pfrl.core.rng import Purpose, generator
from p2pfrl.core.types import COORDINATOR
from p2pfrl.laws.base import Figure, Law, at_least, at_most, near
from p2pfrl.laws.runs import Array, Table, play, play_tables
from p2pfrl.results.record import Record

LEARNER: Table = {"lr": 0.1, "noise": 0.3, "spread": 1.0, "dimension": 4}
EXACT: Table = {**LEARNER, "noise": 0.0}
GROUPS = ((0, 4, 6), (1, 2), (3, 5, 7, 8, 9))


def gap(one: Vector, other: Vector) -> float:
    """Return the largest difference."""
    return float(np.abs(one - other).max())


def _flat() -> Iterator[Figure]:
    absent: Table = {"dropout": 0.3}
    trees: tuple[tuple[str, Table], ...] = (
        ("parameters", {"groups": GROUPS}),
        ("delta", {"edges": 4}),
    )
    for payload, tree in trees:
        tables: dict[str, Table] = {
            "learner": LEARNER,
            "availability": absent,
            "exchange": {"payload": payload},
            "coordinator": {"server_optimizer": {"kind": "adam", "lr": 0.05}},
        }
        flat = runs(10, 20, "central", tables)
        built = runs(10, 20, "hierarchical", {**tables, "hierarchy": tree})
        what = f"{payload}, {tree}: difference to one coordinator"
        error = max(
            gap(flat.parameters, built.parameters),
            gap(flat.metrics["objective"], built.metrics["objective"]),
        )
        yield at_most(what, 1e-12, error)


def runs(agents: int, rounds: int, mode: str, tables: dict[str, Table]) -> Record:
    """Run a scenario of a mode."""
    return play_tables(agents, rounds, tables, mode=mode, seed=1)


def twin(
    problem: dict[str, Array],
    x: Array,
    groups: Sequence[Sequence[int]],
    every: int,
    period: int,
    rounds: int,
    lr: float,
) -> Array:
    """Return the agents' final HierFAVG models `(n, d)` without noise, computed independently."""
    models = np.tile(x, (sum(map(len, groups)), 1))
    for round in range(1, rounds + 1):
        for _ in range(every):
            for i, model in enumerate(models):
                models[i] = model - lr * problem["A"][i] @ (model - problem["x_star"][i])
        for group in groups:
            models[list(group)] = models[list(group)].mean(axis=0)
        if round % period == 0 or round == rounds:
            models[:] = models.mean(axis=0)
    return models


def _periods() -> Iterator[Figure]:
    for every, period, rounds in ((1, 3, 12), (2, 4, 10), (5, 2, 7)):
        record = play(
            10,
            rounds,
            mode="hierarchical",
            learner=EXACT,
            schedule={"every": every},
            hierarchy={"groups": GROUPS, "edge_rounds": period},
        )
        start = np.array(generator(1, Purpose.START).standard_normal(4))
        expected = twin(dict(record.problem), start, GROUPS, every, period, rounds, 0.1)
        what = f"kappa_1 = {every}, kappa_2 = {period}, {rounds} rounds: deviation from HierFAVG in numpy"
        yield at_most(what, 1e-12, gap(record.parameters, expected))


def busiest(record: Record, rounds: int) -> float:
    """Return the messages per round at the node that receives most of them."""
    assert record.events is not None
    reached = Counter(event.receiver for event in record.events if event.kind == "deliver")
    return max(reached.values()) / rounds


def _load() -> Iterator[Figure]:
    rounds = 4
    slow: Table = {"bandwidth": "1Mbit/s", "latency": "1ms"}
    times = {}
    for agents in (16, 49, 144):
        branches = isqrt(agents)
        for mode in ("central", "hierarchical"):
            record = play(agents, rounds, mode=mode, learner=EXACT, network=slow, trace=True)
            times[mode, agents] = float(record.summary["virtual_seconds"]) / rounds
            load = busiest(record, rounds)
            if mode == "central":
                yield near(
                    f"n = {agents}: messages per round at the one coordinator", agents, load, 0.0
                )
            else:
                # an edge receives from its agents, and the cloud's model at the start, between
                # rounds and at the end
                bound = branches + (rounds + 1) / rounds
                yield near(
                    f"n = {agents}: messages per round at the busiest node of the tree",
                    bound,
                    load,
                    0.0,
                )
    for agents in (16, 49, 144):
        ratio = times["central", agents] / times["hierarchical", agents]
        yield at_least(
            f"n = {agents}: seconds per round, one coordinator / tree", 0.2 * isqrt(agents), ratio
        )


def depth(record: Record, id: int = COORDINATOR) -> int:
    """Return how many links lead from a coordinator down to the farthest agent below it."""
    if id >= 0:
        return 0
    return 1 + max(depth(record, below) for below in record.coordinators[id])


def _levels() -> Iterator[Figure]:
    rounds, latency = 4, 0.5
    network: Table = {"latency": latency, "bandwidth": 1e18}
    for agents, b in ((9, 3), (10, 3), (32, 2), (64, 4)):
        flat, built = (
            play(
                agents,
                rounds,
                mode=mode,
                trace=True,
                learner=LEARNER,
                network=network,
                compute={"seconds_per_env_step": 0.0},
                hierarchy=tree,
            )
            for mode, tree in (("central", {}), ("hierarchical", {"branching": b}))
        )
        what = f"n = {agents}, b = {b}"
        levels = next(k for k in range(1, agents) if b**k >= agents)
        yield near(f"{what}: depth, ceil(log_b n)", levels, depth(built), 0.0)
        error = gap(flat.parameters, built.parameters)
        yield at_most(f"{what}: difference to one mean", 1e-12, error)
        assert built.events is not None
        # In every round the answers or models of those below, and one of the node above; and once
        # more the last model.
        down = (rounds + 1) / rounds
        load = busiest(built, rounds)
        yield at_most(f"{what}: messages per round to the busiest node, b + 1", b + down, load)
        sent = Counter(event.sender for event in built.events if event.kind == "send")
        load = max(sent.values()) / rounds
        yield at_most(f"{what}: messages per round from the busiest node", b * down + 1.0, load)
        trips = float(built.summary["virtual_seconds"]) / latency
        expected = (2 * rounds + 1) * levels
        yield near(f"{what}: trips of {rounds} rounds and the last model", expected, trips, 1e-6)


LAWS = (
    Law(
        "tree_is_flat",
        "an equal-weight tree of weighted means is the weighted mean: mode hierarchical is mode central",
        "Liu, Zhang, Song, Letaief, ICC 2020, arXiv 1905.06641",
        _flat,
    ),
    Law(
        "tree_periods",
        "edges average every kappa_1 updates, the cloud every kappa_1 kappa_2",
        "Liu, Zhang, Song, Letaief, ICC 2020, arXiv 1905.06641",
        _periods,
    ),
    Law(
        "tree_levels",
        "in a tree of ceil(log_b n) levels no node has more than b + 1 messages a round each way; it is one mean",
        "computed",
        _levels,
    ),
    Law(
        "tree_load",
        "the busiest node of a tree has as many messages as it has branches",
        "computed",
        _load,
    ),
)
