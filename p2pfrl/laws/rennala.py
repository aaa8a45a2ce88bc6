"""Laws of Rennala SGD: minibatches of fresh gradients from the fastest agents, and their time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from p2pfrl.core.rng import Purpose, Streams, generator
from p2pfrl.laws.base import Figure, Law, at_least, at_most, near
from p2pfrl.laws.buffered import IDEAL
from p2pfrl.laws.runs import Array, Table, play_tables
from p2pfrl.results.record import Record

_CURVATURE, _NOISE, _LR = 2.0, 0.3, 0.05
_LATENCY = 1e-3
_SPEEDS = (1.0, 0.62, 0.31, 0.173, 1.37, 0.83, 0.011)


def _run(speeds: Sequence[float], rounds: int, size: int, seed: int, **tables: Table) -> Record:
    """Run agents with one objective, each at `speed` gradients per second."""
    learner: Table = {
        "dimension": 4,
        "curvature": [_CURVATURE, _CURVATURE],
        "spread": 0.0,
        "noise": _NOISE,
        "lr": 1.0,
    }
    sections: dict[str, Table] = {
        "learner": learner,
        "exchange": {"payload": "gradient"},
        "schedule": {"kind": "buffered", "size": size, "fresh_only": True},
        "coordinator": {"server_optimizer": {"kind": "sgd", "lr": _LR}},
        "compute": {"seconds_per_env_step": 1.0, "speed": list(speeds)},
        "network": IDEAL,
        **tables,
    }
    return play_tables(len(speeds), rounds, sections, mode="central", seed=seed)


def batches(
    periods: Sequence[float], size: int, gradients: int
) -> tuple[list[list[tuple[int, int]]], int]:
    """Return the (agent, gradient) pairs of each model, and the number of ignored gradients.

    Agent i takes periods[i] seconds per gradient. A gradient that ends after its model has been
    replaced does not count.
    """
    found: list[list[tuple[int, int]]] = [[]]
    versions, made, stale = [0] * len(periods), [0] * len(periods), 0
    ends = [_LATENCY + period + _LATENCY for period in periods]
    while sum(map(len, found)) < gradients:
        i = int(np.argmin(ends))
        model = len(found) - 1
        if versions[i] == model:
            found[-1].append((i, made[i]))
            if len(found[-1]) == size:
                found.append([])
        else:
            stale += 1
        made[i] += 1
        versions[i] = len(found) - 1
        ends[i] += _LATENCY + periods[i] + _LATENCY
    return [batch for batch in found if batch], stale


def descent(made_of: Sequence[Sequence[tuple[int, int]]], seed: int, x: Array) -> Array:
    """Return the end point of minibatch stochastic gradient descent with these gradients' noise."""
    for batch in made_of:
        noise = np.zeros_like(x)
        for agent, index in batch:
            noise += Streams.of(seed, [agent], Purpose.GRADIENT, index).normal(len(x))[0]
        x = x - _LR * (_CURVATURE * x + _NOISE * noise / len(batch))
    return x


def _minibatch() -> Iterator[Figure]:
    for speeds, size, seed in ((_SPEEDS[:1], 4, 3), (_SPEEDS[:5], 3, 1), (_SPEEDS, 10, 2)):
        agents, rounds = len(speeds), 20
        where = f"n = {agents}, m = {size}"
        record = _run(speeds, rounds, size, seed)
        made_of, stale = batches([1.0 / speed for speed in speeds], size, rounds * agents)
        expected = descent(made_of, seed, generator(seed, Purpose.START).standard_normal(4))
        yield at_most(
            f"{where}: difference to minibatches of m",
            1e-12,
            float(np.abs(record.parameters - expected).max()),
        )
        yield near(
            f"{where}: kinds of staleness in the batches", 1.0, float(len(record.staleness)), 0.0
        )
        yield near(
            f"{where}: gradients ignored", float(stale), float(record.summary["messages_late"]), 0.0
        )


def _time() -> Iterator[Figure]:
    periods = np.array([1.0 / speed for speed in _SPEEDS]) + 2 * _LATENCY
    pace = np.cumsum(1.0 / np.sort(periods))
    for size in (4, 20):
        rounds = 40
        seconds = float(_run(_SPEEDS, rounds, size, 1).summary["virtual_seconds"])
        models = -(-rounds * len(_SPEEDS) // size)
        bound = float(((size + 2.0 * np.arange(1, len(pace) + 1)) / pace).min())
        yield at_most(f"m = {size}: seconds per model", bound, seconds / models)
    barrier = _run(_SPEEDS, 5, 1, 1, schedule={"kind": "synchronous", "deadline": "1h"})
    waited = float(barrier.summary["virtual_seconds"]) / 5
    yield at_least("a barrier: seconds per model", 0.99 / min(_SPEEDS), waited)


LAWS = (
    Law(
        "rennala_minibatch",
        "batches of fresh gradients give gradient descent with minibatches of m, from any agents",
        "Tyurin et al., ICLR 2026, arXiv 2509.24305; Tyurin, Richtarik, NeurIPS 2023, arXiv 2305.12387",
        _minibatch,
    ),
    Law(
        "rennala_time",
        "a model takes at most min_j (m + 2 j) / (sum of the j highest speeds): stragglers cost nothing",
        "Tyurin, Richtarik, NeurIPS 2023, arXiv 2305.12387, here with the constants of this protocol",
        _time,
    ),
)
