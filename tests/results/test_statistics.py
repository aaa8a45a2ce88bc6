"""Statistics over seeds agree with scipy and cover what they claim to cover."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from p2pfrl.core.rng import generator
from p2pfrl.results.statistics import band, estimate, improvement, iqm, paired


@pytest.mark.parametrize("count", [1, 2, 3, 4, 5, 8, 16, 33])
def test_iqm_is_the_trimmed_mean_of_scipy(count: int) -> None:
    values = generator(0, "iqm", count).normal(size=count)
    assert iqm(values) == pytest.approx(float(stats.trim_mean(values, 0.25)), abs=1e-15)


def test_iqm_ignores_a_wild_quarter() -> None:
    assert iqm([1.0, 2.0, 3.0, 1e12]) == 2.5
    assert np.isnan(iqm([]))


def test_the_bootstrap_interval_covers_the_mean_about_as_often_as_claimed() -> None:
    samples = generator(1, "coverage").normal(size=(30, 500))
    low, high = band(samples)
    coverage = float(np.mean((low <= 0) & (high >= 0)))
    assert 0.90 <= coverage <= 0.98
    exact = 1.96 / np.sqrt(30)
    assert np.mean(high - low) / 2 == pytest.approx(exact, rel=0.06)


def test_the_bootstrap_agrees_with_scipy() -> None:
    values = generator(2, "scipy").exponential(size=12)
    rng = generator(3, "scipy")
    theirs = stats.bootstrap(
        (values,), np.mean, n_resamples=20_000, method="percentile", rng=rng
    ).confidence_interval
    ours = estimate(values)
    width = theirs.high - theirs.low
    assert ours.low == pytest.approx(theirs.low, abs=0.05 * width)
    assert ours.high == pytest.approx(theirs.high, abs=0.05 * width)


def test_one_seed_has_a_mean_and_no_interval() -> None:
    one = estimate([3.0])
    assert (one.mean, one.count) == (3.0, 1)
    assert np.isnan(one.low)
    assert np.isnan(one.high)
    assert estimate([float("nan")]).count == 0


def test_pairing_removes_what_the_seeds_share() -> None:
    seeds = generator(4, "pairs").normal(scale=100.0, size=8)
    difference = paired(list(seeds), list(seeds + 1.0))
    assert difference.mean == pytest.approx(1.0)
    assert difference.high - difference.low < 1e-9
    assert paired([1.0, float("nan")], [2.0, 5.0]).count == 1


def test_improvement_is_the_share_of_pairs_won() -> None:
    a, b = generator(5, "a").normal(size=7), generator(5, "b").normal(0.5, size=6)
    chance, p_value = improvement(a, b)
    wins = [(y > x) + 0.5 * (y == x) for x in a for y in b]
    assert chance == pytest.approx(float(np.mean(wins)), abs=1e-15)
    assert p_value == stats.mannwhitneyu(b, a, alternative="two-sided").pvalue
    assert improvement([1.0, 1.0], [1.0]) == (0.5, 1.0)
    assert improvement([-np.inf, -np.inf], [1.0, 2.0])[0] == 1.0
    assert np.isnan(improvement([], [1.0])[0])
