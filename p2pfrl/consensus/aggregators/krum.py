"""Robust aggregators that choose whole vectors by their nearest others: Krum and its kin."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray
from pydantic import Field
from typing_extensions import override

from p2pfrl.consensus.aggregators.distances import coordinate_median, sorted_rows, squared_distances
from p2pfrl.consensus.aggregators.robust import Place, Robust, Rows, mean
from p2pfrl.core.parameters import Vector
from p2pfrl.core.rule import rule


@rule
class Krum(Robust):
    """The vector with the smallest sum of squared distances to its k - f - 2 nearest others.

    It needs k >= 2 f + 3. The result is one of the vectors, so its variance is that of one agent.

    Attributes:
        byzantine: f.

    Reference: Blanchard, El Mhamdi, Guerraoui, Stainer, Machine learning with adversaries:
        Byzantine tolerant gradient descent, NeurIPS 2017, arXiv 1703.02757.
    """

    bears: ClassVar[tuple[int, int]] = (2, 3)
    byzantine: int = Field(default=1, ge=0)

    @override
    def reduce(self, rows: Rows, f: int, place: Place) -> Vector:
        best: Vector = rows[ranked(squared_distances(rows), f)[0]].copy()
        return best


@rule
class MultiKrum(Robust):
    """The mean of the m vectors with the smallest sums of Krum.

    It needs k >= 2 f + 3. f = 0 gives the mean.

    Attributes:
        byzantine: f.
        selected: m; k - f by default, and never more than that.

    Reference: Blanchard, El Mhamdi, Guerraoui, Stainer, Machine learning with adversaries:
        Byzantine tolerant gradient descent, NeurIPS 2017, arXiv 1703.02757.
    """

    bears: ClassVar[tuple[int, int]] = (2, 3)
    byzantine: int = Field(default=1, ge=0)
    selected: int | None = Field(default=None, ge=1)

    @override
    def reduce(self, rows: Rows, f: int, place: Place) -> Vector:
        most = max(1, len(rows) - f)
        m = most if self.selected is None else min(self.selected, most)
        return mean(rows[np.sort(ranked(squared_distances(rows), f)[:m])])


@rule
class Bulyan(Robust):
    """The mean of every coordinate's k - 4 f values nearest to its median, among k - 2 f vectors.

    The vectors are chosen one by one: Krum of those that are left. It needs k >= 4 f + 3. f = 0
    gives the mean. Where fewer than f + 3 are left, Krum counts the nearest other alone.

    Attributes:
        byzantine: f.

    Reference: El Mhamdi, Guerraoui, Rouault, The hidden vulnerability of distributed learning in
        Byzantium, ICML 2018, arXiv 1802.07927.
    """

    bears: ClassVar[tuple[int, int]] = (4, 3)
    byzantine: int = Field(default=1, ge=0)

    @override
    def reduce(self, rows: Rows, f: int, place: Place) -> Vector:
        if not f:
            return mean(rows)
        squares, left, chosen = squared_distances(rows), [*range(len(rows))], list[int]()
        while len(chosen) < len(rows) - 2 * f:
            found = left[ranked(squares[np.ix_(left, left)], f)[0]]
            chosen.append(found)
            left.remove(found)
        ordered = sorted_rows(rows[sorted(chosen)])
        return _nearest_to_median(ordered, len(chosen) - 2 * f)


@rule
class MDA(Robust):
    """The mean of the k - f vectors with the smallest diameter (minimum diameter averaging).

    It needs k >= 2 f + 1. f = 0 gives the mean. The search leaves out one of the two vectors that
    are farthest apart, f times, in all 2^f ways: no subset with both of them has a smaller
    diameter. If it finds several subsets of the smallest diameter, it takes the one with the
    smallest sum of squared distances.

    Attributes:
        byzantine: f, at most 12.

    Reference: El Mhamdi, Guerraoui, Guirguis, Hoang, Rouault, Genuinely distributed Byzantine
        machine learning, Distributed Computing 35, 2022, arXiv 1905.03853; as an agreement of
        reinforcement learners: Jordan, Groetschla, Fan, Wattenhofer, AAMAS 2024, arXiv 2401.03489.
    """

    byzantine: int = Field(default=1, ge=0, le=12)

    @override
    def reduce(self, rows: Rows, f: int, place: Place) -> Vector:
        return mean(rows[smallest(squared_distances(rows), f)])


def ranked(squares: NDArray[np.float64], f: int) -> NDArray[np.intp]:
    """Return k positions by the sum of the k - f - 2 smallest squared distances to others.

    At least one is counted, if there is another vector. Two vectors that are nearest to each other
    have equal sums if one is counted; then the next distance decides.

    Args:
        squares: `(k, k)` squared distances.
        f: number of Byzantine vectors.
    """
    k = len(squares)
    nearest = min(max(1, k - f - 2), k - 1)
    others = np.sort(squares, axis=1)[:, 1:]
    sums = others[:, :nearest].sum(axis=1)
    return np.lexsort((others[:, : nearest + 1].sum(axis=1), sums))


def smallest(squares: NDArray[np.float64], f: int) -> Sequence[int]:
    """Return the k - f positions of smallest diameter, ascending; see `MDA`."""
    best: tuple[float, float] = (np.inf, np.inf)
    chosen: Sequence[int] = range(len(squares))

    def search(left: list[int], spare: int) -> None:
        nonlocal best, chosen
        inner = squares[np.ix_(left, left)]
        i, j = divmod(int(np.argmax(inner)), len(left))
        if not spare:
            found = float(inner[i, j]), float(inner.sum())
            if found < best:
                best, chosen = found, left
            return
        if i == j:  # all are equal
            search(left[: len(left) - spare], 0)
            return
        for end in (i, j):
            search(left[:end] + left[end + 1 :], spare - 1)

    search([*range(len(squares))], f)
    return chosen


def _nearest_to_median(ordered: Rows, count: int) -> Vector:
    """Return the mean of every column's `count` values nearest to its median.

    The columns of `ordered` are sorted, so these values are next to each other. The window of
    `count` values moves up as long as the value that comes in is nearer than the one that goes out.
    """
    median = coordinate_median(ordered)
    total = mean(ordered[:count])
    for first in range(len(ordered) - count):
        is_nearer = ordered[first + count] - median < median - ordered[first]
        total = np.where(is_nearer, mean(ordered[first + 1 : first + 1 + count]), total)
    return total
