"""Sweep: a grid of settings times seeds, with one directory per run and one table of results.

It can be resumed.
"""

from __future__ import annotations

import csv
import io
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext, suppress
from dataclasses import dataclass
from hashlib import blake2b
from math import isfinite, nan
from pathlib import Path
from typing import Any

import numpy as np

from p2pfrl.core.arguments import File, Overrides, Processes, Seeds, checked_call
from p2pfrl.core.errors import P2PFRLError, RecordError, ScenarioError
from p2pfrl.experiment.equal import equal_members, equal_table, notes_table
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
from p2pfrl.experiment.members import SEEDS, Settings, grid, last_words, refuse_doubled
from p2pfrl.results.aggregates import Outcomes, standings
from p2pfrl.results.directory import SUMMARY, new_series, reserved_for_series
from p2pfrl.results.files import decode_csv, encode_rows, read_bytes, refusing, write_bytes
from p2pfrl.results.numbers import dig, interval, number, size
from p2pfrl.results.record import load_summary
from p2pfrl.results.report import Table
from p2pfrl.results.statistics import MIN_SEEDS, MIN_TRIMMED, estimate, trimmed
from p2pfrl.results.tables import encode_latex, measures, standings_table, uploads

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
    "lambda_2",
)
_OWN = ("uploads", "heterogeneity.", "measures.", "digest", "notes")
"""Columns after `COLUMNS`; names with a point stand for as many as the runs have."""
_SHOWN: tuple[tuple[str, str, Callable[[float], str]], ...] = (
    ("final return", "final_return.mean", number),
    ("greedy evaluation", "evaluation.own", number),
    ("environment steps to target", "time_to_target.env_steps", number),
    ("error", "final_error", number),
    ("consensus distance", "consensus_distance", number),
    ("bytes sent", "bytes_sent", size),
)
"""Columns of the table of settings: title, column, and how a value is shown."""
NOTES_BETWEEN = " | "
"""What is between two notes on a run."""
_SCORES = (("final return", "final_return.mean", 1), ("error", "final_error", -1))
"""What settings are ranked by, the first that runs have: title, column, and 1 if more is better."""


@dataclass(frozen=True)
class Sweep:
    """The results of a sweep.

    Attributes:
        keys: the settings that vary.
        rows: one per run, in the order of the grid: settings, seed, state, directory, and `COLUMNS`
            of its summary. Then follow the number of payloads that were applied (uploads), measures
            of heterogeneity, the environment's own measures at the end, as means over agents, the
        digest, and the notes on the scenario.
        table: the CSV file with the same rows.
        failed: number of failed runs; their state has the reason.
    """

    keys: tuple[str, ...]
    rows: tuple[dict[str, Any], ...]
    table: Path
    failed: int

    def tables(self) -> tuple[Table, ...]:
        """Return tables with settings in rows: means over seeds, and aggregates over runs."""
        return _tables(self.keys, self.rows)

    def columns(self) -> dict[str, list[Any]]:
        """Return the rows as columns, a row per run, for `pandas.DataFrame(...)`."""
        names = dict.fromkeys(name for row in self.rows for name in row)
        return {name: [row.get(name) for row in self.rows] for name in names}


def point_in_words(point: Mapping[str, object]) -> str:
    """Return settings as a label.

    >>> point_in_words({"learner.lr": 0.1, "mixing.kind": "lazy"})
    'lr 0.1 · mixing lazy'
    """
    words = last_words([*point])
    return " · ".join(f"{word} {value}" for word, value in zip(words, point.values(), strict=True))


