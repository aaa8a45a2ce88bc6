"""A comparison: members side by side, as tables, columns, JSON, CSV and LaTeX."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from p2pfrl.build.modes import BUILDERS
from p2pfrl.experiment.equal import equal_table, notes_table
from p2pfrl.experiment.measures import Cell, Measure, Rows, score_of
from p2pfrl.results.aggregates import Standing
from p2pfrl.results.files import encode_json, encode_rows, plain
from p2pfrl.results.numbers import interval
from p2pfrl.results.report import Table
from p2pfrl.results.statistics import MIN_SEEDS, Estimate, estimate
from p2pfrl.results.tables import ForTerminal, encode_latex, standings_table

_AGAINST = (
    "Means of the differences on the same seeds (of interquartile means over runs, the interquartile mean of these "
    "differences), the number of seeds on which the other does better (ties count half), and the "
    "two-sided p-value of the exact Wilcoxon signed-rank test, not corrected for the number of rows."
)
_LEFT_OUT = "These have failed, and no number here knows of them."
_COLUMNS = (
    *("measure", "member", "defined", "mean", "low", "high"),
    *("difference", "difference_low", "difference_high", "improvement", "p_value"),
    *("bootstrap_low", "bootstrap_high", "iqm", "iqm_low", "iqm_high"),
    *("probability", "probability_low", "probability_high"),
)
"""Columns of comparison.csv; those of the bootstrap are of the score alone."""
_FEW = f"Intervals and p-values need at least {MIN_SEEDS} seeds."


@dataclass(frozen=True)
class Comparison:
    """Members side by side.

    Attributes:
        members: labels; the others are compared with the first. Members without any run that is
            done are not among them.
        seeds: the seeds, the same for every member.
        rows: (measure, one cell per member).
        differences: per member, what its mode does that others do not.
        directories: directories of the runs that are done, by member.
        standings: aggregates over runs, by member.
        over_tasks: aggregates over all files, if members differ in more than the file, by the rest
            of their labels.
        parts: per member, its file and the rest of its label; the file is empty if members do not
            differ in both.
        failed: the run and its error, of every run that failed or whose scenario is not valid.
        notes: on the scenarios: what has no effect, and what messages reveal, with the members.
        equal: members that are one run: all their seeds end with the same digests.
    """

    members: tuple[str, ...]
    seeds: tuple[int, ...]
    rows: Rows
    differences: dict[str, tuple[str, ...]]
    directories: dict[str, tuple[Path, ...]]
    standings: tuple[Standing, ...] = ()
    over_tasks: tuple[Standing, ...] = ()
    parts: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    failed: tuple[tuple[str, str], ...] = ()
    notes: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    equal: tuple[tuple[str, ...], ...] = ()

    @property
    def labels(self) -> dict[Path, str]:
        """The label of every run that is done, by its directory, for figures and reports."""
        return {path: label for label, paths in self.directories.items() for path in paths}

    def columns(self) -> dict[str, list[Any]]:
        """Return the table as columns, a row per measure and member: `pandas.DataFrame(...)`.

        The columns are those of comparison.csv.
        """
        rows = [*self._numbers()]
        return {name: [row.get(name) for row in rows] for name in _COLUMNS}

    def runs(self) -> dict[str, list[Any]]:
        """Return the values of every run as columns, a row per member and seed.

        After `member` and `seed` there is a column per measure with its title, nan where undefined.
        """
        found: dict[str, list[Any]] = {
            "member": [label for label in self.members for _ in self.seeds],
            "seed": [seed for _ in self.members for seed in self.seeds],
        }
        for measure, cells in self.rows:
            if measure.center is estimate:
                found[measure.title] = [value for cell in cells for value in cell.values]
        return found

    def to_json(self) -> dict[str, Any]:
        """Return the comparison as a JSON object; undefined numbers are null."""
        table = [
            {
                "measure": measure.title,
                "over_seeds": "mean" if measure.center is estimate else "interquartile mean",
                "modes": {
                    label: {
                        "values": cell.values,
                        "mean": cell.mean.mean,
                        "confidence": [cell.mean.low, cell.mean.high],
                        "defined": cell.mean.count,
                        "difference": None
                        if cell.difference is None
                        else {
                            "mean": cell.difference.mean,
                            "confidence": [cell.difference.low, cell.difference.high],
                        },
                        "improvement": cell.improvement,
                        "p_value": cell.p_value,
                    }
                    for label, cell in zip(self.members, cells, strict=True)
                },
            }
            for measure, cells in self.rows
        ]
        whole = {
            "modes": self.members,
            "seeds": self.seeds,
            "table": table,
            "aggregates": [_standing(one) for one in self.standings],
            "over_tasks": [_standing(one) for one in self.over_tasks],
            "parts": self.parts,
            "differences": self.differences,
            "directories": {
                label: [str(path) for path in paths] for label, paths in self.directories.items()
            },
            "failed": dict(self.failed),
            "notes": self.notes,
            "equal": self.equal,
        }
        return dict(plain(whole))

    def files(self) -> dict[str, bytes]:
        """Return the comparison as files: name -> content."""
        return {
            "comparison.json": encode_json(self.to_json()),
            "comparison.csv": encode_rows(_COLUMNS, [*self._numbers()]),
            "comparison.tex": encode_latex(self.tables()),
        }

    def _numbers(self) -> Iterator[dict[str, Any]]:
        ranked = score_of(self.rows)
        standings = {one.label: one for one in self.standings}
        for measure, cells in self.rows:
            is_score = ranked is not None and measure is ranked[0]
            for label, cell in zip(self.members, cells, strict=True):
                row: dict[str, Any] = {
                    "measure": measure.title,
                    "member": label,
                    "defined": cell.mean.count,
                    "mean": cell.mean.mean,
                    "low": cell.mean.low,
                    "high": cell.mean.high,
                    "improvement": cell.improvement,
                    "p_value": cell.p_value,
                }
                if (own := cell.difference) is not None:
                    row |= {
                        "difference": own.mean,
                        "difference_low": own.low,
                        "difference_high": own.high,
                    }
                yield row | (_bootstrapped(standings[label]) if is_score else {})

    def tables(self) -> tuple[Table, ...]:
        """Return tables of aggregates, values, paired differences, and what else differs."""
        seeds, others = len(self.seeds), self.members[1:]
        score = "" if (ranked := score_of(self.rows)) is None else ranked[0].title
        values = tuple(
            (measure.title, *(_text(measure, cell, seeds) for cell in cells))
            for measure, cells in self.rows
        )
        against = tuple(
            (measure.title, label, *_against(measure, cell, seeds))
            for measure, cells in self.rows
            for label, cell in zip(others, cells[1:], strict=True)
            if measure.per is None and cell.difference is not None and cell.difference.count
        )
        are_modes = set(self.members) <= set(BUILDERS)
        what = "mode" if are_modes else "member"
        header = ("", what, "difference", "better on", "p")
        facts = tuple((label, fact) for label, found in self.differences.items() for fact in found)
        one = f"{seeds} paired seed{'s' if seeds > 1 else ''}"
        caption = (
            f"Means over {one} [95% confidence, Student's t; of interquartile means over runs, Tukey and McLaughlin's]."
            if seeds >= MIN_SEEDS
            else f"Means over {one}. {_FEW}"
        )
        found = [
            Table("Failed runs", _LEFT_OUT, ("run", "error"), _by_member(self.failed)),
            *equal_table(self.equal),
            *notes_table(self.notes, self.members),
        ]
        if len(self.over_tasks) > 1:
            tasks = dict.fromkeys(task for task, _ in self.parts.values())
            found.append(standings_table(self.over_tasks, score, [*tasks]))
        if self.standings:
            found.append(standings_table(self.standings, score))
        found += [
            Table("Comparison", caption, ("", *self.members), values),
            Table(f"Against {self.members[0]}", _AGAINST, header, against),
            Table(
                "Beyond the mode" if are_modes else "What members do",
                "What else differs between the modes."
                if are_modes
                else "Messages, waits and rules of the mode of each member.",
                (what, "difference" if are_modes else ""),
                facts,
            ),
        ]
        return tuple(table for table in found if table.rows)

    def to_rich(self) -> ForTerminal:
        """Return the tables for a terminal."""
        return ForTerminal(self.tables())


def _by_member(failed: Sequence[tuple[str, str]]) -> tuple[tuple[str, str], ...]:
    """Return runs of one member that failed for one reason as one row.

    >>> _by_member([("a-s0", "no"), ("a-s1", "no"), ("b-s0", "no")])
    (('a-s0, a-s1', 'no'), ('b-s0', 'no'))
    """
    rows: dict[tuple[str, str], list[str]] = {}
    for run, error in failed:
        rows.setdefault((run.rpartition("-s")[0], error), []).append(run)
    return tuple((", ".join(runs), error) for (_, error), runs in rows.items())


def _bootstrapped(one: Standing) -> dict[str, float]:
    """Return the aggregates of a member over its runs, with their bootstrap intervals."""
    found = {"bootstrap_low": one.mean.low, "bootstrap_high": one.mean.high}
    for name, value in (("iqm", one.iqm), ("probability", one.improvement)):
        if value is not None:
            found |= {name: value.mean, f"{name}_low": value.low, f"{name}_high": value.high}
    return found


def _standing(one: Standing) -> dict[str, Any]:
    """Return aggregates as a JSON object."""

    def interval(value: Estimate | None) -> dict[str, Any] | None:
        if value is None:
            return None
        return {"value": value.mean, "confidence": [value.low, value.high]}

    return {
        "member": one.label,
        "runs": one.runs,
        "mean": interval(one.mean),
        "iqm": interval(one.iqm),
        "improvement": interval(one.improvement),
        "to_target": dict(zip(("rounds", "bytes", "virtual_seconds"), one.targets, strict=True)),
        "reached": one.reached,
    }


def _text(measure: Measure, cell: Cell, seeds: int) -> str:
    if not cell.mean.count:
        return "-"
    return interval(cell.mean, measure.show) + (
        f" ({cell.mean.count} of {seeds})" if cell.mean.count < seeds else ""
    )


def _against(measure: Measure, cell: Cell, seeds: int) -> tuple[str, str, str]:
    if cell.difference is None:
        return "-", "-", "-"
    chance = "-" if cell.improvement is None else f"{cell.improvement * seeds:g} of {seeds}"
    p_value = "-" if cell.p_value is None else f"{cell.p_value:.3g}"
    return interval(cell.difference, measure.show), chance, p_value
