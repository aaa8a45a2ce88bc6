"""Comparison of modes: one scenario with paired seeds, measures side by side, and differences."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from p2pfrl.build.modes import BUILDERS
from p2pfrl.core.errors import P2PFRLError
from p2pfrl.experiment.jobs import Execute, Finished, Job, Progress, execute, run_all
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
from p2pfrl.results.tables import ForTerminal, encode_latex
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
    "Differences on the same seeds, the number of seeds on which the mode does better (ties count half), and the "
    "two-sided p-value of the exact Wilcoxon signed-rank test, not corrected for the number of rows."
)
_NUMBER = re.compile(r"(\d+(?:,\d{3})*(?:\.\d+)?)")
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


@dataclass(frozen=True)
class Comparison:
    """Modes side by side.

    Attributes:
        modes: the others are compared with the first.
        seeds: the seeds, the same for every mode.
        rows: (measure, one cell per mode).
        differences: per mode, differences beyond the mode itself.
        directories: run directories, mode by mode.
    """

    modes: tuple[str, ...]
    seeds: tuple[int, ...]
    rows: tuple[tuple[Measure, tuple[Cell, ...]], ...]
    differences: dict[str, tuple[str, ...]]
    directories: dict[str, tuple[Path, ...]]

    def to_json(self) -> dict[str, Any]:
        """Return the comparison as a JSON object; undefined numbers are null."""
        table = [
            {
                "measure": measure.title,
                "over_seeds": "mean" if measure.center is estimate else "interquartile mean",
                "modes": {
                    mode: {
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
                    for mode, cell in zip(self.modes, cells, strict=True)
                },
            }
            for measure, cells in self.rows
        ]
        whole = {
            "modes": self.modes,
            "seeds": self.seeds,
            "table": table,
            "differences": self.differences,
            "directories": {
                mode: [str(path) for path in paths] for mode, paths in self.directories.items()
            },
        }
        return dict(plain(whole))

    def files(self) -> dict[str, bytes]:
        """Return the comparison as files: name -> content."""
        header = [
            "measure",
            "mode",
            *("defined", "mean", "low", "high"),
            *("difference", "difference_low", "difference_high", "improvement", "p_value"),
        ]
        return {
            "comparison.json": encode_json(self.to_json()),
            "comparison.csv": encode_rows(header, [*self._numbers()]),
            "comparison.tex": encode_latex(self.tables()),
        }

    def _numbers(self) -> Iterator[dict[str, Any]]:
        for measure, cells in self.rows:
            for mode, cell in zip(self.modes, cells, strict=True):
                row: dict[str, Any] = {
                    "measure": measure.title,
                    "mode": mode,
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
        """Return tables of values, of paired differences, and of differences beyond the mode."""
        seeds, others = len(self.seeds), self.modes[1:]
        values = tuple(
            (measure.title, *(_text(measure, cell, seeds) for cell in cells))
            for measure, cells in self.rows
        )
        against = tuple(
            (measure.title, mode, *_against(measure, cell, seeds))
            for measure, cells in self.rows
            for mode, cell in zip(others, cells[1:], strict=True)
            if measure.per is None and cell.difference is not None and cell.difference.count
        )
        header = ("", "mode", "difference", "better on", "p")
        facts = tuple((mode, fact) for mode, found in self.differences.items() for fact in found)
        one = f"{seeds} paired seed{'s' if seeds > 1 else ''}"
        caption = (
            f"Means over {one} [95% confidence, Student's t]."
            if seeds >= MIN_SEEDS
            else f"Means over {one}. {_FEW}"
        )
        return (
            Table("Comparison", caption, ("", *self.modes), values),
            *([Table(f"Against {self.modes[0]}", _AGAINST, header, against)] if against else []),
            Table(
                "Beyond the mode",
                "What else differs between the modes.",
                ("mode", "difference"),
                facts,
            ),
        )

    def to_rich(self) -> ForTerminal:
        """Return the tables for a terminal."""
        return ForTerminal(self.tables())


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
    scenario: str | Path,
    modes: Sequence[str],
    seeds: Sequence[int],
    out: Path | str,
    *,
    overrides: Mapping[str, object] | None = None,
    jobs: int = 1,
    resume: bool = False,
    overwrite: bool = False,
    run: Execute = execute,
    progress: Progress | None = None,
) -> Comparison:
    """Run a scenario in each mode with the same seeds, and compare.

    It writes `comparison.json`, `comparison.csv` and `comparison.tex` to `out`, beside the run
    directories `<mode>-s<seed>`.

    Args:
        scenario: file or name.
        modes: at least one; the others are compared with the first.
        seeds: at least one; the same for every mode.
        out: folder of the run directories.
        overrides: values by dotted key, for all modes.
        jobs: number of processes.
        resume: whether to keep complete runs of the same scenario in `out`.
        overwrite: whether to repeat finished runs.
        run: runs one job.
        progress: called after every run.
    """
    if not len(modes) or len(set(modes)) != len(modes):
        raise P2PFRLError("--modes: expected different modes, as gossip,central,independent")
    if not len(seeds) or len(set(seeds)) != len(seeds):
        raise P2PFRLError("--seeds: expected different seeds, as 0-4 or 1,2,3")
    seeds, folder = [int(seed) for seed in seeds], Path(out)
    planned = {
        (mode, seed): Job(
            str(scenario),
            (*(overrides or {}).items(), ("mode", mode), ("seed", seed)),
            folder / f"{mode}-s{seed}",
        )
        for mode in modes
        for seed in seeds
    }
    with reserved_for_series(folder):
        finished = run_all(
            list(planned.values()),
            workers=jobs,
            resume=resume,
            overwrite=overwrite,
            execute=run,
            progress=progress,
        )
        _refuse_failures(finished)
    comparison = _of_runs(folder, modes, seeds)
    for path, content in comparison.files().items():
        write_bytes(folder / path, content)
    return comparison


def read_comparison(folder: Path) -> Comparison:
    """Return the comparison of the runs in the directory of a comparison.

    Raises:
        RecordError: a file is missing or damaged.
    """
    path = folder / "comparison.json"
    content = read_bytes(path)
    with refusing(path):
        found = json.loads(content)
        modes, seeds = [str(m) for m in found["modes"]], [int(s) for s in found["seeds"]]
    return _of_runs(folder, modes, seeds)


def _of_runs(folder: Path, modes: Sequence[str], seeds: Sequence[int]) -> Comparison:
    """Compare the finished runs in `folder`."""
    paths = {mode: tuple(folder / f"{mode}-s{seed}" for seed in seeds) for mode in modes}
    records = {mode: [load(path) for path in own] for mode, own in paths.items()}
    facts = {
        mode: _over_seeds([differences(loads(record.scenario)) for record in own])
        for mode, own in records.items()
    }
    return Comparison(
        modes=tuple(modes),
        seeds=tuple(seeds),
        rows=tabulate([records[mode] for mode in modes]),
        differences=facts,
        directories=paths,
    )


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


def _refuse_failures(finished: Sequence[Finished]) -> None:
    """Raise an error if runs have failed.

    Raises:
        P2PFRLError: with every failed run.
    """
    failures = [
        f"{result.job.directory}: {result.error}" for result in finished if result.error is not None
    ]
    if failures:
        done = len(finished) - len(failures)
        again = "" if not done else f"; the same command with --resume keeps the {done} others"
        raise P2PFRLError(
            "\n".join([f"{len(failures)} of {len(finished)} runs failed{again}:", *failures])
        )


def tabulate(records: Sequence[Sequence[Record]]) -> tuple[tuple[Measure, tuple[Cell, ...]], ...]:
    """Return every measure that some run has, in each mode.

    `records` has the runs of each mode in the order of the seeds.
    """
    rows = []
    for measure in MEASURES:
        values = [tuple(_value(measure, record) for record in runs) for runs in records]
        cells = tuple(_cell(measure, values[0], own, first=own is values[0]) for own in values)
        if any(cell.mean.count for cell in cells):
            rows.append((measure, cells))
    return tuple(rows)


def _value(measure: Measure, record: Record) -> float:
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