def plan(
    scenario: str,
    settings: Mapping[str, Sequence[object]],
    seeds: Sequence[int],
    out: Path,
    common: Mapping[str, object] | None = None,
) -> tuple[tuple[dict[str, object], Job], ...]:
    """Return the settings and the job of every run.

    A run's directory depends on its own settings and seed only. All runs have the values in
    `common`, by dotted key.
    """
    planned = []
    for point in grid(settings):
        digest = blake2b(repr(sorted(point.items())).encode(), digest_size=3).hexdigest()
        name = f"{slug(point)[:80]}-{digest}" if point else "run"
        for seed in seeds:
            overrides = (*(common or {}).items(), *point.items(), ("seed", seed))
            job = Job(scenario, overrides, out / f"{name}-s{seed}", point_in_words(point))
            planned.append(({**point, "seed": seed}, job))
    return tuple(planned)


@checked_call
def sweep(
    scenario: File,
    settings: Settings,
    seeds: Seeds = SEEDS,
    out: Path | str | None = None,
    *,
    overrides: Overrides | None = None,
    jobs: Processes = 1,
    resume: bool = False,
    overwrite: bool = False,
    run: Execute = execute,
    progress: Progress | None = None,
    cluster: str | None = None,
    shard: tuple[int, int] | None = None,
) -> Sweep:
    """Run a scenario at all combinations of `settings` and `seeds`; write `sweep.csv`.

    A run that fails does not stop the others: the state of its row is "failed: " and the reason.
    The table is written after every run.

    Args:
        scenario: file or name.
        settings: values by dotted key, such as {"learner.lr": [1e-3, 3e-4]}; may be empty.
        seeds: seeds of the runs at every point of the grid.
        out: folder of the run directories and `sweep.csv`; by default a new one below `runs`.
        overrides: values by dotted key, for all runs.
        jobs: number of processes.
        resume: whether to keep complete runs of the same scenario in `out`.
        overwrite: whether to repeat finished runs.
        run: runs one job.
        progress: called after every run.
        cluster: address of a Ray cluster that does the runs.
        shard: (i, n) to do the i-th of n parts of the runs, such as (1, 8), beside other processes
            that do the others; there is no table then, and the whole sweep with `resume` writes it.

    Raises:
        P2PFRLError: there are no seeds, or the shard is none.
    """
    if shard is not None and not 1 <= shard[0] <= shard[1]:
        raise P2PFRLError(f"--shard: expected i/n with i from 1 to n, got {shard[0]}/{shard[1]}")
    seeds = [*map(int, seeds)]
    grid(settings)  # it refuses what is none, before a directory is made
    refuse_doubled(settings, overrides)
    folder = new_series(Path(scenario).stem, "sweep") if out is None else Path(out)
    planned = plan(str(scenario), settings, seeds, folder, overrides)
    if shard is not None:
        planned = planned[shard[0] - 1 :: shard[1]]
    keys = (*settings, "seed", "state", "directory")
    table = _GrowingTable(folder / "sweep.csv", planned, keys, is_written=shard is None)
    runs = [job for _, job in planned]

    def report(finished: int, total: int, result: Finished) -> None:
        table.add(result)
        if progress is not None:
            progress(finished, total, result)

    with nullcontext() if shard is not None else reserved_for_series(folder):
        if shard is None:
            refuse_used(runs, resume=resume, overwrite=overwrite)
            if table.path.exists() and not resume and not overwrite:
                fix = "--resume keeps runs that are complete, --overwrite runs all again"
                raise ScenarioError(
                    [f"{folder}: expected no sweep, got one with other runs; {fix}"]
                )
        run_all(
            runs,
            workers=jobs,
            resume=resume,
            overwrite=overwrite,
            execute=run,
            progress=report,
            cluster=cluster,
        )
        rows = table.rows() if shard is not None else table.complete()
        found = Sweep(tuple(settings), rows, table.path, sum(map(_has_failed, rows)))
        if shard is None:
            write_bytes(folder / "sweep.tex", encode_latex(found.tables()))
    return found


def _has_failed(row: Mapping[str, Any]) -> bool:
    return not str(row["state"]).startswith(("done", "kept"))


