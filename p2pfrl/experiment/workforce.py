"""The worker processes of a run, or of a process of one: how many, from when on, what is said."""

from __future__ import annotations

import math
import os
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from multiprocessing import current_process
from pathlib import Path
from typing import Annotated, Literal

from p2pfrl.build.devices import is_elsewhere
from p2pfrl.build.training import trained
from p2pfrl.core.arguments import Kind
from p2pfrl.core.children import imported, one_thread_each, preloaded, withheld
from p2pfrl.core.errors import ScenarioError, ScenarioWarning
from p2pfrl.learning.executors import Executor
from p2pfrl.learning.growing import Growing
from p2pfrl.learning.learners.base import Stack
from p2pfrl.learning.remote import OnCluster
from p2pfrl.learning.trainer import Trainer
from p2pfrl.learning.workers import GUARD, Greeting, Shapes, Workers, WorkersError
from p2pfrl.scenario import Scenario

Count = Annotated[
    int | Literal["auto"],
    Kind('"auto" or a number from 1 to 1024', lambda count: count == "auto" or 1 <= count <= 1024),
]
"""Number of worker processes; 1: none but this process; auto: one per core, where it pays."""
_LEAST = 4
"""Agents per process from which on "auto" starts another one."""
_ROOMS = ("core", "learning", "exchange", "consensus", "scenario", "build", "catalog")
"""Rooms whose modules, as far as this process has imported them, a worker process needs."""


def cores(groups: Path = Path("/sys/fs/cgroup")) -> int:
    """Return how many cores this process may use: those it is bound to, and its share of them.

    Args:
        groups: where Linux tells the share of a container.
    """
    bound = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    try:
        if (groups / "cpu.max").exists():
            quota, period = (groups / "cpu.max").read_text("ascii").split()
        else:
            of = groups / "cpu"
            quota, period = (
                (of / f"cpu.cfs_{name}_us").read_text("ascii") for name in ("quota", "period")
            )
        share = math.ceil(int(quota) / int(period))
    except (OSError, ValueError):  # there is none, or it is "max"
        share = 0
    return min(bound or 1, share) if share > 0 else bound or 1


def _warn(text: str) -> None:
    """Say something of workers as a warning."""
    warnings.warn(f"workers: {text}", ScenarioWarning, stacklevel=3)


@dataclass
class Workforce:
    """Who trains in a run.

    Attributes:
        speak: says something to the user.
        workers: the processes; None: this one alone.
        notes: what has been said about them.
    """

    speak: Callable[[str], None] = _warn
    workers: Workers | OnCluster | None = None
    notes: list[str] = field(default_factory=list)

    @property
    def count(self) -> int:
        """Processes that train at the end of a run."""
        return 1 if self.workers is None else self.workers.workers

    def say(self, text: str) -> None:
        """Say something, once."""
        if text not in self.notes:
            self.notes.append(text)
            self.speak(text)


def why_not(scenario: Scenario, trainer: Trainer) -> str:
    """Return why a trainer's updates can be computed in one process only; "" if they need not."""
    if is_elsewhere(trainer.stack):
        return "a process uses one device, so that updates are computed in one process"
    makes = scenario.makes
    for problem in (make.environment.rule for make in makes if make.environment is not None):
        if not problem.is_saved_whole:
            return "environments of this kind keep what no array holds, so that they stay in one process"
    if not trainer.stack.traits.is_saved_whole:
        return "this learner keeps what no array holds, so that it stays in one process"
    if len(trainer.agents) <= trainer.stack.traits.members:
        return "an update of one agent, or of one shared world, is computed in one process"
    return ""


