"""Commands on run directories. They do not import torch."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING

from p2pfrl.commands.arguments import DONE, Formats, Names, Out, Width
from p2pfrl.core.errors import RecordError, ScenarioError

if TYPE_CHECKING:
    from p2pfrl.results.report import Table


def plot(
    *runs: Path,
    out: Out = None,
    width: Width = None,
    formats: Formats = "svg,png",
    only: Names = "",
) -> int:
    """Draw the figures of one run, or of several together.

    Parameters
    ----------
    runs
        Run directories, or the directory of a sweep or comparison.
    """
    from p2pfrl.commands.values import names, page_width
    from p2pfrl.results.plots import FIGURES, Look
    from p2pfrl.results.plots.style import FORMATS
    from p2pfrl.results.report import plot as draw

    look = Look(
        formats=names("--format", formats, FORMATS),
        width=None if width is None else page_width(width),
        only=names("--only", only, FIGURES) if only else (),
    )
    found, folder, _ = _some(runs)
    paths = draw(found, out or (folder and folder / "figures"), look)
    for path in paths:
        print(path)
    if not paths:
        print("nothing is drawn: the runs have no data for these figures", file=sys.stderr)
    return DONE


def report(*runs: Path, out: Out = None) -> int:
    """Write a self-contained report of one run, or of several together.

    Parameters
    ----------
    runs
        Run directories, or the directory of a sweep or comparison.
    """
    from p2pfrl.results.report import report as write

    if out is not None and out.suffix == ".html" and not out.is_dir():
        raise ScenarioError(
            [
                f"--out {out}: expected a directory, got the name of a page; the page is DIRECTORY/report.html"
            ]
        )
    found, folder, tables = _some(runs)
    print(write(found, out or folder, tables))
    return DONE


def _some(runs: Sequence[Path]) -> tuple[Sequence[Path], Path | None, Sequence[Table]]:
    """Return run directories, and if they are those of one series its folder and its tables."""
    from p2pfrl.results.directory import runs_in

    if not runs:
        raise ScenarioError(["RUN: expected at least one run directory"])
    found: list[Path] = []
    tables: Sequence[Table] = ()
    for path in runs:
        finished, unfinished = runs_in(path)
        for other in unfinished:
            print(f"{other}: not finished, left out", file=sys.stderr)
        if finished:
            tables, finished = _series(path, finished)
        found += finished or [path]
    if len(runs) > 1 or found == list(runs):
        return found, None, ()
    return found, runs[0], tables


def _series(folder: Path, finished: list[Path]) -> tuple[Sequence[Table], list[Path]]:
    """Return the tables of the series in a directory, and the runs that are in its table.

    The other runs are of earlier series there; a note names them.
    """
    from p2pfrl.results.directory import left_out

    tables: Sequence[Table]
    own: Sequence[Path]
    if (folder / "comparison.json").is_file():
        from p2pfrl.experiment.compare import read_comparison

        comparison, table = read_comparison(folder), "comparison.json"
        tables, own = comparison.tables(), [*chain(*comparison.directories.values())]
    elif (folder / "sweep.csv").is_file():
        from p2pfrl.experiment.sweep import read_sweep

        (tables, own), table = read_sweep(folder), "sweep.csv"
    else:
        return (), finished
    names = {path.name for path in own}
    kept = [path for path in finished if path.name in names]
    if not kept:
        raise RecordError(f"{folder / table}: expected finished runs of this directory, got none")
    if note := left_out(folder, own, table):
        print(note, file=sys.stderr)
    return tables, kept
