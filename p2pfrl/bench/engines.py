"""Benchmarks of the best engine that is here, in one run with the naive loop and the torch path."""

from __future__ import annotations

from collections.abc import Iterator

from p2pfrl.bench.measure import Contestant, Result, medians
from p2pfrl.bench.ppo import stacked, updates, warm
from p2pfrl.learning.learners.a2c import A2C
from p2pfrl.learning.learners.base import EngineName, Learner
from p2pfrl.learning.learners.dqn import DQN
from p2pfrl.learning.native.choice import missing
from p2pfrl.learning.trainer import Trainer

_N64, _N1, _A2C, _DQN = 105, 60, 2.2, 1.4


def ppo(quick: bool) -> Iterator[Result]:
    """Yield the rates of 64 agents and of one against the naive loop, with the same settings."""
    import torch

    from p2pfrl.bench.naive import NaiveAgent

    torch.set_num_threads(1)
    torch.manual_seed(1)
    engine, note = best()
    agents = [NaiveAgent(seed) for seed in range(2)]

    def naive() -> float:
        return sum(agent.update() for agent in agents for _ in range(1 if quick else 6))

    populations = [stacked(n, name) for n in (64, 1) for name in (engine, "torch")]
    ours = [_turn(population, quick, 4096) for population in populations]
    loop, *found = medians([lambda: naive, *ours], turns=1 if quick else 7)
    for n, goal, own, other in ((64, _N64, *found[:2]), (1, _N1, *found[2:])):
        against = (
            f"naive loop, {loop:,.0f} steps/s; torch path {other / loop:.1f}; at least {goal}{note}"
        )
        yield Result(f"engine_ppo_vs_naive_n{n}", own / loop, "x", against)
        yield Result(f"engine_ppo_steps_per_second_n{n}", own, "steps/s", "CPU time of one core")


def a2c(quick: bool) -> Iterator[Result]:
    """Yield the rate of 64 agents with A2C, 8 instances, 16 steps, against the torch path."""
    yield _against_torch("engine_a2c_vs_torch_n64", A2C(ent_coef=0.01), 64, 8, _A2C, quick)


def dqn(quick: bool) -> Iterator[Result]:
    """Yield the rate of 16 agents with DQN, 4 instances, against the torch path."""
    yield _against_torch("engine_dqn_vs_torch_n16", DQN(learn_start=64), 16, 4, _DQN, quick)


def _against_torch(
    name: str, learner: Learner, n: int, instances: int, goal: float, quick: bool
) -> Result:
    import torch

    torch.set_num_threads(1)
    engine, note = best()
    names: tuple[EngineName, EngineName] = (engine, "torch")
    pair = [warm(learner, n, instances, each) for each in names]
    own, other = medians([_turn(one, quick, 4096) for one in pair], turns=1 if quick else 7)
    against = f"torch path, {other:,.0f} steps/s; at least {goal}{note}"
    return Result(name, own / other, "x", against)


def best() -> tuple[EngineName, str]:
    """Return the best engine that is here, and why it is not the native one, in words."""
    why = missing()
    return ("native", "") if why is None else ("torch", f"; no native engine: {why}")


def _turn(population: Trainer, quick: bool, steps: int) -> Contestant:
    """Return updates of a population that are about `steps` steps of all agents or more."""
    count = 1 if quick else max(2, steps * 8 // (256 * len(population.agents)))
    return lambda: updates(population, count)
