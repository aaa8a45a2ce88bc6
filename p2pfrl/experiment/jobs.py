"""Jobs: many runs of one scenario, in one process or several, each in its own directory.

They can be resumed after any crash.
"""

from __future__ import annotations

import os
import re
import signal
import sys
import warnings
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import chain, islice
from multiprocessing.connection import Connection, wait
from pathlib import Path

from p2pfrl.core.causes import FOREIGN, cause
from p2pfrl.core.children import (
    PATIENCE,
    finish,
    follow,
    imported,
    one_thread_each,
    preloaded,
    withheld,
)
from p2pfrl.core.errors import (
    IdleWarning,
    P2PFRLError,
    RecordError,
    ScenarioError,
    ScenarioWarning,
)
from p2pfrl.core.interrupts import INTERRUPTED, raised
from p2pfrl.results.directory import SUMMARY, Content, clear, content_of, reserved
from p2pfrl.results.files import read_bytes
from p2pfrl.results.record import FAILURE, load_summary
from p2pfrl.scenario.checks.notes import is_idle, notes
from p2pfrl.scenario.loader import load, loads
from p2pfrl.scenario.sections import Scenario

_INTERRUPT = "interrupt"
_INCOMPLETE = (_INTERRUPT, FAILURE)
"""`stopped_by` in the summary of an incomplete run."""
_ROOMS = ("core", "learning", "exchange", "consensus", "scenario", "build", "catalog")
_LOOKED_AT = 4


@dataclass(frozen=True)
class Job:
    """One run to do. It can be sent to another process.

    Attributes:
        scenario: the scenario's file or name.
        overrides: values by dotted key, including `seed` and `mode`.
        directory: the run directory to fill.
        label: what tells its settings apart from those of other jobs; the same for all seeds.
        recipe: the recipe that some of the overrides stand for, "" if none does.
        of_recipe: the keys of those.
    """

    scenario: str
    overrides: tuple[tuple[str, object], ...]
    directory: Path
    label: str = ""
    recipe: str = ""
    of_recipe: tuple[str, ...] = ()

    def load(self) -> Scenario:
        """Return its scenario.

        Raises:
            ScenarioError: it is not valid; what a recipe is to blame for names it.
        """
        try:
            return load(self.scenario, dict(self.overrides))
        except ScenarioError as error:
            if not self.recipe:
                raise
            raise ScenarioError([*map(self._blamed, error.problems)]) from None

    def _blamed(self, problem: str) -> str:
        """Return a problem of a key of the recipe, which is no override of the user's, with it."""
        match = re.match(r"overrides: ([^:\s]+)", problem)
        key = match[1] if match else ""
        if not any(
            f"{key}.".startswith(f"{own}.") or own.startswith(f"{key}.") for own in self.of_recipe
        ):
            return problem
        return problem.replace("overrides:", f"recipe {self.recipe}:", 1)


@dataclass(frozen=True)
class Finished:
    """A job that is done, or that failed with `error`.

    `skipped` is set if an earlier run was found complete.
    """

    job: Job
    error: str | None = None
    skipped: bool = False


Execute = Callable[[Job], None]
Progress = Callable[[int, int, Finished], None]
"""Receives the number of runs that are done, of how many, and the run that ended last."""


def execute(job: Job) -> None:
    """Run one job and save its record.

    Raises:
        KeyboardInterrupt: the user interrupted the run.
    """
    from p2pfrl.experiment.run import simulate

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ScenarioWarning)  # `run_all` has warned once for all
        scenario = job.load()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", IdleWarning)
        record = simulate(scenario, out=job.directory, overwrite=True)
    if record.summary.get("stopped_by") == _INTERRUPT:
        raise KeyboardInterrupt


def is_complete(job: Job) -> bool:
    """Whether the job's directory has a finished run of exactly its scenario."""
    try:
        summary = load_summary(job.directory)
        done = loads(
            read_bytes(job.directory / "scenario.toml"),
            source=str(job.directory / "scenario.toml"),
        )
    except (RecordError, ScenarioError, OSError):
        return False
    return summary.get("stopped_by") not in _INCOMPLETE and done == job.load()


