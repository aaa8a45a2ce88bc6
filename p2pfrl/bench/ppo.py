"""Benchmark of PPO: the stacked learner against the naive loop, and 1024 agents against 64."""

from __future__ import annotations

from collections.abc import Iterator

from p2pfrl.bench.measure import Result, Work, rates
from p2pfrl.learning.environments import RULES as ENVIRONMENTS
from p2pfrl.learning.environments.vary import columns
from p2pfrl.learning.learners.base import EngineName, Learner, Task
from p2pfrl.learning.learners.ppo import PPO
from p2pfrl.learning.trainer import Trainer

_SPEEDUP, _FLATNESS = 25, 0.8


def versus_naive(quick: bool) -> Iterator[Result]:
    """Yield environment steps per CPU second of 64 agents against the naive loop.

    Settings and sizes are equal.
    """
    import torch

    from p2pfrl.bench.naive import NaiveAgent

    torch.set_num_threads(1)
    torch.manual_seed(1)
    agents = [NaiveAgent(seed) for seed in range(2)]
    population = stacked(64)

    def naive() -> float:
        return sum(agent.update() for agent in agents for _ in range(1 if quick else 8))

    ours, theirs = rates(
        lambda: updates(population, 1 if quick else 8), lambda: naive, turns=1 if quick else 7
    )
    against = f"naive loop, {theirs:,.0f} steps/s; at least {_SPEEDUP}"
    yield Result("ppo_vs_naive_n64", ours / theirs, "x", against)
    yield Result("ppo_steps_per_second_n64", ours, "steps/s", "CPU time of one core")


def flatness(quick: bool) -> Iterator[Result]:
    """Yield the rate at 1024 agents over the rate at 64."""
    small, large = stacked(64), stacked(128 if quick else 1024)
    many, few = rates(
        lambda: updates(large, 1),
        lambda: updates(small, 1 if quick else 16),
        turns=1 if quick else 7,
    )
    yield Result(
        "ppo_flatness_n64_n1024",
        many / few,
        "x",
        f"64 agents, {few:,.0f} steps/s; at least {_FLATNESS}",
    )


def stacked(n: int, engine: EngineName = "torch") -> Trainer:
    """Return n agents on CartPole with a shared trunk (d = 4675), 4 instances x 64 steps, warm."""
    trainer = warm(PPO(shared_trunk=True), n, 4, engine)
    assert trainer.stack.layout.size == 4675
    return trainer


def warm(learner: Learner, n: int, instances: int, engine: EngineName) -> Trainer:
    """Return n agents on CartPole after one update."""
    problem = ENVIRONMENTS["cartpole"]()
    table = problem.physics(1, range(n), columns(problem, {}, 1, range(n), n))
    task = Task(1, n, problem.simulator(table, instances, 1), engine=engine)
    trainer = Trainer(learner.prepare(task), n)
    trainer.update(range(n))
    return trainer


def updates(trainer: Trainer, count: int) -> Work:
    """Return `count` updates of all agents; they return the number of environment steps."""

    def work() -> float:
        return sum(
            update.env_steps
            for _ in range(count)
            for update in trainer.update(trainer.agents).values()
        )

    return work