class _GrowingTable:
    """The table of a sweep, which is written while the sweep runs.

    Attributes:
        path: the file.

    Args:
        path: the file.
        planned: settings and job of every run.
        keys: columns in front of `COLUMNS`.
        is_written: whether there is a file.
    """

    def __init__(
        self,
        path: Path,
        planned: Sequence[tuple[dict[str, object], Job]],
        keys: Sequence[str],
        *,
        is_written: bool = True,
    ) -> None:
        self.path = path
        self._is_written = is_written
        self._points = {job.directory: point for point, job in planned}
        self._keys = keys
        self._rows: dict[Path, dict[str, Any]] = {}
        self._due = 0.0

    def add(self, result: Finished) -> None:
        """Add the row of a run that ended.

        A table that cannot be written now is written later. Writing takes at most a fiftieth of the
        time of a long sweep.
        """
        self._rows[result.job.directory] = _row(self._points[result.job.directory], result)
        began = time.monotonic()
        if began >= self._due and self._is_written:
            with suppress(RecordError):
                self._write()
            self._due = time.monotonic() + 50 * (time.monotonic() - began)

    def complete(self) -> tuple[dict[str, Any], ...]:
        """Write all rows and return them, in the order of the grid.

        Raises:
            RecordError: the file cannot be written.
        """
        self._write()
        return self.rows()

    def rows(self) -> tuple[dict[str, Any], ...]:
        """Return the rows of all runs, which have ended, in the order of the grid."""
        return tuple(self._rows[directory] for directory in self._points)

    def _write(self) -> None:
        rows = [self._rows[directory] for directory in self._points if directory in self._rows]
        self.path.parent.mkdir(parents=True, exist_ok=True)
        names = dict.fromkeys(name for row in rows for name in row)
        own = [name for prefix in _OWN for name in names if name.startswith(prefix)]
        write_bytes(self.path, encode_rows([*self._keys, *COLUMNS, *own], rows))


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
        return row | _numbers(result.job.directory)
    except RecordError as error:
        return row | {"state": f"failed: {error}"}


def _numbers(directory: Path) -> dict[str, Any]:
    """Return the numbers of a finished run by column."""
    summary = load_summary(directory)
    found: dict[str, Any] = {column: dig(summary, column) for column in COLUMNS}
    with refusing(directory / "staleness.csv"):
        table = decode_csv(read_bytes(directory / "staleness.csv"))
        found["uploads"] = uploads(table["messages"].astype(np.int64))
    with refusing(directory / SUMMARY):
        heterogeneity = {str(k): dig(summary["heterogeneity"], k) for k in summary["heterogeneity"]}
    with refusing(directory / "agents.csv"):
        own = measures(decode_csv(read_bytes(directory / "agents.csv")))
    with refusing(directory / SUMMARY):
        found["digest"] = str(summary["digest"])
        found["notes"] = NOTES_BETWEEN.join(map(str, summary.get("notes", ()))) or None
    return {
        **found,
        **{f"heterogeneity.{name}": value for name, value in heterogeneity.items()},
        **{f"measures.{name}": value for name, value in own.items()},
    }


def _tables(keys: Sequence[str], rows: Sequence[Mapping[str, Any]]) -> tuple[Table, ...]:
    """Return the tables of a sweep: equal runs, notes, settings and aggregates."""
    digests: dict[str, dict[object, str]] = {}
    notes: dict[str, list[str]] = {}
    for row in rows:
        label = point_in_words({key: row[key] for key in keys}) or "run"
        own = digests.setdefault(label, {})
        if row.get("digest"):
            own[row["seed"]] = str(row["digest"])
        for note in filter(None, str(row.get("notes") or "").split(NOTES_BETWEEN)):
            notes.setdefault(note, []).append(label)
    return (
        *equal_table(equal_members(digests)),
        *notes_table(notes, [*digests]),
        *settings_table(keys, rows),
        *aggregates(keys, rows),
    )


