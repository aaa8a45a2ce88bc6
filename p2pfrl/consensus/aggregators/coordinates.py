"""Robust aggregators that treat every coordinate apart: median and trimmed mean."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field
from typing_extensions import override

from p2pfrl.consensus.aggregators.distances import coordinate_median, sorted_rows
from p2pfrl.consensus.aggregators.robust import Place, Robust, Rows, mean
from p2pfrl.core.parameters import Vector
from p2pfrl.core.rule import rule


@rule
class Median(Robust):
    """The median of every coordinate; of an even number of vectors the mean of the two middle ones.

    With k >= 2 f + 1 vectors each coordinate lies between two honest ones. The error of the median
    grows with the dimension and, where honest vectors differ, does not vanish without attackers.

    Reference: Yin, Chen, Ramchandran, Bartlett, Byzantine-robust distributed learning: towards
        optimal statistical rates, ICML 2018, arXiv 1803.01498.
    """

    reads_byzantine: ClassVar[bool] = False

    @override
    def reduce(self, rows: Rows, f: int, place: Place) -> Vector:
        return coordinate_median(rows)


@rule
class TrimmedMean(Robust):
    """The mean of every coordinate without its f smallest and its f largest values.

    With k >= 2 f + 1 vectors each coordinate lies between two honest ones. f = 0 gives the mean.

    Attributes:
        byzantine: f, how many values are left out at either end.

    Reference: Yin, Chen, Ramchandran, Bartlett, Byzantine-robust distributed learning: towards
        optimal statistical rates, ICML 2018, arXiv 1803.01498.
    """

    byzantine: int = Field(default=1, ge=0)

    @override
    def reduce(self, rows: Rows, f: int, place: Place) -> Vector:
        return mean(sorted_rows(rows)[f : len(rows) - f]) if f else mean(rows)
