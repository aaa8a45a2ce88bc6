"""Benchmark of the native worlds: steps of 1,024 agents, the environment alone."""

from __future__ import annotations

from collections.abc import Iterator
from statistics import median

import numpy as np
from numpy.typing import NDArray

from p2pfrl.bench.measure import Result, Work, rate
from p2pfrl.learning.environments import RULES
from p2pfrl.learning.environments.base import Spec
from p2pfrl.learning.environments.vary import columns

WORLDS = ("signals", "microgrid", "glucose", "maintenance", "portfolio", "fleet")
_LEAST = 1_000_000


def bench(quick: bool) -> Iterator[Result]:
    """Yield the steps per CPU second of every world, with random actions."""
    for name in WORLDS:
        found = median(
            rate(lambda name=name: steps(name, 2 if quick else 40))  # type: ignore[misc]
            for _ in range(1 if quick else 5)
        )
        against = f"CPU time of one core; at least {_LEAST:,}"
        yield Result(f"world_{name}_n1024", found, "steps/s", against)


def steps(name: str, count: int) -> Work:
    """Return `count` steps of 1,024 agents with a copy each; they return their number."""
    problem, n = RULES[name](), 1024
    table = problem.physics(1, range(n), columns(problem, {}, 1, range(n), n))
    simulator = problem.simulator(table, 1, 1)
    state = simulator.init(range(n))
    simulator.begin(range(n), [0] * n)
    chosen = _actions(simulator.spec, count + 1, n)
    simulator.step(state, chosen[0])

    def work() -> float:
        for action in chosen[1:]:
            simulator.step(state, action)
        return float(n * count)

    return work


def _actions(spec: Spec, count: int, n: int) -> NDArray[np.generic]:
    rng = np.random.default_rng(1)
    if spec.actions:
        return rng.integers(spec.actions, size=(count, n, 1))
    low, high = np.array(spec.action_low), np.array(spec.action_high)
    return rng.uniform(low, high, (count, n, 1, len(low))).astype(np.float32)