@contextmanager
def employed(
    count: Count,
    scenario: Scenario,
    trainer: Trainer,
    cluster: str | None = None,
    say: Callable[[str], None] = _warn,
) -> Iterator[Workforce]:
    """Let processes compute the updates of a trainer in the block; they end with it.

    Where they cannot, or where "auto" finds that they would not pay, this process trains, and
    `Workforce.notes` says why.

    Args:
        count: how many.
        scenario: what runs.
        trainer: of the agents that live here, before it runs.
        cluster: address of a Ray cluster whose workers train in place of processes here.
        say: says to the user what `Workforce.notes` gets.

    Raises:
        P2PFRLError: there is no such cluster; or this process is a worker of another run that has
            come here because its script runs as a whole.
    """
    if getattr(current_process(), "_inheriting", False) and count != 1:
        raise ScenarioError([f"workers: {GUARD}"])
    force, before = Workforce(say), trainer.executor
    if cluster is not None:
        with _on_cluster(force, count, scenario, trainer, cluster):
            yield force
        return
    most = min(cores(), -(-len(trainer.agents) // _LEAST)) if count == "auto" else count
    reason = why_not(scenario, trainer) if most > 1 else ""
    if most > 1 and reason and count != "auto":
        force.say(f"{reason}: training goes on in this one alone")
    try:
        if count == "auto" and not reason and most > 1:
            trainer.executor = _growing(force, scenario, trainer, most)
        elif count != "auto" and not reason and most > 1:
            trainer.executor = _now(force, scenario, trainer, most) or before
        yield force
    finally:
        trainer.executor = before
        _end(force)


def _end(force: Workforce) -> None:
    """End the workers of a run, and say what went wrong."""
    if force.workers is None:
        return
    for failure, times in force.workers.failures.items():
        force.say(f"{times} chunks were computed again in the run's own process: {failure}")
    force.workers.close()


@contextmanager
def _on_cluster(
    force: Workforce, count: Count, scenario: Scenario, trainer: Trainer, address: str
) -> Iterator[None]:
    """Let a cluster compute the updates of a trainer in the block."""
    from p2pfrl.experiment.rays import RayCluster, connected

    before = trainer.executor
    with connected(address) as cpus:
        if reason := why_not(scenario, trainer):
            force.say(f"{reason}: training goes on in this one alone")
        else:
            stack = trainer.stack
            most = min(cpus, scenario.agents) if count == "auto" else count
            found = OnCluster(
                RayCluster(scenario, stack.traits.engine), Greeting.of(stack), most, force.say
            )
            try:
                found.start()
            except WorkersError as error:
                force.say(f"{error}: training goes on in this process alone")
            else:
                force.workers = trainer.executor = found
        try:
            yield
        finally:
            trainer.executor = before
            _end(force)


def _growing(force: Workforce, scenario: Scenario, trainer: Trainer, most: int) -> Executor:
    """Return what starts processes when they pay."""

    def warm() -> None:
        from multiprocessing import forkserver

        with one_thread_each(), withheld():
            preloaded(_preload(trainer.stack))
            forkserver.ensure_running()

    def grow() -> Executor | None:
        found = _now(force, scenario, trainer, most)
        if found is not None:
            force.say(
                f"training goes on in {most} processes besides this one; results do not depend on it"
            )
        return found

    return Growing(trainer.update_batch, warm, grow)


def _now(force: Workforce, scenario: Scenario, trainer: Trainer, count: int) -> Workers | None:
    """Start processes; return None, and say why, if they cannot train."""
    try:
        workers = workers_of(trainer, partial(trained, scenario), count, force.say)
        workers.start()
    except WorkersError as error:
        force.say(f"{error}: training goes on in this process alone")
        return None
    force.workers = workers
    return workers


def workers_of(
    trainer: Trainer,
    make: Callable[[], Stack],
    count: int,
    note: Callable[[str], None] = lambda text: None,
) -> Workers:
    """Return processes for the updates of a trainer, which have not started.

    Args:
        trainer: whose.
        make: makes its learner in another process.
        count: number of processes.
        note: called with a sentence on a process that died.

    Raises:
        WorkersError: its arrays cannot be shared.
    """
    stack, traits = trainer.stack, trainer.stack.traits
    shapes = Shapes.of(traits.chunk, traits.members, trainer.parameters, trainer.state)
    return Workers(
        make,
        Greeting.of(stack),
        shapes,
        count,
        chunks=-(-len(trainer.agents) // shapes.rows),
        preload=_preload(stack),
        note=note,
    )


def _preload(stack: Stack) -> tuple[str, ...]:
    """Return the modules that processes import before they are forked: what this one has."""
    own = imported(*_ROOMS)
    return (*own, "torch") if stack.traits.uses_torch else own
