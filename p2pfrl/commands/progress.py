"""Runs of the command line: progress on stderr, a summary on stdout, figures and a report."""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol

from p2pfrl.build.estimate import amount, available, what_is_short
from p2pfrl.build.pace import pace, what_takes_long, with_environments
from p2pfrl.build.preview import needs
from p2pfrl.commands.failures import as_typed
from p2pfrl.commands.notes import note
from p2pfrl.commands.single import Single
from p2pfrl.commands.summaries import conclude
from p2pfrl.core.errors import AgentError, RecordError
from p2pfrl.core.interrupts import explained
from p2pfrl.experiment.jobs import Finished
from p2pfrl.experiment.run import simulate
from p2pfrl.experiment.workforce import Count
from p2pfrl.results.directory import (
    FIGURES,
    RUNS,
    Content,
    content_of,
    dropped_if_empty,
    new_directory,
)
from p2pfrl.results.report import report
from p2pfrl.results.trackers import Log, require
from p2pfrl.scenario import Scenario, hash8

INTERVAL = 5.0
"""Seconds between plain lines of progress."""
_LONG = 60.0
"""Seconds of a run from which on it is told before what it takes, and how much is left."""


Rows = Callable[[Mapping[str, float]], None]
"""Receives every new row of metrics."""


class Watcher(Protocol):
    """Receives every new row of metrics, and what is done between two of them."""

    def __call__(self, row: Mapping[str, float], /) -> None:
        """Receive a row."""

    def working(self, what: str) -> None:
        """Receive what is done now, at every step of an environment whose steps are slow."""


def run_scenario(
    scenario: Scenario,
    out: Path | None,
    *,
    trace: bool,
    quiet: bool,
    as_json: bool,
    resuming: bool = False,
    overwrite: bool = False,
    log: str | None = None,
    live: bool = False,
    draws: bool = True,
    workers: Count = 1,
    address: str | None = None,
) -> Mapping[str, Any]:
    """Run a scenario, write its record, figures and report, print the summary, and return it.

    Args:
        scenario: the scenario.
        out: the run directory; None for a new one in ./runs.
        trace: whether to keep every event.
        quiet: whether to show no progress.
        as_json: whether to print the summary as JSON.
        resuming: whether to continue from the last checkpoint in `out`.
        overwrite: whether to replace a run in `out`.
        log: name of a tracker that gets the run; one that continues is logged at its end.
        live: whether a page in the browser shows the run.
        draws: whether to draw figures and write the report.
        workers: number of processes that train, or "auto".
        address: of a Ray cluster in place of this machine.
    """
    if log is not None:
        require(log)
    directory = out or run_directory(scenario)
    with dropped_if_empty(directory):
        if not resuming:
            price(scenario, directory, draws=draws)
        tracker = None if log is None else Log(log, directory, directory.name)
        with (
            live_page(directory, live),
            watching(scenario, directory, quiet=quiet) as watcher,
            _resumable(directory),
        ):
            record = simulate(
                scenario,
                out=directory,
                progress=watcher if resuming else both(watcher, tracker),
                working=None if watcher is None else watcher.working,
                trace=trace,
                resuming=resuming,
                overwrite=overwrite,
                workers=workers,
                cluster=address,
            )
    summary = record.summary
    further = f"to go on: p2pfrl scenario --resume {directory}"
    page = None
    was_interrupted = summary["stopped_by"] == "interrupt"
    if draws and not was_interrupted:
        page = _page_of(directory)
    if tracker is not None:
        tracker.finish(record, directory / FIGURES)
    if was_interrupted and not quiet:
        print(further, file=sys.stderr, flush=True)
    with explained(f"interrupted; {further if was_interrupted else 'the run is done and saved'}"):
        conclude(record, directory, page, as_json=as_json)
    return summary


