"""Benchmark of worker processes: two that train against one, by the clock on the wall."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from statistics import median

from p2pfrl.bench.engines import best
from p2pfrl.bench.measure import Result
from p2pfrl.build.world import build
from p2pfrl.experiment.workforce import employed, workers_of
from p2pfrl.learning.environments import RULES as ENVIRONMENTS
from p2pfrl.learning.environments.vary import columns
from p2pfrl.learning.executors import Executor
from p2pfrl.learning.learners.base import EngineName, Stack, Task
from p2pfrl.learning.learners.ppo import PPO
from p2pfrl.learning.trainer import Trainer
from p2pfrl.learning.workers import Workers
from p2pfrl.scenario import loads

_COUNT, _GOAL = 2, 1.8
_CLOCK = Path("/proc/self/schedstat")
"""Nanoseconds of CPU of a process: on Linux alone."""
_RUN = """
name = "workers"
agents = {agents}
stop = {{rounds = 1_000_000}}
environment = {{id = "cartpole", instances = 4}}
evaluation = {{episodes = 0}}
learner = {{kind = "ppo", shared_trunk = true}}
network = {{latency = {{kind = "lognormal", median = "20ms", sigma = 0.5}}}}
"""


def bench(quick: bool) -> Iterator[Result]:
    """Yield the wall time of updates in this thread over that in two processes, and their CPU.

    Updates are those of 1024 agents with PPO on CartPole, d = 4675; then whole simulated rounds,
    with messages, mixing and record, which go on meanwhile.
    """
    n, turns = (8, 1) if quick else (1024, 3)
    engine, note = best()
    trainer = Trainer(stack_of(n, engine), n)
    workers = workers_of(trainer, partial(stack_of, n, engine), _COUNT)
    try:
        workers.start()
        here, there = _updates(trainer, (trainer.executor, workers), turns, workers)
    finally:
        workers.close()
    against = f"updates in one process; at least {_GOAL} on two free cores{note}"
    yield Result("workers_2_vs_1_n1024", here[0] / there[0], "x", against)
    if _CLOCK.exists():
        against = "CPU of updates in one process; at most 1.12"
        yield Result("workers_2_vs_1_cpu_n1024", there[1] / here[1], "x", against)
    alone, together = (_rounds(n, count, 1 if quick else 4) for count in (1, _COUNT))
    against = (
        f"rounds in one process, {alone / n * 1e6:.0f} us per agent; messages and record included"
    )
    yield Result("workers_2_vs_1_rounds_n1024", alone / together, "x", against)


def stack_of(n: int, engine: EngineName) -> Stack:
    """Return the learner of n agents on CartPole."""
    problem = ENVIRONMENTS["cartpole"]()
    table = problem.physics(1, range(n), columns(problem, {}, 1, range(n), n))
    return PPO(shared_trunk=True).prepare(Task(1, n, problem.simulator(table, 4, 1), engine=engine))


def _updates(
    trainer: Trainer, executors: Sequence[Executor], turns: int, workers: Workers
) -> list[tuple[float, float]]:
    """Return the median seconds of one update of all agents, and of CPU, by each executor."""
    spent: list[list[tuple[float, float]]] = [[] for _ in executors]
    for turn in range(turns + 1):
        for executor, own in zip(executors, spent, strict=True):
            trainer.executor = executor
            start, used = time.perf_counter(), _used(workers)
            trainer.update(trainer.agents)
            if turn:  # the first one makes room in memory
                own.append((time.perf_counter() - start, _used(workers) - used))
    return [(median(wall for wall, _ in own), median(cpu for _, cpu in own)) for own in spent]


def _used(workers: Workers) -> float:
    """Return the seconds of CPU of this process and the workers."""
    used = time.process_time()
    for pid in workers.pids:
        if _CLOCK.exists():
            used += int(Path(f"/proc/{pid}/schedstat").read_text("ascii").split()[0]) * 1e-9
    return used


def _rounds(n: int, count: int, rounds: int) -> float:
    """Return the seconds of a simulated round, without the first."""
    scenario, times = loads(_RUN.format(agents=n)), list[float]()

    def on_row(row: object) -> bool:
        times.append(time.perf_counter())
        if len(times) > rounds:
            world.simulation.stop()
        return len(times) > rounds

    with build(scenario, on_row=on_row) as world, employed(count, scenario, world.trainer):
        world.simulation.run()
    return (times[-1] - times[0]) / (len(times) - 1)
