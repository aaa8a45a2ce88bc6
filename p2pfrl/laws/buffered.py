"""Laws of buffered updates: the limits of buffer size, and the weight of stale updates."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from p2pfrl.laws.base import Figure, Law, at_least, at_most, near
from p2pfrl.laws.runs import Array, Table, play_tables
from p2pfrl.results.record import Record

LEARNER: Table = {"lr": 0.1, "noise": 0.3, "spread": 1.0, "dimension": 4}
IDEAL: Table = {"latency": "1ms", "bandwidth": 1e18}
"""Network in which messages sent at the same time arrive at the same time."""
SECOND: Table = {"seconds_per_env_step": 1.0}
MOMENTUM: Table = {"server_optimizer": {"kind": "momentum", "lr": 0.7}}


def central(agents: int, rounds: int | None, schedule: Table, **tables: Table) -> Record:
    """Run deltas through a coordinator."""
    sections: dict[str, Table] = {
        "schedule": schedule,
        "network": IDEAL,
        "exchange": {"payload": "delta"},
        "learner": LEARNER,
        "compute": SECOND,
        "coordinator": MOMENTUM,
        **tables,
    }
    return play_tables(agents, rounds, sections, mode="central")


def gap(one: Record, other: Record) -> float:
    """Return the largest difference of the final parameters."""
    return float(np.abs(one.parameters - other.parameters).max())


def _ends() -> Iterator[Figure]:
    uneven: Table = {"seconds_per_env_step": 1.0, "speed": [1.0, 0.7, 0.4, 0.3, 1.3]}
    one = central(5, 30, {"kind": "buffered", "size": 1}, compute=uneven)
    other = central(5, 30, {"kind": "asynchronous"}, compute=uneven)
    yield at_least("K = 1: largest staleness in the comparison", 3, len(one.staleness) - 1)
    yield at_most(
        "K = 1 against asynchronous, 5 speeds: difference of the parameters", 0.0, gap(one, other)
    )
    for agents in (4, 7):
        one = central(agents, 30, {"kind": "buffered", "size": agents, "every": 2})
        other = central(agents, 30, {"kind": "synchronous", "every": 2})
        yield at_most(
            f"K = n = {agents} against synchronous: difference of the parameters",
            1e-12,
            gap(one, other),
        )


def arrivals(
    periods: Sequence[float], size: int, updates: int, latency: float
) -> list[tuple[int, int]]:
    """Return (agent, staleness) of every update in order; agent i trains for periods[i] s."""
    versions, made = [0] * len(periods), 0
    found: list[tuple[int, int]] = []
    ends = [latency + period + latency for period in periods]
    while len(found) < updates:
        i = int(np.argmin(ends))
        found.append((i, made - versions[i]))
        made += len(found) % size == 0
        versions[i] = made
        ends[i] += latency + periods[i] + latency
    return found


def twin(
    problem: dict[str, Array],
    x: Array,
    periods: Sequence[float],
    size: int,
    updates: int,
    lr: float,
) -> Array:
    """Return FedBuff's model after `updates` noiseless updates, computed independently."""
    models: list[Array] = [x]
    deltas: list[Array] = []
    for i, tau in arrivals(periods, size, updates, 1e-3):
        start = models[len(models) - 1 - tau]
        deltas.append(-lr * problem["A"][i] @ (start - problem["x_star"][i]) / np.sqrt(1.0 + tau))
        if len(deltas) == size:
            models.append(models[-1] + np.array(deltas).mean(axis=0))
            deltas = []
    return models[-1]


def _staleness() -> Iterator[Figure]:
    speeds, size, rounds = (1.0, 0.62, 0.31, 0.173, 1.37, 0.83), 3, 20
    record = central(
        6,
        rounds,
        {"kind": "buffered", "size": size},
        learner={**LEARNER, "noise": 0.0},
        compute={"seconds_per_env_step": 1.0, "speed": list(speeds)},
        coordinator={"server_optimizer": {"kind": "replace"}},
    )
    periods, updates = [1.0 / speed for speed in speeds], rounds * 6
    expected = twin(dict(record.problem), first(record), periods, size, updates, 0.1)
    yield at_most(
        "deviation from FedBuff written in numpy",
        1e-12,
        float(np.abs(record.parameters - expected).max()),
    )
    counts = np.bincount([tau for _, tau in arrivals(periods, size, updates, 1e-3)])
    yield at_least("largest staleness", 4, len(counts) - 1)
    yield at_most(
        "updates of another staleness than in numpy",
        0,
        float(np.abs(counts - record.staleness).sum()),
    )
    fresh = central(
        6,
        rounds,
        {"kind": "buffered", "size": size, "fresh_only": True},
        compute={"seconds_per_env_step": 1.0, "speed": list(speeds)},
    )
    yield near(
        "fresh_only: updates of staleness 0", float(updates), float(fresh.staleness.sum()), 0.0
    )
    yield near("fresh_only: kinds of staleness", 1.0, float(len(fresh.staleness)), 0.0)
    yield at_least(
        "fresh_only: stale updates that were ignored", 1.0, float(fresh.summary["messages_late"])
    )


def first(record: Record) -> Array:
    """Return the common start point."""
    from p2pfrl.core.rng import Purpose, generator

    return np.array(generator(1, Purpose.START).standard_normal(record.parameters.shape[1]))


LAWS = (
    Law(
        "buffered_ends",
        "a buffer of one is the asynchronous coordinator, a buffer of n equal agents the synchronous one",
        "Nguyen et al., AISTATS 2022, arXiv 2106.06639",
        _ends,
    ),
    Law(
        "buffered_staleness",
        "updates are weighed by 1/sqrt(1 + models made since); fresh ones alone in rounds of Rennala",
        "Nguyen et al., AISTATS 2022, arXiv 2106.06639; Tyurin et al., ICLR 2026, arXiv 2509.24305",
        _staleness,
    ),
)
