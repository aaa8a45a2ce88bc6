"""Commands on run directories. They do not import torch."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from p2pfrl.commands.arguments import (
    DONE,
    Against,
    Formats,
    Json,
    Names,
    Out,
    Style,
    Tracked,
    Width,
    whole,
)
from p2pfrl.core.errors import ScenarioError
from p2pfrl.core.wording import printable

if TYPE_CHECKING:
    from p2pfrl.experiment.series import Series
    from p2pfrl.results.listing import Listed

_COLUMNS = {
    "rounds": "round",
    "bytes": "bytes_sent",
    "seconds": "virtual_seconds",
    "steps": "env_steps",
}
"""Value of --x -> column of metrics.csv."""


def plot(
    *runs: Path,
    out: Out = None,
    width: Width = None,
    formats: Formats = None,
    only: Names = "",
    style: Style = "page",
    x: Against = None,
) -> int:
    """Draw the figures of one run, or of several together, with their data beside them as CSV.

    Parameters
    ----------
    runs
        Run directories, or the directory of a sweep or comparison.
    """
    from p2pfrl.commands.values import names, page_width
    from p2pfrl.results.plots import FIGURES, Look
    from p2pfrl.results.plots.style import FORMATS
    from p2pfrl.results.report import plot as draw

    paper = style == "paper"
    chosen = names("--figure", only, FIGURES) if only else ()
    takes = [name for name, figure in FIGURES.items() if figure.takes_x]
    if x is not None and (others := [name for name in chosen if name not in takes]):
        raise ScenarioError(
            [f"--x: expected figures out of {', '.join(takes)}, got {', '.join(others)}"]
        )
    look = Look(
        formats=names("--format", formats or ("svg,png,pdf" if paper else "svg,png"), FORMATS),
        width=None if width is None else page_width(width),
        only=chosen,
        paper=paper,
        x=None if x is None else _COLUMNS[x],
        has_data=True,
    )
    series = _some(runs)
    folder = out or (series.folder and series.folder / "figures")
    paths = draw(series.runs, folder, look, series.labels)
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
    found = _some(runs)
    print(write(found.runs, out or found.folder, found.tables, found.labels))
    return DONE


def show(*runs: Path, json: Json = False) -> int:
    """Print the summary of finished runs again.

    Parameters
    ----------
    runs
        Run directories.
    """
    from p2pfrl.commands.arguments import show as write
    from p2pfrl.commands.summaries import columns, complete, describe
    from p2pfrl.results.directory import REPORT, SUMMARY
    from p2pfrl.results.files import refusing
    from p2pfrl.results.record import load

    if not runs:
        raise ScenarioError(["RUN: expected at least one run directory"])
    records = [load(run) for run in runs]
    if json:
        found = [complete(record) for record in records]
        write(found[0] if len(found) == 1 else found, json)
        return DONE
    for place, (run, record) in enumerate(zip(runs, records, strict=True)):
        page = run / REPORT
        with refusing(run / SUMMARY):
            lines = describe(record.summary)
        if failure := record.summary.get("failure"):
            lines["failure"] = str(failure)
        lines["run directory"] = str(run)
        lines["report"] = str(page) if page.is_file() else f"none; `p2pfrl report {run}` writes it"
        print("\n" * (place > 0) + columns(lines))
    return DONE


def runs(
    folder: Path = Path("runs"),
    *,
    most: Annotated[
        int, Parameter(converter=whole, help="Number of runs to list; 0 for all.")
    ] = 20,
    json: Json = False,
) -> int:
    """List the runs in a folder and in those below it, newest first.

    Parameters
    ----------
    folder
        Where to search.
    """
    from p2pfrl.commands.arguments import show as write
    from p2pfrl.results.listing import runs_below

    if most < 0:
        raise ScenarioError([f"--most: expected at least 0, got {most}"])
    if not folder.is_dir():
        raise ScenarioError([f"{folder}: expected a directory with runs, got none"])
    found = runs_below(folder)
    shown = found[: most or None]
    if json:
        write([run.to_json() for run in shown], json)
        return DONE
    for run in shown:
        print(printable("  ".join(_line(run))))
    if len(found) > len(shown):
        print(f"and {len(found) - len(shown)} older ones; --most 0 lists all", file=sys.stderr)
    if not found:
        print(f"{folder}: no runs", file=sys.stderr)
    return DONE


def _line(run: Listed) -> list[str]:
    """Return what is known of a run: time, state, scenario, numbers, directory."""
    known = run.to_json()
    parts = [str(known["written"]).replace("T", " ")[:16], str(run.directory), run.state]
    if run.summary is not None:
        seed = "" if known["seed"] is None else f" s{known['seed']}"
        parts.append(f"{known['mode']}{seed}")
        if known["rounds"] is not None:
            parts.append(f"{known['rounds']} round{'s' * (known['rounds'] != 1)}")
    if run.process is not None:
        from p2pfrl.net.fleet import show_agents

        parts.append(f"process of agents {show_agents(run.process)}" if run.process else "process")
    for word, value in (("return", known["final_return"]), ("error", known["final_error"])):
        if value is not None:
            parts.append(f"{word} {value:.4g}")
    return parts


def export(
    *runs: Path,
    parquet: Annotated[Path | None, Parameter(help="The Parquet file to write.")] = None,
    table: Annotated[
        str, Parameter(help="rounds, agents, runs, staleness or timeline: what a row is.")
    ] = "rounds",
    log: Tracked = None,
) -> int:
    """Write records as one table that other tools open, or log them in a tracker.

    Parameters
    ----------
    runs
        Run directories, or the directory of a sweep or comparison.
    """
    from p2pfrl.results.directory import FIGURES
    from p2pfrl.results.export import table as columns_of
    from p2pfrl.results.export import write_parquet
    from p2pfrl.results.record import load
    from p2pfrl.results.trackers import Log

    if (parquet is None) == (log is None):
        raise ScenarioError(
            ["export: expected --parquet FILE, the file to write, or --log TRACKER"]
        )
    if log is not None:
        for run in _some(runs).runs:
            Log(log, run, run.name).finish(load(run), run / FIGURES)
            print(f"{run}: logged")
        return DONE
    assert parquet is not None
    found = columns_of(_some(runs).runs, table)
    write_parquet(found, parquet)
    print(f"{parquet}: {len(found['run']):,} rows of {len(found)} columns")
    return DONE


def _some(runs: Sequence[Path]) -> Series:
    """Return the runs in directories of runs or of series, and say which are left out."""
    from p2pfrl.experiment.series import series_of

    if not runs:
        raise ScenarioError(["RUN: expected at least one run directory"])
    found = series_of(runs)
    for note in found.notes:
        print(note, file=sys.stderr)
    return found
