"""Benchmark of shared worlds alone: steps of their agents, with random actions and no learning."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from statistics import median

import numpy as np

from p2pfrl.bench.measure import Result, Work, rate
from p2pfrl.learning.environments import RULES
from p2pfrl.learning.environments.shared import SharedEnvironment
from p2pfrl.learning.environments.vary import columns


def bench(quick: bool) -> Iterator[Result]:
    """Yield the steps of agents per CPU second, one instance each, of every shared world."""
    n, steps, turns = (64, 3, 1) if quick else (1024, 50, 5)
    speeds = {}
    for name, cls in RULES.items():
        if issubclass(cls, SharedEnvironment):
            environment = cls()
            agents = n - n % environment.spec.members
            works = partial(playing, environment, agents, steps)
            speeds[name] = median(rate(works) for _ in range(turns))
    slowest = min(speeds, key=speeds.__getitem__)
    against = "random actions; bound: 400,000"
    worst = f"{slowest}, the slowest; {against}"
    yield Result(f"shared_worlds_n{n}", speeds[slowest], "agent-steps/s", worst)
    for name, speed in speeds.items():
        yield Result(f"shared_{name}_n{n}", speed, "agent-steps/s", against)


def playing(environment: SharedEnvironment, n: int, steps: int) -> Work:
    """Return the work of stepping worlds of n agents, which returns the steps of its agents."""
    agents = range(n)
    table = environment.physics(1, agents, columns(environment, {}, 1, agents, n))
    simulator = environment.simulator(table, 1, 1)
    state = simulator.init(agents)
    simulator.begin(agents, [0] * n)
    action = np.random.default_rng(0).integers(environment.spec.actions, size=(steps + 1, n, 1))
    simulator.step(state, action[0])

    def work() -> float:
        for chosen in action[1:]:
            simulator.step(state, chosen)
        return float(n * steps)

    return work
