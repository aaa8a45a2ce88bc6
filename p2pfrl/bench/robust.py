"""Benchmark of robust mixing: whole rounds with robust rules against those with plain weights."""

from __future__ import annotations

from collections.abc import Iterator
from statistics import median

from p2pfrl.bench.measure import Result, Work, rate
from p2pfrl.build.world import build
from p2pfrl.scenario import loads

_SCENARIO = """
name = "robust_rounds"
agents = {agents}

[stop]
rounds = {rounds}

[environment]
id = "CartPole-v1"
instances = 1

[learner]
kind = "reinforce"
hidden = [64, 64]
steps = 4

[topology]
kind = "random_regular"
degree = 8

[mixing]
{mixing}
"""
_PLAIN = 'kind = "metropolis"'
_RULES = {
    "median": 'kind = "neighborhood"\naggregator = {kind = "median"}',
    "trimmed_mean": 'kind = "neighborhood"\naggregator = {kind = "trimmed_mean", byzantine = 2}',
    "geometric_median": 'kind = "neighborhood"\naggregator = {kind = "geometric_median"}',
    "krum": 'kind = "neighborhood"\naggregator = {kind = "krum", byzantine = 2}',
    "mda": 'kind = "neighborhood"\naggregator = {kind = "mda", byzantine = 2}',
    "bulyan": 'kind = "neighborhood"\naggregator = {kind = "bulyan", byzantine = 1}',
    "nearest_neighbors": (
        'kind = "neighborhood"\n'
        'aggregator = {kind = "trimmed_mean", byzantine = 2, pre = ["nearest_neighbors"]}'
    ),
    "clipped_gossip": 'kind = "clipped_gossip"\nbyzantine = 2',
    "bridge": 'kind = "bridge"\nbyzantine = 2',
}


def bench(quick: bool) -> Iterator[Result]:
    """Yield how long a round with each robust rule takes, as a multiple of a plain one."""
    n, rounds, turns = (16, 2, 1) if quick else (1000, 3, 2)
    measured: dict[str, list[float]] = {}
    for _ in range(turns):  # in turns, so that other work on the machine slows all alike
        for kind, mixing in {"": _PLAIN, **_RULES}.items():
            value = rate(lambda mixing=mixing: whole_run(n, rounds, mixing))  # type: ignore[misc]
            measured.setdefault(kind, []).append(value)
    plain = median(measured.pop(""))
    found = {kind: plain / median(values) for kind, values in measured.items()}
    name, against = (
        "robust_round_vs_plain_n1000",
        f"a plain round of {n} agents of degree 8; at most 5",
    )
    worst = max(found, key=found.__getitem__)
    yield Result(name, found[worst], "times as long", f"{against}: {worst}, the slowest rule")
    for kind, value in found.items():
        yield Result(f"{name}.{kind}", value, "times as long", against)


def whole_run(n: int, rounds: int, mixing: str) -> Work:
    """Return a run that returns its rounds."""
    world = build(
        loads(_SCENARIO.format(agents=n, rounds=rounds, mixing=mixing)), on_row=lambda row: False
    )

    def work() -> float:
        world.simulation.run()
        return float(rounds)

    return work
