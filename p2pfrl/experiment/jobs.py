"""Jobs: many runs of one scenario, in one process or several, each in its own directory.

They can be resumed after any crash.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path

from p2pfrl.core.errors import P2PFRLError, RecordError, ScenarioError
from p2pfrl.results.record import load_summary
from p2pfrl.scenario.loader import load, loads
from p2pfrl.scenario.sections import Scenario

_INTERRUPT = "interrupt"  # `stopped_by` in the summary of an incomplete run
_THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
Progress = Callable[
    [int, int, str], None
]  # finished, of how many, the directory that was finished last


@dataclass(frozen=True)
class Job:
    """One run to do. It can be sent to another process.

    Attributes:
        scenario: the scenario's file or name.
        overrides: values by dotted key, including `seed` and `mode`.
        directory: the run directory to fill.
    """

    scenario: str
    overrides: tuple[tuple[str, object], ...]
    directory: Path

    def load(self) -> Scenario:
        """Return its scenario.

        Raises:
            ScenarioError: it is not valid.
        """
        return load(self.scenario, dict(self.overrides))


@dataclass(frozen=True)
class Finished:
    """A job that is done, or that failed with `error`.

    `skipped` is set if an earlier run was found complete.
    """

    job: Job
    error: str | None = None
    skipped: bool = False


Execute = Callable[[Job], None]


def execute(job: Job) -> None:
    """Run one job and save its record.

    Raises:
        KeyboardInterrupt: the user interrupted the run.
    """
    from p2pfrl.experiment.run import simulate

    record = simulate(job.load(), out=job.directory)
    if record.summary.get("stopped_by") == _INTERRUPT:
        raise KeyboardInterrupt


def is_complete(job: Job) -> bool:
    """Whether the job's directory has a finished run of exactly its scenario."""
    try:
        summary = load_summary(job.directory)
        done = loads(
            (job.directory / "scenario.toml").read_bytes(),
            source=str(job.directory / "scenario.toml"),
        )
    except (RecordError, ScenarioError, OSError):
        return False
    return summary.get("stopped_by") != _INTERRUPT and done == job.load()


def run_all(
    jobs: Sequence[Job],
    *,
    workers: int = 1,
    resume: bool = False,
    overwrite: bool = False,
    execute: Execute = execute,
    progress: Progress | None = None,
) -> tuple[Finished, ...]:
    """Run `jobs` and return their results in the given order.

    A failed job does not stop the others.

    Every scenario is validated before the first run starts.

    Args:
        jobs: jobs with different directories.
        workers: number of processes; with 1 the jobs run in this process, one after the other.
        resume: skip jobs whose directory has a finished run of the same scenario.
        overwrite: repeat finished runs. Without it and `resume`, directories must be empty.
        execute: runs one job; a function that another process can import.
        progress: called after every job.

    Raises:
        ScenarioError: a scenario is not valid, or a directory is not empty.
    """
    if len({job.directory for job in jobs}) != len(jobs):
        raise P2PFRLError(
            "two runs would share a directory: every combination of settings and seed must differ"
        )
    for job in jobs:
        job.load()
    used = [
        job.directory for job in jobs if job.directory.is_dir() and any(job.directory.iterdir())
    ]
    if used and not resume and not overwrite:
        count = f"expected none of these {len(jobs)} runs, got {len(used)}, such as {used[0].name}"
        fix = "--resume keeps those that are complete, --overwrite runs all again"
        raise ScenarioError([f"{used[0].parent}: {count}; {fix}"])
    finished = {job: Finished(job, skipped=True) for job in jobs if resume and is_complete(job)}
    todo = [job for job in jobs if job not in finished]
    runs = (
        _here(todo, execute) if workers <= 1 or len(todo) <= 1 else _spread(todo, workers, execute)
    )
    for result in runs:
        finished[result.job] = result
        if progress is not None:
            progress(len(finished), len(jobs), str(result.job.directory))
    return tuple(finished[job] for job in jobs)


def _here(jobs: Sequence[Job], execute: Execute) -> Iterator[Finished]:
    for job in jobs:
        try:
            execute(job)
        except P2PFRLError as error:
            yield Finished(job, error=str(error))
        else:
            yield Finished(job)


def _spread(jobs: Sequence[Job], workers: int, execute: Execute) -> Iterator[Finished]:
    """Run jobs in separate processes.

    An interrupt or a killed process leaves finished runs complete.
    """
    with (
        one_thread_each(),
        ProcessPoolExecutor(min(workers, len(jobs)), get_context("spawn")) as pool,
    ):
        pending: dict[Future[None], Job] = {pool.submit(execute, job): job for job in jobs}
        try:
            for future in as_completed(pending):
                yield _outcome(future, pending[future])
        finally:
            pool.shutdown(cancel_futures=True)


@contextmanager
def one_thread_each() -> Iterator[None]:
    """Let processes started inside use one thread for linear algebra, unless the user set another.

    The libraries read the setting from the environment when they are loaded, so the new process
    itself cannot change it.
    """
    added = {name for name in _THREADS if name not in os.environ}
    os.environ.update(dict.fromkeys(added, "1"))
    try:
        yield
    finally:
        for name in added:
            os.environ.pop(name, None)


def _outcome(future: Future[None], job: Job) -> Finished:
    try:
        future.result()
    except BrokenProcessPool:
        return Finished(
            job,
            error="its process was killed (out of memory?); run again with --resume to do the rest",
        )
    except P2PFRLError as error:
        return Finished(job, error=str(error))
    return Finished(job)


def slug(settings: Mapping[str, object]) -> str:
    """Return a directory name for some settings, such as "lr-0.001_topology-ring".

    >>> slug({"learner.lr": 0.001, "mode": "central"})
    'lr-0.001_mode-central'
    """
    words = (f"{key.rpartition('.')[2]}-{value}" for key, value in settings.items())
    return "_".join(re.sub(r"[^A-Za-z0-9.+-]+", "-", word).strip("-.") for word in words)
