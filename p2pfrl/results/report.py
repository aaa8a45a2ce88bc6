"""Figures and a report page of one run or of several, from their records alone.

The page is self-contained: it loads nothing from elsewhere.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from p2pfrl.core.errors import RecordError, ScenarioError
from p2pfrl.core.types import OPTED_OUT
from p2pfrl.results.directory import (
    FIGURES,
    Content,
    clear_figures,
    content_of,
    refuse_replacing,
)
from p2pfrl.results.files import write_bytes
from p2pfrl.results.groups import Group, final_rows, group, varied
from p2pfrl.results.numbers import dig, duration, interval, number, size
from p2pfrl.results.record import BYZANTINE, PHYSICS, Record, load
from p2pfrl.results.statistics import MIN_SEEDS, estimate, trimmed

if TYPE_CHECKING:
    from p2pfrl.results.plots import Look

_OVER_RUNS = "final return, interquartile mean over runs"
_ROWS = 64  # maximum number of rows of the table by physics


@dataclass(frozen=True)
class Table:
    """A table of the report.

    Attributes:
        title: heading.
        caption: explanation of the table.
        header: column names.
        rows: cells, text or numbers.
    """

    title: str
    caption: str
    header: tuple[str, ...]
    rows: tuple[tuple[Any, ...], ...]


def plot(
    directories: Sequence[Path | str],
    out: Path | str | None = None,
    look: Look | None = None,
    labels: Mapping[Path, str] | None = None,
) -> tuple[Path, ...]:
    """Draw every figure that the runs have data for, and return the paths.

    Args:
        directories: run directories. Runs that differ only in the seed become one line with its
            confidence interval.
        out: folder of the figures. By default `figures` in the run directory, or beside the run
            directories if there are several.
        look: formats, width and names of the figures; by default SVG and PNG of all.
        labels: labels by run directory, such as those of a comparison.
    """
    from p2pfrl.results.plots import Look, draw, write

    records = load_all(directories)
    folder = Path(out) if out is not None else _beside(records) / FIGURES
    if content_of(folder) in (Content.RECORD, Content.UNFINISHED):
        raise ScenarioError(
            [
                f"--out {folder}: expected a directory of figures, got that of a run; give {folder / FIGURES}"
            ]
        )
    pictures = draw(group(records, labels), look or Look())
    home = folder.parent if folder.name == FIGURES else folder
    refuse_replacing(home, _files(pictures, folder))
    return write(pictures, folder)


def report(
    directories: Sequence[Path | str],
    out: Path | str | None = None,
    tables: Sequence[Table] = (),
    labels: Mapping[Path, str] | None = None,
) -> Path:
    """Write `report.html` and the figures of the runs as SVG, and return the page's path.

    Args:
        directories: run directories.
        out: folder of `report.html` and `figures/`. By default the run directory, or the folder of
            several.
        tables: tables at the top of the page, such as those of a comparison.
        labels: labels by run directory, such as those of a comparison.
    """
    from p2pfrl.results.plots import Look, draw, write

    records = load_all(directories)
    folder = Path(out) if out is not None else _beside(records)
    groups = group(records, labels)
    pictures, path = draw(groups, Look(("svg",))), folder / "report.html"
    refuse_replacing(folder, [path, *_files(pictures, folder / FIGURES)])
    written = write(pictures, folder / FIGURES)
    clear_figures(folder / FIGURES, written)
    write_bytes(path, _page(groups, pictures, tables).encode(errors="replace"))
    return path


def load_all(directories: Sequence[Path | str]) -> tuple[Record, ...]:
    """Return the records of `directories`, in order and without duplicates."""
    unique = list(dict.fromkeys(Path(d).resolve() for d in directories))
    if not unique:
        raise RecordError(
            "no run directory given: expected at least one, as `p2pfrl report runs/ring_16/...`"
        )
    return tuple(load(directory) for directory in unique)


def _files(pictures: Sequence[Any], folder: Path) -> list[Path]:
    """Return the files of pictures in a folder."""
    return [folder / f"{p.name}.{suffix}" for p in pictures for suffix in p.files]


def _beside(records: Sequence[Record]) -> Path:
    folders = [record.directory for record in records if record.directory is not None]
    return folders[0] if len(folders) == 1 else folders[0].parent


def _page(groups: Sequence[Group], pictures: Sequence[Any], first: Sequence[Table]) -> str:
    from jinja2 import Environment, StrictUndefined

    template = (
        resources.files("p2pfrl.results")
        .joinpath("templates/report.html")
        .read_text(encoding="utf-8")
    )
    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    images = [
        {
            "name": p.name,
            "title": p.title,
            "caption": p.caption,
            "source": base64.b64encode(p.files["svg"]).decode(),
        }
        for p in pictures
    ]
    tables = [
        *first,
        summary_table(groups),
        *(
            table
            for make in (heterogeneity_table, physics_table, opted_out_table)
            if (table := make(groups)) is not None
        ),
    ]
    return environment.from_string(template).render(
        title=" and ".join(dict.fromkeys(g.first.name for g in groups)),
        subtitle=_subtitle(groups),
        tables=tables,
        images=images,
        runs=[_run(record) for g in groups for record in g.records],
        scenario=groups[0].first.scenario.strip(),
        versions=groups[0].first.summary.get("versions") or {},
    )


def _subtitle(groups: Sequence[Group]) -> str:
    modes = ", ".join(dict.fromkeys(g.mode for g in groups))
    seeds = max(len(g.records) for g in groups)
    n, d = groups[0].first.parameters.shape
    marked = groups[0].first.summary.get(BYZANTINE)
    count = len(marked.get("agents", ())) if isinstance(marked, dict) else 0
    of_them = f" ({count} Byzantine)" if count else ""
    agents, times = ("agent" if n == 1 else "agents"), ("seed" if seeds == 1 else "seeds")
    return f"{modes} · {n:,} {agents}{of_them} · {d:,} parameters each · {seeds} {times}"


def _run(record: Record) -> dict[str, str]:
    return {
        "mode": record.mode,
        "seed": str(record.seed),
        "digest": str(record.summary.get("digest", "-")),
        "directory": str(record.directory or "-"),
    }


_SUMMARY: tuple[tuple[str, str, Callable[[float], str]], ...] = (
    ("final return, mean of agents", "final_return.mean", number),
    (_OVER_RUNS, "final_return.mean", number),
    ("final return, interquartile mean over agents of a run", "final_return.iqm", number),
    ("final return, worst agent", "final_return.min", number),
    ("evaluation, own parameters", "evaluation.own", number),
    ("evaluation, mean parameters", "evaluation.mean_parameters", number),
    ("newcomers, learned model", "newcomers.learned.before", number),
    ("newcomers, learned model, adapted", "newcomers.learned.after", number),
    ("newcomers, from scratch, after as many updates", "newcomers.scratch.after", number),
    ("rounds", "rounds", number),
    ("environment steps, all agents", "env_steps", number),
    ("virtual time", "virtual_seconds", duration),
    ("wall time", "wall_seconds", duration),
    ("rounds to target", "time_to_target.rounds", number),
    ("environment steps to target", "time_to_target.env_steps", number),
    ("virtual time to target", "time_to_target.virtual_seconds", duration),
    ("bytes to target", "time_to_target.bytes", size),
    ("bytes sent", "bytes_sent", size),
    ("messages sent", "messages_sent", number),
    ("messages delivered", "messages_delivered", number),
    ("messages dropped", "messages_dropped", number),
    ("messages late", "messages_late", number),
    ("messages without a payload", "messages_empty", number),
    ("messages duplicate", "messages_duplicate", number),
    ("deadlines expired", "deadlines_expired", number),
    ("consensus distance", "consensus_distance", number),
    ("predicted contraction per round, λ₂", "lambda_2", number),
    ("μ, least eigenvalue of the mean field's symmetric part", "bound.mu", number),
    ("L, largest norm of an agent's field", "bound.L", number),
    ("dissimilarity at the optimum, √ mean |F_i(x*)|²", "bound.dissimilarity", number),
    ("own optima from the common one, √ mean |x*_i - x*|²", "bound.own_optima", number),
    ("bias of local steps", "bound.bias", number),
    ("bound on the agents' disagreement, lr D / (1 - λ₂)", "bound.disagreement", number),
    ("drift of the mean by mixing", "mean_drift", number),
    ("epsilon, largest of an agent", "privacy.epsilon", number),
    ("delta of epsilon", "privacy.delta", number),
    ("releases refused, budget spent", "privacy.releases_refused", number),
    ("secure sums", "secure.sums", number),
    ("staleness, mean", "staleness.mean", number),
    ("staleness, 95th percentile", "staleness.p95", number),
    ("mean training batch (agents)", "mean_batch", number),
)


def summary_table(groups: Sequence[Group]) -> Table:
    """Return the summary of each group: means over seeds with 95% confidence intervals.

    It has no lines without a number, so that the interquartile mean over runs needs four seeds:
    nothing can be trimmed of fewer.
    """
    rows = []
    most = max(len(g.records) for g in groups)
    for title, path, show in _SUMMARY:
        center = trimmed if title == _OVER_RUNS else estimate
        if path == "lambda_2" and any(len(g.rates) > 1 for g in groups):
            rows.append((title, *map(_rates, groups)))
            continue
        cells = [
            center([dig(r.summary | {"lambda_2": r.lambda_2}, path) for r in g.records])
            for g in groups
        ]
        if any(cell.count for cell in cells):
            rows.append((title, *(interval(cell, show) for cell in cells)))
    caption = "" if most == 1 else f"Means over seeds{_confidence(groups)}."
    return Table("Summary", caption, ("", *(g.label for g in groups)), tuple(rows))


def _rates(group: Group) -> str:
    """Return lambda_2 of a group as text; a range if seeds draw different graphs."""
    return " to ".join(dict.fromkeys(map(number, group.rates[:1] + group.rates[-1:]))) or "-"


def _confidence(groups: Sequence[Group]) -> str:
    """Return what a caption says about intervals over the seeds of `groups`."""
    if max(len(g.records) for g in groups) >= MIN_SEEDS:
        return " with 95% confidence intervals (Student's t)"
    return f"; an interval needs at least {MIN_SEEDS}"


def heterogeneity_table(groups: Sequence[Group]) -> Table | None:
    """Return measures of how different the agents are, or None if none was computed."""
    measures = groups[0].first.heterogeneity
    if not measures:
        return None
    rows = tuple((name.replace("_", " "), number(value)) for name, value in measures.items())
    return Table(
        "Heterogeneity",
        "How different the agents' tasks are; 0 is identical.",
        ("measure", "value"),
        rows,
    )


def opted_out_table(groups: Sequence[Group]) -> Table | None:
    """Return who left which run of its own will, and when; None if nobody did."""
    rows = [
        (
            group.label,
            str(record.seed),
            str(one.get("agent")),
            number(dig(one, "rounds")),
            duration(dig(one, "virtual_seconds")),
        )
        for group in groups
        for record in group.records
        for one in _listed(record.summary.get(OPTED_OUT))
    ]
    caption = (
        "They left the run for good, of their own will, at the end of a round. What the others had learned from them "
        "stays in their models."
    )
    header = ("run", "seed", "agent", "after rounds", "after")
    return Table("Opted out", caption, header, tuple(rows)) if rows else None


def _listed(found: object) -> list[Mapping[str, Any]]:
    """Return the tables in a list that a summary has."""
    return [one for one in found if isinstance(one, Mapping)] if isinstance(found, list) else []


def physics_table(groups: Sequence[Group]) -> Table | None:
    """Return the final return by the physics in which agents differ, such as the difficulty.

    It is None if the agents have the same physics.
    """
    columns = varied(groups[0].first)
    if not columns or not groups[0].has("round", "return_mean"):
        return None
    # The agents of one run learn together, so an interval counts runs: their agents are averaged.
    values: dict[tuple[float, ...], list[list[float]]] = {}
    for position, g in enumerate(groups):
        for rows in map(final_rows, g.records):
            if not set(columns) <= rows.keys():
                continue
            alike: dict[tuple[float, ...], list[float]] = {}
            for index, value in enumerate(rows["return"].astype(np.float64).tolist()):
                alike.setdefault(tuple(float(rows[c][index]) for c in columns), []).append(value)
            for key, returns in alike.items():
                mean = estimate(returns).mean
                values.setdefault(key, [[] for _ in groups])[position].append(mean)
    keys = sorted(values)
    header = (*(c.removeprefix(PHYSICS) for c in columns), *(f"return, {g.label}" for g in groups))
    body = tuple(
        (*(number(v) for v in key), *(interval(estimate(cell)) for cell in values[key]))
        for key in _spaced(keys, _ROWS)
    )
    many = any(len(g.records) > 1 for g in groups)
    over = f"agents, then over seeds{_confidence(groups)}" if many else "agents"
    caption = f"Final return of the agents with these physics: mean over {over}."
    if len(keys) > _ROWS:
        caption += f" {_ROWS} of {len(keys)} are shown, evenly spaced."
    return Table("Return by physics", caption, header, body)


def _spaced(keys: Sequence[tuple[float, ...]], count: int) -> Iterable[tuple[float, ...]]:
    if len(keys) <= count:
        return keys
    return [keys[i] for i in np.linspace(0, len(keys) - 1, count).round().astype(int)]
