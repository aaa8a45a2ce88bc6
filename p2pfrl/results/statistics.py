"""Statistics over seeds: means and interquartile means with intervals, and paired comparisons.

An interval or a p-value needs at least `MIN_SEEDS` seeds. With fewer, an interval is nan and a
p-value is None: nothing that can be computed from two or three runs holds as often as it claims.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike, NDArray

from p2pfrl.core.floats import allow_overflow
from p2pfrl.core.lazy import LazyModule

if TYPE_CHECKING:
    from scipy import special, stats
else:
    special, stats = LazyModule("scipy.special"), LazyModule("scipy.stats")

CONFIDENCE = 0.95
MIN_SEEDS = 5
"""Number of seeds below which there is no interval and no p-value.

It is the smallest number for which a paired exact test can have a p-value below 0.1: 2 / 2^5."""

MIN_TRIMMED = 4
"""Number of runs below which a quarter of them is less than one, and nothing is trimmed."""

_LARGE = 1e100  # a square of such numbers or a sum of many overflows sooner or later


@dataclass(frozen=True)
class Estimate:
    """A mean over `count` seeds with its confidence interval.

    The mean of no values is nan, and so is the interval of fewer than `MIN_SEEDS` values.
    """

    mean: float
    low: float
    high: float
    count: int


NOTHING = Estimate(float("nan"), float("nan"), float("nan"), 0)


def iqm(values: ArrayLike) -> float:
    """Return the interquartile mean: the mean without the lowest and highest quarters.

    Nan if empty. Over runs it is the aggregate that Agarwal, Schwarzer, Castro, Courville and
    Bellemare, "Deep Reinforcement Learning at the Edge of the Statistical Precipice", NeurIPS 2021,
    arXiv 2108.13264, recommend.

    >>> iqm([1.0, 2.0, 3.0, 1000.0])
    2.5
    """
    return interquartile(values).mean


def band(
    values: NDArray[np.float64], confidence: float = CONFIDENCE
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return Student's t interval of the mean over rows: mean +- t s / sqrt(n).

    If the values of different seeds are normal, it covers the mean exactly as often as it claims,
    at any number of seeds; the percentile bootstrap of 5 normal values covers it in 83% of cases.
    The coverage of a 95% interval of 5 seeds is 93% for uniform and 97% for Laplace values, but 88%
    for exponential ones: the mean of a skewed distribution needs more seeds.

    Args:
        values: `(seeds, points)`, at least one row.
        confidence: coverage; 0.95 leaves 2.5% on either side.

    Returns:
        low and high, `(points,)` each; nan for fewer than `MIN_SEEDS` rows.
    """
    _, low, high = _interval(values, 0, confidence)
    return low, high


def estimate(values: ArrayLike) -> Estimate:
    """Return the mean of the finite `values` with Student's t interval."""
    return _estimate(values, 0)


def interquartile(values: ArrayLike) -> Estimate:
    """Return the interquartile mean of the finite `values` with its interval.

    The interval is that of a trimmed mean, from the Winsorized sum of squares with as many degrees
    of freedom as values remain, less one: Tukey and McLaughlin, "Less vulnerable confidence and
    significance procedures for location based on a single sample", Sankhya A 25(3), 1963. A 95%
    interval of 5 seeds covers it in 93% of cases if values are normal, in 92% if they are
    exponential.
    """
    return _estimate(values, int(0.25 * len(_finite(values))))


def trimmed(values: ArrayLike) -> Estimate:
    """Return `interquartile(values)`, or no estimate if fewer than `MIN_TRIMMED` are finite.

    The interquartile mean of fewer values is their mean, and says nothing more.

    >>> trimmed([1.0, 2.0, 3.0]).count, trimmed([1.0, 2.0, 3.0, 1000.0]).mean
    (0, 2.5)
    """
    return interquartile(values) if len(_finite(values)) >= MIN_TRIMMED else NOTHING


def paired(
    first: Sequence[float],
    second: Sequence[float],
    center: Callable[[ArrayLike], Estimate] = estimate,
) -> Estimate:
    """Return the mean of `second - first`, or another center of it, with its interval.

    It uses the seeds for which both values are finite.
    """
    return center(_difference(first, second))


