"""Benchmarks of what surrounds learning: the evaluation, and the whole command of one scenario."""

from __future__ import annotations

import resource
import subprocess
import sys
import tracemalloc
from collections.abc import Iterator
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

from p2pfrl.bench.engines import best
from p2pfrl.bench.measure import Result, Work, rate
from p2pfrl.bench.ppo import updates
from p2pfrl.build.world import build
from p2pfrl.learning.environments import RULES as ENVIRONMENTS
from p2pfrl.learning.environments.vary import columns
from p2pfrl.learning.learners.base import Task
from p2pfrl.learning.learners.ppo import PPO
from p2pfrl.learning.trainer import Trainer
from p2pfrl.scenario import loads

_ROUNDS, _EPISODES = 3, 10
_EVALUATION, _COMMAND, _KILOBYTES = 0.4, 2.5, 170
_RUN = """
name = "memory"
agents = {agents}
stop = {{rounds = 3}}
environment = {{id = "cartpole", instances = 1}}
evaluation = {{episodes = 0}}
learner = {{kind = "ppo", steps = 16, shared_trunk = true, num_minibatches = 1, update_epochs = 1}}
"""


def evaluation(quick: bool) -> Iterator[Result]:
    """Yield the CPU time of an evaluation of 1024 agents over that of the rounds before it.

    Ten greedy episodes of CartPole each, after three rounds of PPO with 256 steps.
    """
    n, episodes = (8, 2) if quick else (1024, _EPISODES)
    engine, note = best()
    problem = ENVIRONMENTS["cartpole"]()
    table = problem.physics(1, range(n), columns(problem, {}, 1, range(n), n))
    task = Task(
        1, n, problem.simulator(table, 4, 1), problem.simulator(table, episodes, 1), engine=engine
    )

    spent = list[float]()

    def parts() -> float:
        trainer = Trainer(PPO(shared_trunk=True).prepare(task), n)

        def evaluated() -> Work:
            def work() -> float:
                found = trainer.stack.evaluator.evaluate(
                    trainer.agents, trainer.parameters, episodes, 1
                )
                assert found is not None
                return 1.0

            return work

        trained = rate(lambda: _once(updates(trainer, _ROUNDS)))
        speed = rate(evaluated)
        spent.append(1000.0 / speed / n)
        return trained / speed

    value = median(parts() for _ in range(1 if quick else 3))
    against = f"{_ROUNDS} rounds of training; at most {_EVALUATION}{note}"
    yield Result(f"evaluation_vs_{_ROUNDS}_rounds_n1024", value, "x", against)
    text = f"CPU time of one core, {episodes} greedy episodes of CartPole"
    yield Result("evaluation_per_agent_n1024", median(spent), "ms", text)


def command(quick: bool) -> Iterator[Result]:
    """Yield the CPU time of `p2pfrl scenario ring_16` over that of `import torch`."""
    short = ["--set", "stop.rounds=1", "--set", "evaluation.episodes=1"] if quick else []
    spent: dict[str, list[float]] = {"torch": [], "ring_16": []}
    with TemporaryDirectory() as home:
        for turn in range(1 if quick else 3):
            out = str(Path(home, str(turn)))
            words = ["-m", "p2pfrl", "scenario", "ring_16", "--quiet", "--out", out, *short]
            for name, program in (("torch", ["-c", "import torch"]), ("ring_16", words)):
                before = _children()
                subprocess.run([sys.executable, *program], capture_output=True, check=True)
                spent[name].append(_children() - before)
    base = median(spent["torch"])
    against = f"python -c 'import torch', {base:.2f} s of CPU; at most {_COMMAND}{best()[1]}"
    yield Result("ring_16_vs_import_torch", median(spent["ring_16"]) / base, "x", against)


def memory(quick: bool) -> Iterator[Result]:
    """Yield the peak of Python's and numpy's memory of a whole run, per agent with d = 4675."""
    n = 16 if quick else 256
    text = _RUN.format(agents=n)
    build(loads(text, {"agents": 4}), on_row=lambda row: False).simulation.run()  # imports
    tracemalloc.start()
    build(loads(text), on_row=lambda row: False).simulation.run()
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    against = f"19 KB a vector; at most {_KILOBYTES}"
    yield Result("kilobytes_per_agent_d4675", peak / n / 1000, "KB", against)


def _once(work: Work) -> Work:
    """Return work that counts once, whatever its amount."""

    def counted() -> float:
        work()
        return 1.0

    return counted


def _children() -> float:
    """Return the CPU seconds of the processes that have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime
