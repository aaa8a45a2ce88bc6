"""Measures of runs side by side: values, means, and paired differences to the first member."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from p2pfrl.results.numbers import dig, duration, number, size
from p2pfrl.results.record import Record
from p2pfrl.results.statistics import (
    Estimate,
    estimate,
    paired,
    signed_rank,
    trimmed,
    wins,
)


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


def score_of(rows: Rows) -> tuple[Measure, tuple[Cell, ...]] | None:
    """Return the measure by which members are ranked: the final return, or else the error."""
    for name in ("final_return.mean", "final_error"):
        for measure, cells in rows:
            if measure.name == name:
                return measure, cells
    return None


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