def settings_table(keys: Sequence[str], rows: Sequence[Mapping[str, Any]]) -> tuple[Table, ...]:
    """Return the table of a sweep with one row per setting, from rows of its runs.

    A setting with one value has no column beside others. It is empty if no run is done.
    """
    keys = [key for key in keys if len({str(row[key]) for row in rows}) > 1] or keys
    points: dict[tuple[str, ...], list[Mapping[str, Any]]] = {}
    for row in rows:
        if str(row["state"]).startswith(("done", "kept")):
            points.setdefault(tuple(str(row[key]) for key in keys), []).append(row)
    columns = [
        (title, column, show)
        for title, column, show in _SHOWN
        if any(isfinite(_value(row, column)) for runs in points.values() for row in runs)
    ]
    if not columns:
        return ()
    header = [*keys, "runs"]
    body = [[*point, str(len(runs))] for point, runs in points.items()]
    has_trimmed = False
    for title, column, show in columns:
        values = [[_value(row, column) for row in runs] for runs in points.values()]
        header.append(title)
        for cells, own in zip(body, values, strict=True):
            cells.append(interval(estimate(own), show))
        if column == columns[0][1] and any(trimmed(own).count for own in values):
            has_trimmed = True
            header.append(f"{title}, IQM")
            for cells, own in zip(body, values, strict=True):
                cells.append(interval(trimmed(own), show))
    caption = "Means over runs"
    if has_trimmed:
        caption = f"Means and, from {MIN_TRIMMED} runs on, interquartile means (IQM) over runs"
    if max(map(len, points.values())) < MIN_SEEDS:
        caption += f". Intervals need at least {MIN_SEEDS} seeds."
    else:
        caption += " [95% confidence, Student's t; of the IQM, Tukey and McLaughlin's]."
        if not has_trimmed:
            caption = f"{caption.partition(';')[0]}]."
    return (Table("Settings", caption, tuple(header), tuple(map(tuple, body))),)


def aggregates(keys: Sequence[str], rows: Sequence[Mapping[str, Any]]) -> tuple[Table, ...]:
    """Return the table of aggregates over the runs of each setting; empty for one setting."""
    keys = [key for key in keys if len({str(row[key]) for row in rows}) > 1]
    points: dict[tuple[str, ...], list[Mapping[str, Any]]] = {}
    for row in rows:
        if not _has_failed(row):
            points.setdefault(tuple(str(row[key]) for key in keys), []).append(row)
    for score, column, better in _SCORES:
        values = [np.array([_value(row, column) for row in runs]) for runs in points.values()]
        if len(points) < 2 or not any(np.isfinite(own).any() for own in values):
            continue
        words = last_words(keys)
        found = []
        for (point, runs), own in zip(points.items(), values, strict=True):
            label = " · ".join(f"{word} {value}" for word, value in zip(words, point, strict=True))
            rounds, sent, seconds = (
                np.array([_value(row, f"time_to_target.{name}") for row in runs])
                for name in ("rounds", "bytes", "virtual_seconds")
            )
            found.append(Outcomes(label, (own[np.isfinite(own)],), (rounds, sent, seconds)))
        return (standings_table(standings(found, better), score),)
    return ()


def read_sweep(folder: Path) -> tuple[tuple[Table, ...], tuple[Path, ...], tuple[Path, ...]]:
    """Return the tables, the finished and the failed runs of the sweep in a directory.

    The directory may have been moved, so only the names of the runs are read.

    Raises:
        RecordError: the file is missing or damaged.
    """
    path = folder / "sweep.csv"
    content = read_bytes(path)
    with refusing(path):
        rows = list(csv.DictReader(io.StringIO(content.decode(), newline="")))
        keys = list(rows[0])[: list(rows[0]).index("seed")] if rows else []
        runs: dict[bool, list[Path]] = {False: [], True: []}
        for row in rows:
            runs[_has_failed(row)].append(folder / Path(row["directory"]).name)
        return _tables(keys, rows), tuple(runs[False]), tuple(runs[True])


def _value(row: Mapping[str, Any], column: str) -> float:
    value = row.get(column)
    return nan if value is None or value == "" else float(value)