def live_page(directory: Path, wanted: bool) -> AbstractContextManager[None]:
    """Serve a page of a run in the block, if it is wanted, and print its address.

    Raises:
        P2PFRLError: packages are missing, or the page did not start.
    """
    if not wanted:
        return nullcontext()
    from p2pfrl.watch.beside import page_beside
    from p2pfrl.watch.serve import require_live

    require_live()
    return page_beside([directory], lambda line: print(line, file=sys.stderr, flush=True))


def both(first: Rows | None, second: Rows | None) -> Rows | None:
    """Return what passes rows to both; None if there is neither."""
    if first is None or second is None:
        return first or second

    def passed(row: Mapping[str, float], /) -> None:
        first(row)
        second(row)

    return passed


def price(scenario: Scenario, directory: Path, *, draws: bool) -> None:
    """Say before a run what it needs that is long or not there, and its environments, if slow."""
    try:
        found = pace(scenario, tell=note)
    except AgentError:
        return  # the run says what is wrong, or goes on
    if found is not None and (what := what_takes_long(scenario, found)):
        note(what)
    needed = needs(scenario, draws=draws).shown()
    for what in what_is_short(needed, *available(directory)):
        note(what)
    seconds = with_environments(scenario, found, needed["cpu_seconds_about"])
    if seconds >= _LONG:
        memory, disk = needed["memory_about"], needed["disk_running_about"]
        size = f"{amount(memory)} of memory and {amount(disk)} of disk"
        note(f"stop: the run takes very roughly {span(seconds)} of one core, about {size}")


@contextmanager
def _resumable(directory: Path) -> Iterator[None]:
    """Say how a run goes on that a second interrupt ended before it had saved all it has.

    Raises:
        KeyboardInterrupt: with the command, if there is a run to continue.
    """
    try:
        yield
    except KeyboardInterrupt as error:
        if content_of(directory) is Content.UNFINISHED:
            raise KeyboardInterrupt(
                f"interrupted; to go on: p2pfrl scenario --resume {directory}"
            ) from error
        raise


def _page_of(directory: Path) -> Path:
    """Write the report of a run whose record is saved.

    Raises:
        RecordError: a file cannot be written; it says how to draw it later.
    """
    later = f"{directory} has the whole record; `p2pfrl report {directory}` writes its report and figures"
    try:
        with explained(f"interrupted; {later}"):
            return report([directory])
    except RecordError as error:
        error.add_note(later)
        raise


def run_directory(scenario: Scenario) -> Path:
    """Make the directory `runs/<name>/<utc>-<mode>-s<seed>-<hash8>` and return its path."""
    utc = datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ")
    name = f"{utc}-{scenario.mode}-s{scenario.seed}-{hash8(scenario)}"
    return new_directory(RUNS / scenario.name / name)


@contextmanager
def watching(scenario: Scenario, directory: Path, *, quiet: bool) -> Iterator[Watcher | None]:
    """Yield a watcher of the run in a directory: a live display on a terminal, else lines."""
    if quiet:
        yield None
    elif sys.stderr.isatty():
        yield from _live(scenario, Single(directory, scenario))
    else:
        yield Lines(scenario.stop.rounds)


def counting() -> Callable[[int, int, Finished], None]:
    """Return what prints how many of several runs are done, which ended last, and the time left.

    The time left is that of the runs so far, as if the others take as long.
    """
    start, ended, kept = time.monotonic(), 0, 0

    def count(done: int, total: int, last: Finished) -> None:
        nonlocal ended, kept
        kept += last.skipped
        if last.skipped:
            return
        ended += 1
        left = (total - kept - ended) * (time.monotonic() - start) / ended
        end = "" if last.error is None else f" failed: {as_typed(last.error)}"
        more = f", about {span(left)} left" if total > kept + ended else ""
        print(
            f"{done} of {total} runs done{more}: {last.job.directory}{end}",
            file=sys.stderr,
            flush=True,
        )

    return count


def span(seconds: float) -> str:
    """Return a duration as people say it.

    >>> span(42.3), span(150), span(9000)
    ('42 s', '2 min 30 s', '2 h 30 min')
    """
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


