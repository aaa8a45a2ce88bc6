"""Benchmark of lookahead batching: asynchronous agents in batches against one at a time."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from p2pfrl.bench.measure import Result, Work, rates
from p2pfrl.build.world import build
from p2pfrl.scenario import loads

_NEED = 5
_SCENARIO = """
name = "async_vs_serial"
agents = {agents}

[stop]
rounds = {rounds}

[environment]
id = "CartPole-v1"
instances = 4

[learner]
kind = "ppo"
shared_trunk = true

[schedule]
kind = "asynchronous"

[topology]
kind = "random_regular"
degree = 4

[compute]
speed = {{kind = "lognormal", sigma = 0.5}}

[evaluation]
episodes = 0
"""


def bench(quick: bool) -> Iterator[Result]:
    """Yield the speed of whole runs with lookahead batching over that with batches of one.

    Both runs have the same digest.
    """
    n, rounds = (16, 2) if quick else (256, 5)
    digests: list[str] = []
    batched, serial = rates(
        lambda: whole_run(n, rounds, None, digests),
        lambda: whole_run(n, rounds, 1, digests),
        turns=1 if quick else 3,
    )
    assert len(set(digests)) == 1, "batching changed the result"
    against = f"one request at a time, {serial:,.0f} updates/s; at least {_NEED}"
    yield Result("async_vs_serial_n256", batched / serial, "x", against)


def whole_run(n: int, rounds: int, chunk: int | None, digests: list[str]) -> Work:
    """Return a run that computes `chunk` updates at a time and returns their number.

    With None the learner chooses how many.
    """
    world = build(loads(_SCENARIO.format(agents=n, rounds=rounds)), on_row=lambda row: False)
    stack = world.trainer.stack
    if chunk is not None:
        stack.traits = replace(stack.traits, chunk=chunk)

    def work() -> float:
        world.simulation.run()
        digests.append(world.log.digest(world.trainer.parameters))
        return float(world.trainer.index.sum())

    return work
