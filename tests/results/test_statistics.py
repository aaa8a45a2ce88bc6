"""Statistics over seeds agree with scipy and hold as often as they claim."""

from __future__ import annotations

from collections.abc import Callable
from itertools import product

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import stats

from p2pfrl.core.rng import generator
from p2pfrl.results.statistics import (
    MIN_SEEDS,
    band,
    estimate,
    interquartile,
    iqm,
    paired,
    signed_rank,
    wins,
)

Draw = Callable[[np.random.Generator, tuple[int, int]], NDArray[np.float64]]
LAWS: dict[str, tuple[Draw, float]] = {  # a distribution around zero, and the least coverage
    "normal": (lambda rng, shape: rng.normal(size=shape), 0.94),
    "uniform": (lambda rng, shape: rng.uniform(-1, 1, size=shape), 0.925),
    "laplace": (lambda rng, shape: rng.laplace(size=shape), 0.94),
    "student_3": (lambda rng, shape: rng.standard_t(3, size=shape), 0.94),
    "exponential": (lambda rng, shape: rng.exponential(size=shape) - 1, 0.87),
}


@pytest.mark.parametrize("count", [1, 2, 3, 4, 5, 8, 16, 33])
def test_iqm_is_the_trimmed_mean_of_scipy(count: int) -> None:
    values = generator(0, "iqm", count).normal(size=count)
    assert iqm(values) == pytest.approx(float(stats.trim_mean(values, 0.25)), abs=1e-15)


def test_iqm_ignores_a_wild_quarter() -> None:
    assert iqm([1.0, 2.0, 3.0, 1e12]) == 2.5
    assert np.isnan(iqm([]))


@pytest.mark.parametrize("count", [5, 6, 10, 30])
@pytest.mark.parametrize("law", LAWS)
def test_the_interval_covers_the_mean_as_often_as_the_docstring_says(law: str, count: int) -> None:
    draw, least = LAWS[law]
    low, high = band(draw(generator(1, law, count), (count, 4000)))
    coverage = float(np.mean((low <= 0) & (high >= 0)))
    assert least <= coverage <= 0.98
    if law == "normal":
        assert coverage == pytest.approx(0.95, abs=0.012)  # 3.5 standard deviations


@pytest.mark.parametrize("count", [5, 6, 10, 30])
@pytest.mark.parametrize("law", ["normal", "laplace", "student_3"])
def test_the_interval_of_the_interquartile_mean_covers_it(law: str, count: int) -> None:
    samples = LAWS[law][0](generator(2, law, count), (count, 1000))
    found = [interquartile(column) for column in samples.T]
    assert 0.91 <= np.mean([one.low <= 0 <= one.high for one in found]) <= 0.98


def test_the_interval_is_that_of_scipy() -> None:
    values = generator(2, "scipy").exponential(size=12)
    theirs = stats.ttest_1samp(values, 0.0).confidence_interval(0.95)
    ours = estimate(values)
    assert (ours.low, ours.high) == pytest.approx((theirs.low, theirs.high), rel=1e-12)


@pytest.mark.parametrize("count", range(1, MIN_SEEDS))
def test_fewer_than_five_seeds_have_a_mean_and_no_interval_and_no_p_value(count: int) -> None:
    values = list(range(count))
    for found in (estimate(values), interquartile(values), paired([0.0] * count, values)):
        assert (found.mean, found.count) == ((count - 1) / 2, count)
        assert np.isnan([found.low, found.high]).all()
    assert np.isnan(band(np.ones((count, 3)))).all()
    assert signed_rank([0.0] * count, [1.0] * count) is None
    assert estimate([float("nan")]).count == 0


def test_pairing_removes_what_the_seeds_share() -> None:
    seeds = generator(4, "pairs").normal(scale=100.0, size=8)
    difference = paired(list(seeds), list(seeds + 1.0))
    assert difference.mean == pytest.approx(1.0)
    assert difference.high - difference.low < 1e-9
    assert paired([1.0, float("nan")], [2.0, 5.0]).count == 1
    # Unpaired, one point is nothing against a spread of 100; in pairs it is seen in every seed.
    assert signed_rank(list(seeds), list(seeds + 1.0)) == 2 / 2**8
    assert stats.mannwhitneyu(seeds, seeds + 1.0).pvalue > 0.5


def test_wins_are_the_share_of_pairs() -> None:
    assert wins([1.0, 2.0, 3.0], [2.0, 3.0, 2.0]) == pytest.approx(2 / 3)
    assert wins([-np.inf, -np.inf], [1.0, -np.inf]) == 0.75
    assert np.isnan(wins([np.nan], [1.0]))


def by_enumeration(difference: NDArray[np.float64]) -> float:
    """Return the share of all signs whose sum of signed ranks is as far from zero."""
    nonzero = difference[difference != 0]
    ranks = stats.rankdata(np.abs(nonzero))
    observed = abs(float(np.sign(nonzero) @ ranks))
    sums = [abs(float(np.array(s) @ ranks)) for s in product((-1, 1), repeat=len(ranks))]
    return float(np.mean([s >= observed - 1e-9 for s in sums]))


@pytest.mark.parametrize("count", [5, 6, 9, 12])
def test_the_signed_rank_test_is_exact_with_ties_and_zeros(count: int) -> None:
    rng = generator(5, "ranks", count)
    for _ in range(20):
        difference = rng.integers(-3, 5, size=count).astype(float)
        expected = by_enumeration(difference) if difference.any() else 1.0
        assert signed_rank([0.0] * count, list(difference)) == pytest.approx(expected, abs=1e-12)
    untied = rng.normal(0.4, size=count)
    theirs = stats.wilcoxon(untied, method="exact").pvalue
    assert signed_rank([0.0] * count, list(untied)) == pytest.approx(float(theirs), abs=1e-12)


@pytest.mark.parametrize("count", [5, 7, 10])
def test_a_p_value_is_at_most_alpha_in_a_share_of_at_most_alpha(count: int) -> None:
    """All signs are equally likely under the hypothesis, so its distribution is enumerated."""
    sizes = np.abs(generator(6, "sizes", count).normal(size=count))
    zeros = [0.0] * count
    found = [signed_rank(zeros, list(np.array(s) * sizes)) for s in product((-1, 1), repeat=count)]
    values = np.array(found, dtype=float)
    for alpha in (0.01, 0.05, 0.0625, 0.1, 0.5, 1.0):
        assert np.mean(values <= alpha + 1e-12) <= alpha + 1e-12


def test_infinite_values_have_the_highest_ranks() -> None:
    first = [-np.inf, -np.inf, 1.0, 2.0, 3.0, -np.inf]
    second = [1.0, 2.0, 2.0, 1.0, 4.0, -np.inf]  # ranks 4.5, 4.5, 2, -2, 2 and a tie
    expected = by_enumeration(np.array([10.0, 10.0, 1.0, -1.0, 1.0, 0.0]))
    assert signed_rank(first, second) == pytest.approx(expected)


def test_numbers_at_the_end_of_the_range_have_a_mean_and_an_interval() -> None:
    found = estimate([1.7e308, 1.6e308, 1.7e308, 1.5e308, 1.7e308])
    assert found.mean == pytest.approx(1.64e308)
    assert found.low == pytest.approx(1.53e308, rel=0.01)
    assert interquartile([1.7e308] * 5).high == pytest.approx(1.7e308)
