"""A stand-in for a simulation, where only the bookkeeping around it is tested.

Other processes import it.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

from factory import record

from p2pfrl.core.errors import P2PFRLError
from p2pfrl.experiment.jobs import Job
from p2pfrl.results.record import save
from p2pfrl.scenario.render import resolved

SCENARIO = """name = "bowl"
agents = 4
[stop]
rounds = 6
[learner]
kind = "quadratic"
dimension = 2
lr = 0.05
"""


def write_scenario(folder: Path) -> Path:
    path = folder / "bowl.toml"
    path.write_text(SCENARIO)
    return path


def fake(job: Job) -> None:
    """Save a synthetic record of the job's scenario.

    The job's folder notes that it was executed.
    """
    scenario = job.load()
    run = record(scenario.agents, rounds=6, mode=scenario.mode, seed=scenario.seed, target=100.0)
    job.directory.parent.mkdir(parents=True, exist_ok=True)
    with (job.directory.parent / "executed.log").open("a") as log:
        log.write(f"{job.directory.name} {os.getpid()}\n")
    save(replace(run, scenario=resolved(scenario)), job.directory)


def fails_on_seed_2(job: Job) -> None:
    """Like `fake`, but seed 2 fails."""
    if job.load().seed == 2:
        raise P2PFRLError("it went wrong")
    fake(job)


def raises_on_seed_2(job: Job) -> None:
    """Like `fake`, but at seed 2 the user's code raises what cannot be pickled."""
    if job.load().seed == 2:
        raise UnpicklableError("gravity", lambda: None)
    fake(job)


class UnpicklableError(Exception):
    """An error with two arguments, one of them a function."""

    def __init__(self, what: str, function: object) -> None:
        super().__init__(what)
        self.function = function


def leaves_on_seed_2(job: Job) -> None:
    """Like `fake`, but at seed 2 the user's code ends the program."""
    if job.load().seed == 2:
        sys.exit(1)
    fake(job)


def deaf(job: Job) -> None:
    """Take a second, whatever interrupts it."""
    before = signal.signal(signal.SIGTERM, signal.SIG_IGN)
    (job.directory.parent / "began").touch()
    time.sleep(1.0)
    signal.signal(signal.SIGTERM, before)


def waits(job: Job) -> None:
    """Note the process in the job's folder, and run until an interrupt."""
    job.directory.mkdir(parents=True, exist_ok=True)
    (job.directory / "process").write_text(str(os.getpid()))
    try:
        threading.Event().wait(100)
    except KeyboardInterrupt:
        (job.directory / "interrupted").touch()
        raise


def dies_on_seed_2(job: Job) -> None:
    """Like `fake`, but at seed 2 the process is gone without a word, as when memory runs out."""
    if job.load().seed == 2:
        os._exit(9)
    fake(job)


def executed(folder: Path) -> list[str]:
    log = folder / "executed.log"
    return sorted(line.split()[0] for line in log.read_text().splitlines()) if log.exists() else []
