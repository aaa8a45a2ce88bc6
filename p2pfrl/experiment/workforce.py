"""The worker processes of a simulated run: how many, from when on, and what is said about them."""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Literal

from p2pfrl.build.training import trained
from p2pfrl.build.world import World
from p2pfrl.core.children import imported, one_thread_each, preloaded
from p2pfrl.core.errors import ScenarioError, ScenarioWarning
from p2pfrl.learning.executors import Executor
from p2pfrl.learning.growing import Growing
from p2pfrl.learning.workers import Greeting, Shapes, Workers, WorkersError
from p2pfrl.scenario import Scenario

Count = int | Literal["auto"]
"""Number of worker processes; 1: none but this process; auto: one per core, where it pays."""
_ROOMS = ("core", "learning", "exchange", "consensus", "scenario", "build", "catalog")
"""Rooms whose modules, as far as this process has imported them, a worker process needs."""


def cores() -> int:
    """Return how many cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def checked(count: Count) -> Count:
    """Return a number of workers, or "auto".

    Raises:
        ScenarioError: it is neither.
    """
    if count == "auto" or (type(count) is int and 1 <= count <= 1024):
        return count
    raise ScenarioError([f'workers: expected "auto" or a number from 1 to 1024, got {count!r}'])


@dataclass
class Workforce:
    """Who trains in a run.

    Attributes:
        workers: the processes; None: this one alone.
        notes: what has been said about them.
    """

    workers: Workers | None = None
    notes: list[str] = field(default_factory=list)

    @property
    def count(self) -> int:
        """Processes that train at the end of a run."""
        return 1 if self.workers is None else self.workers.workers

    def say(self, text: str) -> None:
        """Say something, once."""
        if text not in self.notes:
            self.notes.append(text)
            warnings.warn(f"workers: {text}", ScenarioWarning, stacklevel=2)


def why_not(scenario: Scenario, world: World) -> str:
    """Return why the updates of a run can be computed in one process only; "" if they need not."""
    makes = scenario.makes
    for problem in (make.environment.rule for make in makes if make.environment is not None):
        if not problem.is_saved_whole:
            return "environments of this kind keep what no array holds, so that they stay in one process"
    if not world.trainer.stack.traits.is_saved_whole:
        return "this learner keeps what no array holds, so that it stays in one process"
    return ""


@contextmanager
def employed(count: Count, scenario: Scenario, world: World) -> Iterator[Workforce]:
    """Let processes compute the updates of a world in the block; they end with it.

    Where they cannot, or where "auto" finds that they would not pay, this process trains, and
    `Workforce.notes` says why.

    Args:
        count: how many.
        scenario: what runs.
        world: built from it, before it runs.
    """
    force = Workforce()
    trainer, before = world.trainer, world.trainer.executor
    most = cores() if count == "auto" else count
    reason = why_not(scenario, world) if most > 1 else ""
    if most > 1 and reason and count != "auto":
        force.say(f"{reason}: training goes on in this one alone")
    try:
        if count == "auto" and not reason and min(most, scenario.agents) > 1:
            trainer.executor = _growing(force, scenario, world, most)
        elif count != "auto" and not reason and most > 1:
            trainer.executor = _now(force, scenario, world, most) or before
        yield force
    finally:
        trainer.executor = before
        if force.workers is not None:
            for failure, times in force.workers.failures.items():
                force.say(f"{times} chunks were computed again in the run's own process: {failure}")
            force.workers.close()


def _growing(force: Workforce, scenario: Scenario, world: World, most: int) -> Executor:
    """Return what starts processes when they pay."""

    def warm() -> None:
        from multiprocessing import forkserver

        with one_thread_each():
            preloaded(_preload(world))
            forkserver.ensure_running()

    def grow() -> Executor | None:
        found = _now(force, scenario, world, most)
        if found is not None:
            force.say(
                f"training goes on in {most} worker processes, one for each core; results do not depend on it"
            )
        return found

    return Growing(world.trainer.update_batch, warm, grow)


def _now(force: Workforce, scenario: Scenario, world: World, count: int) -> Workers | None:
    """Start processes; return None, and say why, if they cannot train."""
    trainer, traits = world.trainer, world.trainer.stack.traits
    try:
        shapes = Shapes.of(traits.chunk, traits.members, trainer.parameters, trainer.state)
        workers = Workers(
            partial(trained, scenario),
            Greeting.of(trainer.stack),
            shapes,
            count,
            preload=_preload(world),
            note=force.say,
        )
        workers.start()
    except WorkersError as error:
        force.say(f"{error}: training goes on in this process alone")
        return None
    force.workers = workers
    return workers


def _preload(world: World) -> tuple[str, ...]:
    """Return the modules that processes import before they are forked: what this one has."""
    needs_torch = "torch" in sys.modules or world.trainer.stack.traits.engine == "torch"
    has_network = world.trainer.stack.layout.dtype == "float32"
    return (*imported(*_ROOMS), "torch") if needs_torch and has_network else imported(*_ROOMS)