def run_all(
    jobs: Sequence[Job],
    *,
    workers: int = 1,
    resume: bool = False,
    overwrite: bool = False,
    execute: Execute = execute,
    progress: Progress | None = None,
    cluster: str | None = None,
) -> tuple[Finished, ...]:
    """Run `jobs` and return their results in the given order.

    A failed job does not stop the others.

    Every scenario is validated before the first run starts. One that is not valid has failed, and
    warnings name it and what has no effect in the others, before the first run.

    Args:
        jobs: jobs with different directories.
        workers: number of processes; with 1 the jobs run in this process, one after the other.
        resume: skip jobs whose directory has a finished run of the same scenario.
        overwrite: repeat finished runs. Without it and `resume`, directories must be empty.
        execute: runs one job; a function that another process can import.
        progress: called after every job, and for every job that was skipped.
        cluster: address of a Ray cluster that runs the jobs, as many at a time as it has CPUs if
            `workers` is 1; directories are written here.

    Raises:
        ScenarioError: no scenario is valid, or a directory is not empty.
    """
    if len({job.directory for job in jobs}) != len(jobs):
        raise P2PFRLError(
            "two runs would share a directory: every combination of settings and seed must differ"
        )
    refused = _refused(jobs)
    refuse_used(jobs, resume=resume, overwrite=overwrite)
    finished = {
        job.directory: refused.get(job.directory) or Finished(job, skipped=True)
        for job in jobs
        if job.directory in refused or (resume and is_complete(job))
    }
    todo = [job for job in jobs if job.directory not in finished]
    if cluster is not None:
        runs = _on_cluster(todo, workers, cluster)
    elif workers <= 1 or len(todo) <= 1:
        runs = _here(todo, execute)
    else:
        runs = _spread(todo, workers, execute)
    for result in chain(tuple(finished.values()), runs):
        finished[result.job.directory] = result
        if progress is not None:
            done = sum(other.error is None for other in finished.values())
            progress(done, len(jobs), result)
    return tuple(finished[job.directory] for job in jobs)


def _refused(jobs: Sequence[Job]) -> dict[Path, Finished]:
    """Return the jobs whose scenario is not valid, by directory, and warn of them and of notes.

    Raises:
        ScenarioError: no scenario is valid; with every problem.
    """
    found: dict[Path, Finished] = {}
    problems: dict[str, None] = {}
    said: dict[str, list[str]] = {}
    for job in jobs:
        try:
            scenario = job.load()
        except ScenarioError as error:
            found[job.directory] = Finished(job, error=str(error))
            problems |= dict.fromkeys(error.problems)
            said.setdefault(f"left out: {error}", []).append(job.label)
        else:
            for note in filter(is_idle, notes(scenario)):
                said.setdefault(note, []).append(job.label)
    if jobs and len(found) == len(jobs):
        raise ScenarioError([*problems])
    labels = [*dict.fromkeys(job.label for job in jobs)]
    for text, own in said.items():
        is_left_out = text.startswith("left out: ")
        category = ScenarioWarning if is_left_out else IdleWarning
        who = members_in_words([*dict.fromkeys(own)], labels)
        warnings.warn(f"{who}: {text}" if who else text, category, stacklevel=5)
    return found


_MOST_NAMED = 4


def members_in_words(some: Sequence[str], labels: Sequence[str]) -> str:
    """Return whom a note is about, "" if there is one member or it has no label.

    >>> members_in_words(["a", "b"], ["a", "b", "c"]), members_in_words(["a", "b"], ["a", "b"])
    ('a, b', 'all')
    """
    if len(labels) < 2:
        return ""
    if len(some) == len(labels):
        return "all"
    more = f" and {len(some) - _MOST_NAMED} more" if len(some) > _MOST_NAMED else ""
    return ", ".join(some[:_MOST_NAMED]) + more


def refuse_used(jobs: Sequence[Job], *, resume: bool, overwrite: bool) -> None:
    """Refuse directories that are not empty.

    Args:
        jobs: the jobs.
        resume: whether they may have runs, which are kept if they are complete.
        overwrite: whether they may have runs.

    Raises:
        ScenarioError: a directory has a run, or files that are not of a run; or both are wanted.
    """
    if resume and overwrite:
        meant = "--resume keeps those that are complete, --overwrite runs all again"
        raise ScenarioError([f"--resume, --overwrite: expected one of them, got both; {meant}"])
    found = {job.directory: content_of(job.directory) for job in jobs}
    others = [folder for folder, content in found.items() if content is Content.OTHER]
    if others:
        raise ScenarioError(
            [f"{others[0]}: expected a run directory, got other files; give another --out"]
        )
    used = [folder for folder, content in found.items() if content is not Content.NOTHING]
    if used and not resume and not overwrite:
        count = f"expected none of these {len(jobs)} runs, got {len(used)}, such as {used[0].name}"
        fix = "--resume keeps those that are complete, --overwrite runs all again"
        raise ScenarioError([f"{used[0].parent}: {count}; {fix}"])


def _here(jobs: Sequence[Job], execute: Execute) -> Iterator[Finished]:
    for job in jobs:
        yield Finished(job, error=_attempt(execute, job))


def _on_cluster(jobs: Sequence[Job], most: int, address: str) -> Iterator[Finished]:
    """Run jobs on a cluster, and write their directories here."""
    from p2pfrl.experiment.parcel import write_all
    from p2pfrl.experiment.ray_members import members
    from p2pfrl.experiment.rays import connected

    with raised(), connected(address) as cpus:
        for job, found in members([(job, job.load) for job in jobs], cpus if most == 1 else most):
            if isinstance(found, str):
                yield Finished(job, error=found)
                continue
            with reserved(job.directory, overwrite=True):
                clear(job.directory)
                write_all(found, job.directory, SUMMARY)
            yield Finished(job)