def wins(first: Sequence[float], second: Sequence[float]) -> float:
    """Return the share of pairs in which `second` is larger. Ties count half.

    Infinities are ordinary values. Pairs with a nan are left out; nan if no pair is left.

    >>> wins([1.0, 2.0, 3.0, 4.0], [2.0, 3.0, 3.0, 1.0])
    0.625
    """
    difference = _difference(first, second)
    return float(((difference > 0) + 0.5 * (difference == 0)).mean()) if len(difference) else np.nan


def signed_rank(first: Sequence[float], second: Sequence[float]) -> float | None:
    """Return the exact two-sided p-value of Wilcoxon's signed-rank test, None below `MIN_SEEDS`.

    Wilcoxon, "Individual comparisons by ranking methods", Biometrics Bulletin 1(6), 1945. The
    hypothesis is that the signs of the differences `second - first` are fair coins. The p-value is
    the share of all 2^n signs with a sum of signed ranks as far from zero as the sum observed, so
    it holds for every n and with ties. Differences of zero are left out, as Wilcoxon does, and
    count as pairs for `MIN_SEEDS`. Infinite differences have the highest rank.

    >>> signed_rank([1.0, 2.0, 3.0, 4.0, 5.0], [2.0, 4.0, 6.0, 8.0, 10.0])
    0.0625
    """
    difference = _difference(first, second)
    if len(difference) < MIN_SEEDS:
        return None
    difference = difference[difference != 0]
    # Doubled: the ranks of ties are halves.
    ranks = (2 * stats.rankdata(np.abs(difference))).astype(np.int64)
    positive, total = int(ranks[difference > 0].sum()), int(ranks.sum())
    # Share of the signs for which the positive ranks sum to 0, 1, ..., total.
    shares = np.zeros(total + 1)
    shares[0] = 1.0
    for rank in ranks.tolist():
        shares[rank:] = 0.5 * (shares[rank:] + shares[:-rank])
        shares[:rank] *= 0.5
    extreme = np.abs(2 * np.arange(total + 1) - total) >= abs(2 * positive - total)
    return min(1.0, float(shares[extreme].sum()))


def _difference(first: Sequence[float], second: Sequence[float]) -> NDArray[np.float64]:
    """Return `second - first` without nan. Two equal infinities differ by zero."""
    a, b = np.asarray(first, dtype=np.float64), np.asarray(second, dtype=np.float64)
    with allow_overflow():
        difference = np.where(a == b, 0.0, b - a)
    return difference[~np.isnan(difference)]


def _estimate(values: ArrayLike, cut: int) -> Estimate:
    finite = _finite(values)
    if not len(finite):
        return NOTHING
    mean, low, high = (float(each[0]) for each in _interval(finite[:, None], cut, CONFIDENCE))
    return Estimate(mean, low, high, len(finite))


def _interval(
    values: NDArray[np.float64], cut: int, confidence: float
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Return center, low and high of the mean over rows without `cut` rows at either end."""
    count = len(values)
    largest = float(np.abs(values).max(initial=0.0))
    scale = largest if _LARGE < largest < np.inf else 1.0
    ordered = np.sort(values / scale, axis=0) if cut else values / scale
    center = ordered[cut : count - cut].mean(axis=0)
    if count < MIN_SEEDS:
        nothing = np.full(len(center), np.nan)
        return center * scale, nothing, nothing.copy()
    kept = count - 2 * cut
    winsorized = ordered.clip(ordered[cut], ordered[count - cut - 1]) if cut else ordered
    squares = ((winsorized - winsorized.mean(axis=0)) ** 2).sum(axis=0)
    quantile = float(special.stdtrit(kept - 1, (1 + confidence) / 2))
    half = quantile * np.sqrt(squares / (kept * (kept - 1)))
    with np.errstate(over="ignore"):
        return center * scale, (center - half) * scale, (center + half) * scale


def _finite(values: ArrayLike) -> NDArray[np.float64]:
    array = np.asarray(values, dtype=np.float64).ravel()
    return array[np.isfinite(array)]
