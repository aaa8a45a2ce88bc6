"""Sweep: a grid of settings times seeds, with one directory per run and one table of results.

It can be resumed.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from typing import Any

from p2pfrl.core.errors import P2PFRLError, RecordError, ScenarioError
from p2pfrl.experiment.jobs import (
    Execute,
    Finished,
    Job,
    Progress,
    execute,
    refuse_used,
    run_all,
    slug,
)
from p2pfrl.results.directory import reserved_for_series
from p2pfrl.results.files import encode_rows, write_bytes
from p2pfrl.results.numbers import dig
from p2pfrl.results.record import load_summary

COLUMNS = (
    "final_return.mean",
    "final_return.iqm",
    "evaluation.own",
    "evaluation.mean_parameters",
    "target_reached",
    "time_to_target.rounds",
    "time_to_target.env_steps",
    "time_to_target.virtual_seconds",
    "time_to_target.bytes",
    "final_error",
    "consensus_distance",
    "rounds",
    "env_steps",
    "virtual_seconds",
    "bytes_sent",
    "messages_sent",
    "staleness.mean",
    "mean_batch",
    "wall_seconds",
)


@dataclass(frozen=True)
class Sweep:
    """The results of a sweep.

    Attributes:
        keys: the settings that vary.
        rows: one per run, in the order of the grid: settings, seed, state, directory, and `COLUMNS`
            of its summary.
        table: the CSV file with the same rows.
        failed: number of failed runs; their state has the reason.
    """

    keys: tuple[str, ...]
    rows: tuple[dict[str, Any], ...]
    table: Path
    failed: int


def grid(settings: Mapping[str, Sequence[object]]) -> tuple[dict[str, object], ...]:
    """Return every combination of values; the last key varies fastest.

    >>> grid({"learner.hidden": [[8], [16, 16]], "agents": [4]})
    ({'learner.hidden': [8], 'agents': 4}, {'learner.hidden': [16, 16], 'agents': 4})
    """
    for key, values in settings.items():
        if isinstance(values, str | Mapping):
            raise P2PFRLError(f"--set {key}: expected a list of values, got {values!r}")
        if not len(values):
            raise P2PFRLError(f"--set {key}: expected at least one value")
    return tuple(
        dict(zip(settings, values, strict=True)) for values in itertools.product(*settings.values())
    )


def plan(
    scenario: str, settings: Mapping[str, Sequence[object]], seeds: Sequence[int], out: Path
) -> tuple[tuple[dict[str, object], Job], ...]:
    """Return the settings and the job of every run.

    A run's directory depends on its own settings and seed only.
    """
    planned = []
    for point in grid(settings):
        digest = blake2b(repr(sorted(point.items())).encode(), digest_size=3).hexdigest()
        name = f"{slug(point)[:80]}-{digest}" if point else "run"
        for seed in seeds:
            job = Job(scenario, (*point.items(), ("seed", seed)), out / f"{name}-s{seed}")
            planned.append(({**point, "seed": seed}, job))
    return tuple(planned)


def sweep(
    scenario: str | Path,
    settings: Mapping[str, Sequence[object]],
    seeds: Sequence[int],
    out: Path | str,
    *,
    jobs: int = 1,
    resume: bool = False,
    overwrite: bool = False,
    run: Execute = execute,
    progress: Progress | None = None,
) -> Sweep:
    """Run a scenario at all combinations of `settings` and `seeds`; write `sweep.csv`.

    A run that fails does not stop the others: the state of its row is "failed: " and the reason.
    The table is written after every run.

    Args:
        scenario: file or name.
        settings: values by dotted key, such as {"learner.lr": [1e-3, 3e-4]}; may be empty.
        seeds: seeds of the runs at every point of the grid.
        out: folder of the run directories and `sweep.csv`.
        jobs: number of processes.
        resume: whether to keep complete runs of the same scenario in `out`.
        overwrite: whether to repeat finished runs.
        run: runs one job.
        progress: called after every run.
    """
    if not len(seeds):
        raise P2PFRLError("--seeds: expected at least one seed, as 0-9 or 1,2,3")
    seeds, folder = [int(seed) for seed in seeds], Path(out)
    planned = plan(str(scenario), settings, seeds, folder)
    table = _Table(folder / "sweep.csv", planned, (*settings, "seed", "state", "directory"))
    runs = [job for _, job in planned]

    def report(finished: int, total: int, result: Finished) -> None:
        table.add(result)
        if progress is not None:
            progress(finished, total, result)

    with reserved_for_series(folder):
        refuse_used(runs, resume=resume, overwrite=overwrite)
        if table.path.exists() and not resume and not overwrite:
            fix = "--resume keeps runs that are complete, --overwrite runs all again"
            raise ScenarioError([f"{folder}: expected no sweep, got one with other runs; {fix}"])
        run_all(
            runs, workers=jobs, resume=resume, overwrite=overwrite, execute=run, progress=report
        )
        rows = table.complete()
    failed = sum(not row["state"].startswith(("done", "kept")) for row in rows)
    return Sweep(tuple(settings), rows, table.path, failed)


class _Table:
    """The table of a sweep, which is written while the sweep runs.

    Attributes:
        path: the file.

    Args:
        path: the file.
        planned: settings and job of every run.
        keys: columns in front of `COLUMNS`.
    """

    def __init__(
        self, path: Path, planned: Sequence[tuple[dict[str, object], Job]], keys: Sequence[str]
    ) -> None:
        self.path = path
        self._points = {job.directory: point for point, job in planned}
        self._header = (*keys, *COLUMNS)
        self._rows: dict[Path, dict[str, Any]] = {}
        self._due = 0.0

    def add(self, result: Finished) -> None:
        """Add the row of a run that ended.

        A table that cannot be written now is written later. Writing takes at most a fiftieth of the
        time of a long sweep.
        """
        self._rows[result.job.directory] = _row(self._points[result.job.directory], result)
        began = time.monotonic()
        if began >= self._due:
            with suppress(RecordError):
                self._write()
            self._due = time.monotonic() + 50 * (time.monotonic() - began)

    def complete(self) -> tuple[dict[str, Any], ...]:
        """Write all rows and return them, in the order of the grid.

        Raises:
            RecordError: the file cannot be written.
        """
        self._write()
        return tuple(self._rows[directory] for directory in self._points)

    def _write(self) -> None:
        rows = [self._rows[directory] for directory in self._points if directory in self._rows]
        self.path.parent.mkdir(parents=True, exist_ok=True)
        write_bytes(self.path, encode_rows(self._header, rows))


def _row(point: Mapping[str, object], result: Finished) -> dict[str, Any]:
    row: dict[str, Any] = {
        **point,
        "state": "kept" if result.skipped else "done",
        "directory": str(result.job.directory),
        **dict.fromkeys(COLUMNS),
    }
    if result.error is not None:
        return row | {"state": f"failed: {result.error}"}
    try:
        summary = load_summary(result.job.directory)
    except RecordError as error:
        return row | {"state": f"failed: {error}"}
    return row | {column: dig(summary, column) for column in COLUMNS}
