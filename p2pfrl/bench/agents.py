"""Benchmark of whole runs: rounds of complete agents that learn quadratics, with a record."""

from __future__ import annotations

from collections.abc import Iterator
from statistics import median

from p2pfrl.bench.measure import Result, Work, rate
from p2pfrl.build.world import build
from p2pfrl.scenario import loads

_SCENARIO = """
name = "agent_rounds"
agents = {agents}

[stop]
rounds = {rounds}

[learner]
kind = "quadratic"
dimension = 8

[topology]
kind = "random_regular"
degree = 4
"""


def bench(quick: bool) -> Iterator[Result]:
    """Yield rounds of agents (train, send to 4, receive from 4, mix, record) per CPU second."""
    n, rounds, turns = (16, 3, 1) if quick else (256, 40, 5)
    value = median(rate(lambda: whole_run(n, rounds)) for _ in range(turns))
    yield Result(
        "agent_rounds_per_second_n256", value, "agent-rounds/s", "quadratic, d = 8, record included"
    )


def whole_run(n: int, rounds: int) -> Work:
    """Return a run that returns the rounds of its agents."""
    world = build(loads(_SCENARIO.format(agents=n, rounds=rounds)), on_row=lambda row: False)

    def work() -> float:
        world.simulation.run()
        return float(n * rounds)

    return work
