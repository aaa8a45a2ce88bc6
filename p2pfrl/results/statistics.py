"""Statistics over seeds: interquartile mean, bootstrap intervals, paired differences, improvement.

Agarwal, Schwarzer, Castro, Courville, Bellemare, "Deep Reinforcement Learning at the Edge of the
Statistical Precipice", NeurIPS 2021, arXiv 2108.13264, recommend them: report intervals, prefer the
interquartile mean to mean and median, and report the probability that one method is better than
another. Random numbers come from a fixed stream, so the same runs give the same intervals.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from p2pfrl.core.rng import Purpose, generator

CONFIDENCE = 0.95
RESAMPLES = 2000


@dataclass(frozen=True)
class Estimate:
    """The mean over `count` seeds with its confidence interval.

    The mean of no values is nan, and so is the interval of one value.
    """

    mean: float
    low: float
    high: float
    count: int


def iqm(values: ArrayLike) -> float:
    """Return the interquartile mean: the mean without the lowest and highest quarters.

    Nan if empty.

    >>> iqm([1.0, 2.0, 3.0, 1000.0])
    2.5
    """
    ordered = np.sort(_finite(values))
    cut = int(0.25 * len(ordered))
    return float(ordered[cut : len(ordered) - cut].mean()) if len(ordered) else float("nan")


def band(
    values: NDArray[np.float64], confidence: float = CONFIDENCE
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the percentile-bootstrap interval of the mean over rows.

    Args:
        values: `(seeds, points)`, at least one row.
        confidence: coverage; 0.95 leaves 2.5% on either side.

    Returns:
        low and high, `(points,)` each; nan for a single row, because one seed has no interval.
    """
    seeds, points = values.shape
    if seeds < 2:
        nothing = np.full(points, np.nan)
        return nothing, nothing.copy()
    counts = generator(0, Purpose.BOOTSTRAP).multinomial(
        seeds, np.full(seeds, 1 / seeds), size=RESAMPLES
    )
    means = counts / seeds @ values
    low, high = np.quantile(means, [(1 - confidence) / 2, (1 + confidence) / 2], axis=0)
    return low, high


def estimate(values: ArrayLike) -> Estimate:
    """Return the mean of the finite `values` with its bootstrap interval."""
    finite = _finite(values)
    if not len(finite):
        return Estimate(float("nan"), float("nan"), float("nan"), 0)
    low, high = band(finite[:, None])
    return Estimate(float(finite.mean()), float(low[0]), float(high[0]), len(finite))


def paired(first: Sequence[float], second: Sequence[float]) -> Estimate:
    """Return the mean of `second - first` with its bootstrap interval.

    It uses the seeds for which both values are finite.
    """
    return estimate(np.asarray(second, dtype=np.float64) - np.asarray(first, dtype=np.float64))


def improvement(first: ArrayLike, second: ArrayLike) -> tuple[float, float]:
    """Return P(second > first) and the two-sided p-value of the Mann-Whitney test.

    P = U / (len(first) len(second)) with the U statistic of Mann and Whitney, Annals of
    Mathematical Statistics 1947. Ties count half. The statistic depends on the order alone, so
    infinities are ordinary values. Nan is left out.
    """
    from scipy.stats import mannwhitneyu

    a, b = (np.asarray(values, dtype=np.float64).ravel() for values in (first, second))
    a, b = a[~np.isnan(a)], b[~np.isnan(b)]
    if not len(a) or not len(b):
        return float("nan"), float("nan")
    if len(np.unique(np.concatenate([a, b]))) == 1:
        return 0.5, 1.0
    result = mannwhitneyu(b, a, alternative="two-sided")
    return float(result.statistic) / (len(a) * len(b)), float(result.pvalue)


def _finite(values: ArrayLike) -> NDArray[np.float64]:
    array = np.asarray(values, dtype=np.float64).ravel()
    return array[np.isfinite(array)]
