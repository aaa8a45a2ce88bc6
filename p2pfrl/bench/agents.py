"""Benchmark of whole runs: rounds of complete agents that learn quadratics, with a record."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from statistics import median

from p2pfrl.bench.measure import Result, Work, paired, rate
from p2pfrl.build.world import build
from p2pfrl.scenario import loads

_GROWTH, _COMPLETE, _SHARE = 1.3, 1.2, 0.1
_SHORT = """
name = "short"
agents = {agents}
stop = {{rounds = {rounds}}}
environment = {{id = "cartpole", instances = 4}}
evaluation = {{episodes = 0}}
learner = {{kind = "ppo", steps = 8, shared_trunk = true, num_minibatches = 1, update_epochs = 1}}
topology = {{kind = "ring"}}
"""
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


def scale(quick: bool) -> Iterator[Result]:
    """Yield the cost of a round of an agent among 16,384 over that among 64, and each cost."""
    sizes = (16, 36, 64) if quick else (64, 1024, 16_384)
    turns = 1 if quick else 3
    # At least six, as an agent is made once, and it is its rounds that are measured.
    rounds = [max(6, 16_384 // n // 2) if not quick else 2 for n in sizes]
    runs = [partial(whole_run, n, k) for n, k in zip(sizes, rounds, strict=True)]
    found = [[rate(run) for run in runs] for _ in range(turns)]
    small, *_, large = zip(*found, strict=True)
    ratios = [few / many for few, many in zip(small, large, strict=True)]
    span = f"turns {min(ratios):.3g} to {max(ratios):.3g}"
    against = f"among {sizes[0]}; {span}; at most {_GROWTH}"
    yield Result("agent_round_n16384_vs_n64", median(ratios), "x", against)
    for n, rates in zip(sizes, zip(*found, strict=True), strict=True):
        own = 1e6 / median(rates)
        yield Result(f"agent_round_n{n}", own, "us", "CPU time of one core, quadratic, d = 8")


def complete(quick: bool) -> Iterator[Result]:
    """Yield the CPU time of a message on a complete graph over that with 4 neighbors."""
    n, turns = (24, 1) if quick else (512, 3)
    found = paired(
        lambda: whole_run(n, 2 if quick else 40, per_message=True),
        lambda: whole_run(n, 1 if quick else 2, "complete", per_message=True),
        turns=turns,
    )
    against = f"a message with 4 neighbors; {found.span}; at most {_COMPLETE}"
    yield Result("message_complete_n512_vs_degree_4", found.ratio, "x", against)


def record(quick: bool) -> Iterator[Result]:
    """Yield the share of the record in a round with a short update: PPO, d = 4675, 32 samples.

    Without a record the observer of agents does nothing.
    """
    n, rounds, turns = (16, 2, 1) if quick else (256, 12, 5)
    found = paired(
        lambda: _short_updates(n, rounds, has_record=True),
        lambda: _short_updates(n, rounds, has_record=False),
        turns=turns,
    )
    least, most = 1.0 - found.high, 1.0 - found.low
    against = (
        f"the whole round, {1e6 / found.other / max(found.ratio, 1e-9):,.0f} us; "
        f"turns {least:.2g} to {most:.2g}; at most {_SHARE}"
    )
    yield Result("record_share_n256", max(1.0 - found.ratio, 1e-9), "of the round", against)


def _short_updates(n: int, rounds: int, *, has_record: bool) -> Work:
    """Return a run with short updates that returns the rounds of its agents."""
    world = build(loads(_SHORT.format(agents=n, rounds=rounds)), on_row=lambda row: False)
    if not has_record:
        for name in ("trained", "mixed", "interval", "live"):
            setattr(world.recorder, name, _nothing)

    def work() -> float:
        world.simulation.run()
        return float(n * rounds)

    return work


def _nothing(*_: object) -> None:
    """Do nothing."""


def whole_run(
    n: int, rounds: int, topology: str = "random_regular", *, per_message: bool = False
) -> Work:
    """Return a run that returns the rounds of its agents, or its messages."""
    text = _SCENARIO.format(agents=n, rounds=rounds)
    if topology != "random_regular":
        text = text.replace('kind = "random_regular"\ndegree = 4', f'kind = "{topology}"')
    world = build(loads(text), on_row=lambda row: False)

    def work() -> float:
        world.simulation.run()
        return float(world.network.traffic.messages_delivered if per_message else n * rounds)

    return work