def time_left(done: float, goal: int | None, seconds: float) -> str:
    """Return in words about how long the rest takes, as the rounds so far did; "" if it is short.

    >>> time_left(20, 100, 30.0), time_left(100, 100, 90.0), time_left(20, None, 30.0)
    ('  about 2 min 0 s left', '', '')
    """
    left = 0.0 if goal is None else seconds * (goal - done) / max(1.0, done)
    return f"  about {span(left)} left" if left >= _LONG else ""


class Lines:
    """Prints one line of progress at the first row and then every few seconds.

    Args:
        goal: the number of the last round, if known.
        interval: seconds between lines.
    """

    def __init__(self, goal: int | None = None, interval: float = INTERVAL) -> None:
        self._goal = goal
        self._interval = interval
        self._printed: float | None = None
        self._began = self._last = time.monotonic()

    def __call__(self, row: Mapping[str, float], /) -> None:
        """Print the row if the last line is old enough."""
        now = time.monotonic()
        if (
            self._printed is None
            or now - self._printed >= self._interval
            or row["round"] == self._goal
        ):
            self._printed = self._last = now
            goal = f"/{self._goal}" if self._goal else ""
            left = time_left(row["round"], self._goal, now - self._began)
            shown = f"round {row['round']:.0f}{goal}  {line(row)}{left}"
            print(shown, file=sys.stderr, flush=True)

    def working(self, what: str) -> None:
        """Print what is done if the last line is old enough."""
        now = time.monotonic()
        if now - self._last >= self._interval:
            self._last = now
            print(what, file=sys.stderr, flush=True)


class _Display:
    """The live display of a run: a bar for rounds, numbers, and a line about single agents."""

    def __init__(
        self, completed: Callable[[float], None], show: Callable[[str, str], None]
    ) -> None:
        self._completed, self._show = completed, show
        self._numbers, self._last = "", 0.0

    def __call__(self, row: Mapping[str, float], /) -> None:
        """Show the row."""
        self._numbers = line(row)
        self._completed(row["round"])
        self._show(self._numbers, "")

    def working(self, what: str) -> None:
        """Show what is done, eight times a second at most."""
        now = time.monotonic()
        if now - self._last >= 1 / 8:
            self._last = now
            self._show(self._numbers, what)


def _live(scenario: Scenario, single: Callable[[], str]) -> Iterator[Watcher]:
    from rich.console import Console, Group
    from rich.live import Live
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
    from rich.text import Text

    goal = scenario.stop.rounds
    count = TextColumn(
        "round {task.completed:.0f} of {task.total}" if goal else "round {task.completed:.0f}"
    )
    bar = Progress(
        TextColumn("{task.description}"),
        BarColumn(bar_width=None),
        count,
        TimeElapsedColumn(),
        expand=True,
    )
    task = bar.add_task(f"{scenario.name}, {scenario.mode}", total=goal)
    numbers = Text("", overflow="fold")
    with Live(Group(bar, numbers), console=Console(stderr=True), refresh_per_second=8):

        def show(row: str, what: str) -> None:
            numbers.plain = "\n".join(
                filter(None, ("  ".join(filter(None, (row, what))), single()))
            )

        yield _Display(lambda rounds: bar.update(task, completed=rounds), show)


def line(row: Mapping[str, float]) -> str:
    """Return the main numbers of a row of metrics as text."""
    shown = [
        ("return", row["return_mean"], ".1f"),
        ("error", row["error"], ".3g"),
        ("consensus distance", row["consensus_distance"], ".3g"),
        ("virtual time", row["virtual_seconds"], ".2f"),
        ("steps", row["env_steps"], ",.0f"),
    ]
    units = {"virtual time": " s"}
    known = (
        (name, f"{value:{style}}{units.get(name, '')}")
        for name, value, style in shown
        if math.isfinite(value)
    )
    return "  ".join(f"{name} {text}" for name, text in known)
