"""Benchmark of the live view: how much writing it slows a run."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from p2pfrl.bench.measure import Result, Work, rates
from p2pfrl.build.world import build
from p2pfrl.experiment.live import Live
from p2pfrl.scenario import loads

_SCENARIO = """
name = "bench_live"
seed = 1
agents = {agents}
[stop]
rounds = {rounds}
[learner]
kind = "quadratic"
dimension = 32
lr = 0.01
[topology]
kind = "torus"
[network]
latency = "20ms"
"""


def bench(quick: bool) -> Iterator[Result]:
    """Yield the speed of a run that writes views, relative to one that writes none.

    Learning is next to nothing in it, so that views weigh most. Who reads them is another process.
    """
    agents, rounds, turns = (16, 3, 1) if quick else (256, 60, 5)
    with tempfile.TemporaryDirectory() as folder:
        watched = partial(running, Path(folder), agents, rounds)
        plain = partial(running, None, agents, rounds)
        with_views, without = rates(watched, plain, turns=turns)
    against = "without views; bound: 0.98"
    yield Result(f"live_view_vs_none_n{agents}", with_views / without, "x", against)


def running(folder: Path | None, agents: int, rounds: int) -> Work:
    """Return the work of a run, which writes views to a folder if one is given."""
    world = build(loads(_SCENARIO.format(agents=agents, rounds=rounds)), on_row=lambda row: False)
    live = None if folder is None else Live(folder, world, lambda: 0.0)

    def work() -> float:
        with world:
            if live is not None:
                live.begin()
            world.simulation.run()
            assert world.assembly.prediction is not None  # what every record has
            if live is not None:
                live.close()
        return float(rounds)

    return work
