"""Comparison of scenarios with paired seeds: measures side by side, aggregates, and differences.

What is compared are members: files, recipes, modes or settings.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from p2pfrl.build.modes import BUILDERS
from p2pfrl.core.errors import P2PFRLError, ScenarioError
from p2pfrl.experiment.equal import equal_members, equal_table, notes_table
from p2pfrl.experiment.jobs import Execute, Finished, Job, Progress, execute, run_all
from p2pfrl.experiment.members import Member, members
from p2pfrl.results.aggregates import Outcomes, Standing, normalized, standings
from p2pfrl.results.directory import reserved_for_series
from p2pfrl.results.files import (
    encode_json,
    encode_rows,
    plain,
    read_bytes,
    refusing,
    write_bytes,
)
from p2pfrl.results.numbers import dig, duration, interval, number, size
from p2pfrl.results.record import Record, load
from p2pfrl.results.report import Table
from p2pfrl.results.statistics import (
    MIN_SEEDS,
    Estimate,
    estimate,
    paired,
    signed_rank,
    trimmed,
    wins,
)
from p2pfrl.results.tables import ForTerminal, encode_latex, standings_table
from p2pfrl.scenario import loads
from p2pfrl.scenario.sections import Scenario


@dataclass(frozen=True)
class Measure:
    """A measure that is compared.

    Attributes:
        name: dotted path in a summary.
        title: title in the table.
        better: 1 if more is better, -1 if less is better, else 0.
        per: dotted path of a divisor, such as rounds for bytes per round.
        show: converts one value to text.
        center: the mean over seeds, or the interquartile mean, which needs four.
    """

    name: str
    title: str
    better: int = 0
    per: str | None = None
    show: Callable[[float], str] = number
    center: Callable[[ArrayLike], Estimate] = estimate

    def of(self, record: Record) -> float:
        """Return its value in one run, nan if there is none."""
        value = dig(record.summary, self.name)
        divisor = dig(record.summary, self.per) if self.per else 1.0
        return value / divisor if divisor else float("nan")


MEASURES = (
    Measure("final_return.mean", "final return, mean of agents", 1),
    Measure(
        "final_return.mean",
        "final return, interquartile mean over runs",
        1,
        center=trimmed,
    ),
    Measure("final_return.iqm", "final return, interquartile mean over agents of a run", 1),
    Measure("evaluation.own", "evaluation, own parameters", 1),
    Measure("evaluation.mean_parameters", "evaluation, mean parameters", 1),
    Measure("time_to_target.rounds", "rounds to target", -1),
    Measure("time_to_target.env_steps", "environment steps to target", -1),
    Measure("time_to_target.virtual_seconds", "virtual time to target", -1, show=duration),
    Measure("time_to_target.bytes", "bytes to target", -1, show=size),
    Measure("final_error", "error at the end", -1),
    Measure("consensus_distance", "consensus distance at the end"),
    Measure("bytes_sent", "bytes sent", -1, show=size),
    Measure("env_steps", "environment steps"),
    Measure("virtual_seconds", "virtual time", show=duration),
    Measure("rounds", "rounds"),
    Measure("bytes_sent", "bytes per round", per="rounds", show=size),
    Measure("messages_sent", "messages per round", per="rounds"),
    Measure("virtual_seconds", "virtual time per round", per="rounds", show=duration),
    Measure("env_steps", "environment steps per round", per="rounds"),
    Measure("mean_batch", "mean training batch (agents)"),
)


_AGAINST = (
    "Differences on the same seeds, the number of seeds on which the other does better (ties count half), and the "
    "two-sided p-value of the exact Wilcoxon signed-rank test, not corrected for the number of rows."
)
_NUMBER = re.compile(r"(\d+(?:,\d{3})*(?:\.\d+)?)")
_LEFT_OUT = "These have failed, and no number here knows of them."
_COLUMNS = (
    *("measure", "mode", "defined", "mean", "low", "high"),
    *("difference", "difference_low", "difference_high", "improvement", "p_value"),
)
"""Columns of comparison.csv."""
_TARGETS = ("time_to_target.rounds", "time_to_target.bytes", "time_to_target.virtual_seconds")
_FEW = f"Intervals and p-values need at least {MIN_SEEDS} seeds."


@dataclass(frozen=True)
class Cell:
    """One measure in one mode.

    Attributes:
        values: one value per seed, in the order of the seeds; nan if undefined (a target that was
            not reached).
        mean: mean over the seeds with a value, with a 95% interval from `MIN_SEEDS` seeds on. A
            measure with another `center` has that center in place of the mean.
        difference: the same of the paired differences to the first mode; None for the first mode
            itself.
        improvement: share of the seeds on which this mode is better than the first, where ties
            count half; None if neither direction is better, and of an interquartile mean, whose
            values are those of the mean. A target that was not reached is worse than any that was.
        p_value: two-sided, of the exact Wilcoxon signed-rank test on the same pairs; None for fewer
            than `MIN_SEEDS` seeds.
    """

    values: tuple[float, ...]
    mean: Estimate
    difference: Estimate | None
    improvement: float | None
    p_value: float | None


Rows = tuple[tuple[Measure, tuple[Cell, ...]], ...]
"""Measures, and a cell per member of each."""


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

        The columns are those of comparison.csv, and `measure.name` stays as it is there.
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
        for measure, cells in self.rows:
            for label, cell in zip(self.members, cells, strict=True):
                row: dict[str, Any] = {
                    "measure": measure.title,
                    "mode": label,
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
                yield row

    def tables(self) -> tuple[Table, ...]:
        """Return tables of aggregates, values, paired differences, and what else differs."""
        seeds, others = len(self.seeds), self.members[1:]
        score = "" if (ranked := _score_of(self.rows)) is None else ranked[0].title
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
            f"Means over {one} [95% confidence, Student's t]."
            if seeds >= MIN_SEEDS
            else f"Means over {one}. {_FEW}"
        )
        found = [
            Table("Failed runs", _LEFT_OUT, ("run", "error"), self.failed),
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


def compare(
    scenario: str | Path | Sequence[str | Path],
    modes: Sequence[str],
    seeds: Sequence[int],
    out: Path | str,
    *,
    recipes: Sequence[str] = (),
    settings: Mapping[str, Sequence[object]] | None = None,
    overrides: Mapping[str, object] | None = None,
    jobs: int = 1,
    resume: bool = False,
    overwrite: bool = False,
    run: Execute = execute,
    progress: Progress | None = None,
) -> Comparison:
    """Run members with the same seeds, and compare them.

    Members are all combinations of files, modes, recipes and values of settings. A run that fails,
    and a member that is not valid, does not stop the others: it is named, and all others are
    compared. `comparison.json`,
    `comparison.csv` and `comparison.tex` are written to `out`, beside the run directories
    `<member>-s<seed>`.

    Args:
        scenario: file or name, or several.
        modes: the others are compared with the first; none for the mode that each file or recipe
            has.
        seeds: at least one; the same for every member.
        out: folder of the run directories.
        recipes: names of recipes that take the place of the one that a file extends. Their keys win
            over those of the file, but for topology, learner and environment.
        settings: several values by dotted key, such as {"learner.lr": [1e-3, 3e-4]}.
        overrides: values by dotted key, for all members.
        jobs: number of processes.
        resume: whether to keep complete runs of the same scenario in `out`.
        overwrite: whether to repeat finished runs.
        run: runs one job.
        progress: called after every run.

    Raises:
        P2PFRLError: every run has failed, or two members are the same.
        ScenarioError: no member is valid.
    """
    if not len(seeds) or len(set(seeds)) != len(seeds):
        raise P2PFRLError("--seeds: expected different seeds, as 0-4 or 1,2,3")
    files = [scenario] if isinstance(scenario, str | Path) else [*scenario]
    found = members(files, modes, recipes, settings, overrides)
    seeds, folder = [int(seed) for seed in seeds], Path(out)
    planned = {
        (member.label, seed): Job(
            member.scenario,
            (*member.overrides.items(), ("seed", seed)),
            folder / f"{member.folder}-s{seed}",
            member.label,
        )
        for member in found
        for seed in seeds
    }
    _refuse_twins(found, planned)
    with reserved_for_series(folder):
        finished = run_all(
            list(planned.values()),
            workers=jobs,
            resume=resume,
            overwrite=overwrite,
            execute=run,
            progress=progress,
        )
        failed = _failures(finished)
    runs = {
        member.label: tuple(
            None if job.directory.name in failed else job.directory
            for job in (planned[member.label, seed] for seed in seeds)
        )
        for member in found
    }
    parts = {member.label: (member.task, member.algorithm) for member in found}
    comparison = _of_runs(runs, seeds, failed, parts)
    for path, content in comparison.files().items():
        write_bytes(folder / path, content)
    return comparison


def _refuse_twins(found: Sequence[Member], planned: Mapping[tuple[str, int], Job]) -> None:
    """Refuse members that are the same scenario, which no comparison tells apart.

    Raises:
        P2PFRLError: two are.
        ScenarioError: none is valid; every one is named.
    """
    seed = next(iter(planned))[1]
    scenarios: list[tuple[str, Scenario]] = []
    problems: list[str] = []
    for member in found:
        try:
            scenario = replace(planned[member.label, seed].load(), name="any")
        except ScenarioError as error:
            start = "" if len(found) == 1 else f"{member.label}: "
            problems += [f"{start}{problem}" for problem in error.problems]
            continue
        for label, other in scenarios:
            if scenario == other:
                raise P2PFRLError(
                    f"{label} and {member.label}: expected different scenarios, got the same twice"
                )
        scenarios.append((member.label, scenario))
    if not scenarios:
        raise ScenarioError(problems)


def read_comparison(folder: Path) -> Comparison:
    """Return the comparison of the runs in the directory of a comparison.

    Raises:
        RecordError: a file is missing or damaged.
    """
    path = folder / "comparison.json"
    content = read_bytes(path)
    with refusing(path):
        found = json.loads(content)
        labels, seeds = [str(m) for m in found["modes"]], [int(s) for s in found["seeds"]]
        failed = {str(run): str(error) for run, error in found.get("failed", {}).items()}
        names = {
            label: [Path(str(place)).name for place in found["directories"][label]]
            for label in labels
        }
        parts = {
            str(label): (str(task), str(algorithm))
            for label, (task, algorithm) in found.get("parts", {}).items()
        }
    runs = {
        label: tuple(
            next((folder / name for name in names[label] if name.endswith(f"-s{seed}")), None)
            for seed in seeds
        )
        for label in labels
    }
    return _of_runs(runs, seeds, failed, parts)


def _of_runs(
    runs: Mapping[str, Sequence[Path | None]],
    seeds: Sequence[int],
    failed: Mapping[str, str],
    parts: Mapping[str, tuple[str, str]],
) -> Comparison:
    """Compare finished runs.

    Args:
        runs: run directories by member, one per seed; None for a run that has failed.
        seeds: the seeds.
        failed: name of a run -> its error.
        parts: task and algorithm of members.
    """
    records = {
        label: [None if path is None else load(path) for path in own] for label, own in runs.items()
    }
    kept = [label for label, own in records.items() if any(own)]
    rows = tabulate([records[label] for label in kept])
    facts = {
        label: _over_seeds([differences(loads(r.scenario)) for r in records[label] if r])
        for label in kept
    }
    notes: dict[str, dict[str, None]] = {}
    for label in kept:
        for record in filter(None, records[label]):
            for note in record.summary.get("notes", ()):
                notes.setdefault(str(note), {})[label] = None
    return Comparison(
        members=tuple(kept),
        seeds=tuple(seeds),
        rows=rows,
        differences=facts,
        directories={
            label: tuple(path for path in runs[label] if path is not None) for label in kept
        },
        standings=_standings(kept, rows),
        over_tasks=_over_tasks(kept, rows, parts),
        parts={label: parts[label] for label in kept if label in parts},
        failed=tuple(failed.items()),
        notes={note: tuple(own) for note, own in notes.items()},
        equal=equal_members(
            {
                label: {
                    seed: str(record.summary["digest"])
                    for seed, record in zip(seeds, records[label], strict=True)
                    if record
                }
                for label in kept
            }
        ),
    )


def _score_of(rows: Rows) -> tuple[Measure, tuple[Cell, ...]] | None:
    """Return the measure by which members are ranked: the final return, or else the error."""
    for name in ("final_return.mean", "final_error"):
        for measure, cells in rows:
            if measure.name == name:
                return measure, cells
    return None


def _standings(labels: Sequence[str], rows: Rows) -> tuple[Standing, ...]:
    """Return the aggregates over the runs of every member."""
    score = _score_of(rows)
    if score is None:
        return ()
    measure, cells = score
    targets = {m.name: own for m, own in rows if m.name.startswith("time_to_target.")}
    nothing = np.full(len(cells[0].values), np.nan)
    found = []
    for place, (label, cell) in enumerate(zip(labels, cells, strict=True)):
        reached = [
            np.array(targets[name][place].values) if name in targets else nothing
            for name in _TARGETS
        ]
        found.append(Outcomes(label, (_finite(cell),), (reached[0], reached[1], reached[2])))
    return standings(found, measure.better)


def _over_tasks(
    labels: Sequence[str], rows: Rows, parts: Mapping[str, tuple[str, str]]
) -> tuple[Standing, ...]:
    """Return the aggregates over files of the members that ran in each of them."""
    score = _score_of(rows)
    tasks, algorithms = (
        [*dict.fromkeys(part[place] for label in labels if (part := parts.get(label)))]
        for place in (0, 1)
    )
    if score is None or len(tasks) < 2:
        return ()
    measure, cells = score
    own = {parts[label]: _finite(cell) for label, cell in zip(labels, cells, strict=True)}
    everywhere = [a for a in algorithms if all(len(own.get((t, a), ())) for t in tasks)]
    scores = normalized([[measure.better * own[t, a] for a in everywhere] for t in tasks])
    nothing = np.empty(0)
    return standings(
        [
            Outcomes(label, tuple(task[place] for task in scores), (nothing, nothing, nothing))
            for place, label in enumerate(everywhere)
        ]
    )


def _finite(cell: Cell) -> NDArray[np.float64]:
    values: NDArray[np.float64] = np.array(cell.values, dtype=np.float64)
    return values[np.isfinite(values)]


def _over_seeds(found: Sequence[tuple[str, ...]]) -> tuple[str, ...]:
    """Return the sentences of all seeds as one: numbers in which seeds differ become ranges.

    Seeds differ where they draw their graphs.
    """
    return tuple(_merged(sentences) for sentences in zip(*found, strict=True))


def _merged(sentences: Sequence[str]) -> str:
    """Return equal sentences once, with ranges in place of different numbers.

    >>> _merged(["8 messages of 1,024 bytes", "12 messages of 1,024 bytes"])
    '8 to 12 messages of 1,024 bytes'
    """
    parts = [_NUMBER.split(sentence) for sentence in sentences]
    if len({tuple(words[::2]) for words in parts}) > 1:
        return " Or, with another seed: ".join(dict.fromkeys(sentences))
    return "".join(
        " to ".join(dict.fromkeys((min(words, key=_value_of), max(words, key=_value_of))))
        if place % 2
        else words[0]
        for place, words in enumerate(zip(*parts, strict=True))
    )


def _value_of(number: str) -> float:
    return float(number.replace(",", ""))


def _failures(finished: Sequence[Finished]) -> dict[str, str]:
    """Return the errors of runs that have failed, by the names of their directories.

    Raises:
        P2PFRLError: all have, with every error.
    """
    failed = {
        result.job.directory.name: result.error for result in finished if result.error is not None
    }
    if len(failed) == len(finished):
        lines = [f"{name}: {error}" for name, error in failed.items()]
        raise P2PFRLError("\n".join([f"all {len(failed)} runs have failed:", *lines]))
    return failed


def tabulate(records: Sequence[Sequence[Record | None]]) -> Rows:
    """Return every measure that some run has, in each member.

    `records` has the runs of each member in the order of the seeds; None for one that has failed.
    """
    rows = []
    for measure in MEASURES:
        values = [tuple(_value(measure, record) for record in runs) for runs in records]
        cells = tuple(_cell(measure, values[0], own, first=own is values[0]) for own in values)
        if any(cell.mean.count for cell in cells):
            rows.append((measure, cells))
    return tuple(rows)


def _value(measure: Measure, record: Record | None) -> float:
    if record is None:
        return float("nan")
    if measure.name == "final_error":
        errors = record.metrics.get("error", np.empty(0))
        return float(errors[-1]) if len(errors) else float("nan")
    return measure.of(record)


def _cell(
    measure: Measure, base: tuple[float, ...], own: tuple[float, ...], *, first: bool
) -> Cell:
    mean = measure.center(own)
    if first:
        return Cell(own, mean, None, None, None)
    difference = paired(base, own, measure.center)
    # Wins and ranks are of single seeds: another center of the same values has no others.
    is_counted = measure.better and measure.center is estimate
    if not is_counted or not (mean.count or estimate(base).count):
        return Cell(own, mean, difference, None, None)
    ranks = [
        [measure.better * v if math.isfinite(v) else -math.inf for v in values]
        for values in (base, own)
    ]
    return Cell(own, mean, difference, wins(*ranks), signed_rank(*ranks))


def differences(scenario: Scenario) -> tuple[str, ...]:
    """Return, as sentences, the differences of `scenario`'s mode beyond the mode itself."""
    return BUILDERS[scenario.mode]().differences(scenario)
