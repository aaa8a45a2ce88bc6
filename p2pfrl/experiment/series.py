"""Runs that are named by their directories, or by that of a sweep or comparison."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

from p2pfrl.core.arguments import Kind, checked_call
from p2pfrl.core.errors import P2PFRLError, RecordError
from p2pfrl.results.directory import left_out, read_note, runs_in
from p2pfrl.results.export import Columns, table
from p2pfrl.results.report import Table


@dataclass(frozen=True)
class Series:
    """Runs that were named.

    Attributes:
        runs: run directories, those of a series in its own order.
        folder: that of their series, if all are of one.
        tables: those of the series.
        labels: labels of runs of comparisons, by directory.
        notes: which runs there are left out, and why.
    """

    runs: Sequence[Path]
    folder: Path | None = None
    tables: Sequence[Table] = ()
    labels: Mapping[Path, str] = field(default_factory=dict)
    notes: Sequence[str] = ()


def series_of(paths: Sequence[Path]) -> Series:
    """Return the runs in directories of runs or of series.

    Raises:
        RecordError: a directory of a series has no finished run, or its table is damaged.
        P2PFRLError: no directory is named.
    """
    if not paths:
        raise P2PFRLError("runs: expected at least one run directory")
    found: list[Path] = []
    notes: list[str] = []
    tables: Sequence[Table] = ()
    labels: dict[Path, str] = {}
    for path in paths:
        finished, unfinished = runs_in(path)
        if unfinished and not finished:
            raise RecordError(
                f"{path}: none of its {len(unfinished)} runs is finished; the command that made it, with "
                f"--out {path} --resume, goes on"
            )
        series = _own(path, finished, unfinished) if finished else Series([path])
        notes += series.notes
        tables = series.tables
        labels |= series.labels
        found += series.runs
    if len(paths) > 1 or found == list(paths):
        return Series(found, labels=labels, notes=notes)
    return Series(found, paths[0], tables, labels, notes)


def _own(folder: Path, finished: Sequence[Path], unfinished: Sequence[Path]) -> Series:
    """Return the runs in a directory that are in the table of its series, in their order there.

    The other runs are of earlier series there; a note names them.
    """
    tables: Sequence[Table]
    own: Sequence[Path]
    labels: Mapping[Path, str] = {}
    failed: set[str] = set()
    if (folder / "comparison.json").is_file():
        from p2pfrl.experiment.compare import read_comparison

        comparison, name = read_comparison(folder), "comparison.json"
        tables, labels = comparison.tables(), comparison.labels
        own, failed = [*labels], {run for run, _ in comparison.failed}
    elif (folder / "sweep.csv").is_file():
        from p2pfrl.experiment.sweep import read_sweep

        (tables, own, missing), name = read_sweep(folder), "sweep.csv"
        failed = {path.name for path in missing}
    else:
        return Series(finished, notes=[_unfinished(path) for path in unfinished])
    by_name = {path.name: path for path in finished}
    kept = [by_name[path.name] for path in own if path.name in by_name]
    if not kept:
        raise RecordError(f"{folder / name}: expected finished runs of this directory, got none")
    notes = [_unfinished(path) for path in unfinished if path.name not in failed]
    notes += [f"{folder / run}: failed, left out" for run in sorted(failed)]
    known = [*own, *unfinished, *(folder / run for run in failed)]
    if note := left_out(folder, known, name):
        notes.append(note)
    return Series(kept, folder, tables, labels, notes)


def _unfinished(path: Path) -> str:
    """Return that a run is not finished, and why, where it says so."""
    why = read_note(path)
    return f"{path}: not finished{f' ({why})' if why else ''}, left out"


Runs = Annotated[str | Path | Sequence[str | Path], Kind("a directory or a list of them")]
"""Runs that are named by their directories."""


@checked_call
def load_table(runs: Runs, name: str = "rounds") -> Columns:
    """Return one table of all runs; a column that a run does not have is nan or None there.

    Args:
        runs: run directories, or directories of sweeps or comparisons, which stand for their runs.
        name: "rounds" for a row per round (metrics.csv), "agents" for one per agent and round,
            "runs" for one per run, "staleness" and "timeline" for those of their files.

    Raises:
        RecordError: a run is missing or damaged.
        P2PFRLError: there is no such table, or no run.
    """
    paths = [runs] if isinstance(runs, str | Path) else [*runs]
    return table(series_of([Path(path) for path in paths]).runs, name)