def _attempt(execute: Execute, job: Job) -> str | None:
    """Run a job; return why it failed, or None."""
    try:
        execute(job)
    except P2PFRLError as error:
        return str(error)
    except FOREIGN as error:
        return cause(error)
    return None


def _spread(jobs: Sequence[Job], workers: int, execute: Execute) -> Iterator[Finished]:
    """Run jobs in separate processes.

    If a process is killed, its job has failed, and another process takes its place. No process is
    left when the block ends, however it ends.
    """
    waiting, pool = deque(jobs), list[_Worker]()
    preload = _preload(jobs)
    with one_thread_each(), raised():
        try:
            while waiting or any(worker.job for worker in pool):
                while waiting and len(pool) < workers:
                    with withheld():
                        pool.append(_Worker(execute, preload))
                for worker in pool:
                    if waiting and worker.job is None:
                        worker.give(waiting.popleft())
                ready = wait([worker.pipe for worker in pool if worker.job])
                for worker in [worker for worker in pool if worker.pipe in ready]:
                    result = worker.take()
                    if not worker.is_alive:
                        pool.remove(worker)
                    yield result
        finally:
            for worker in pool:
                worker.end()
            for worker in pool:
                worker.join()


def _preload(jobs: Sequence[Job]) -> tuple[str, ...]:
    """Return the modules that processes import before they are forked: torch only if it is used.

    The first few scenarios that differ in more than their seed say whether it is.
    """
    from p2pfrl.scenario.bind import outline

    first = {job.label: job for job in reversed(jobs)}
    needs_torch = False
    for job in islice(reversed(first.values()), _LOOKED_AT):
        with suppress(P2PFRLError), warnings.catch_warnings():
            warnings.simplefilter("ignore", ScenarioWarning)
            needs_torch |= outline(job.load()).traits.uses_torch
    own = ("p2pfrl.experiment.run", *imported(*_ROOMS))
    return (*own, "torch") if needs_torch else own


class _Worker:
    """A process that runs one job after another. It starts with signals `withheld`.

    Attributes:
        pipe: to the process; it is ready when the job has ended.
        job: the job that it runs.
        is_alive: whether it can take another job.
    """

    def __init__(self, execute: Execute, preload: Sequence[str]) -> None:
        context = preloaded(preload)
        self.pipe, other = context.Pipe()
        self.job: Job | None = None
        self.is_alive = True
        self._process = context.Process(target=_work, args=(other, execute, dict(os.environ)))
        self._process.start()
        other.close()

    def give(self, job: Job) -> None:
        """Let it run a job."""
        self.job = job
        with suppress(OSError):  # `take` reports a process that was killed
            self.pipe.send(job)

    def take(self) -> Finished:
        """Return the result of the job, which has ended."""
        assert self.job is not None
        job, self.job = self.job, None
        try:
            return Finished(job, error=self.pipe.recv())
        except (EOFError, OSError):
            self.is_alive = False
            self.join()
            return Finished(job, error=_death(self._process.exitcode))

    def end(self) -> None:
        """Let it end, or interrupt it if it runs a job; if that is lost, it ends after the job."""
        if self.job is not None:
            self._process.terminate()
        self.pipe.close()

    def join(self) -> None:
        """Wait for its end; kill it if it does not come."""
        self._process.join(PATIENCE)
        self._process.kill()
        self._process.join()
        self.pipe.close()


def _work(pipe: Connection, execute: Execute, environment: Mapping[str, str]) -> None:
    """Run jobs until the parent has none left; the main function of a process."""
    try:
        follow(environment)
        while True:
            pipe.send(_attempt(execute, pipe.recv()))
    except (EOFError, OSError):
        finish()
    except KeyboardInterrupt:
        finish()
        sys.exit(INTERRUPTED)


def _death(code: int | None) -> str:
    again = "run again with --resume to do the rest"
    if code is None or code >= 0:
        return f"its process ended with code {code}; {again}"
    name = signal.Signals(-code).name if -code in set(signal.Signals) else str(-code)
    reason = "; the system does so when memory runs out" if -code == signal.SIGKILL else ""
    return f"its process was killed by {name}{reason}; {again}"


def slug(settings: Mapping[str, object]) -> str:
    """Return a directory name for some settings, such as "lr-0.001_topology-ring".

    >>> slug({"learner.lr": 0.001, "mode": "central"})
    'lr-0.001_mode-central'
    """
    words = (f"{key.rpartition('.')[2]}-{value}" for key, value in settings.items())
    return "_".join(re.sub(r"[^A-Za-z0-9.+-]+", "-", word).strip("-.") for word in words)
