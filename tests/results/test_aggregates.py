"""Aggregates over runs and tasks equal those of rliable, the library of Agarwal et al. (2021)."""

from __future__ import annotations

import math

import numpy as np
import pytest

from p2pfrl.results.aggregates import (
    Outcomes,
    bootstrap,
    improvement,
    interquartile_mean,
    interval_of,
    mean_score,
    normalized,
    profile,
    standings,
)
from p2pfrl.results.tables import standings_table

FIRST = np.array(
    [
        [1.063, 1.234, 1.12],
        [1.052, 1.032, 0.981],
        [1.652, 1.774, 0.448],
        [0.367, 0.988, 0.821],
        [-0.163, 1.191, 0.177],
        [0.634, 1.028, 0.642],
        [1.206, 1.821, 0.736],
        [1.683, 0.967, 0.976],
    ]
)
SECOND = np.array(
    [
        [1.063, 1.156, 0.154],
        [0.247, 0.825, 0.732],
        [0.194, 0.974, 0.504],
        [1.125, 1.229, 0.813],
        [0.408, 1.022, 1.07],
        [1.696, 0.345, 1.508],
        [1.608, 1.569, 0.759],
        [0.612, 1.975, 1.776],
    ]
)
THRESHOLDS = np.array([0.0, 0.5, 1.0, 1.5])
MEAN = {"first": (0.97625, 0.80358, 1.14496), "second": (0.9735, 0.77787, 1.17704)}
IQM = {"first": (0.99625, 0.84617, 1.13308), "second": (0.94833333, 0.72133, 1.22008)}
IMPROVEMENT = (0.5234375, 0.35417, 0.69271)
PROFILE = (0.95833333, 0.83333333, 0.5, 0.16666667)
PROFILE_LOW = (0.875, 0.66666667, 0.33333333, 0.04166667)
PROFILE_HIGH = (1.0, 0.95833333, 0.66666667, 0.33333333)
"""Value, low and high of rliable 1.2.0 with 50,000 resamples (5,000 of improvement, 20,000 of the
profile), run once on these scores."""


def tasks(scores: np.ndarray) -> list[np.ndarray]:
    return [*scores.T]


@pytest.mark.parametrize(("name", "scores"), [("first", FIRST), ("second", SECOND)])
def test_means_and_their_intervals_are_those_of_rliable(name: str, scores: np.ndarray) -> None:
    for aggregate, known in ((mean_score, MEAN[name]), (interquartile_mean, IQM[name])):
        found = interval_of(aggregate, tasks(scores))
        assert found.mean == pytest.approx(known[0], abs=1e-8)
        # Ends of 2,000 resamples differ from those of others by a fiftieth of the interval or so.
        assert (found.low, found.high) == pytest.approx(known[1:], abs=0.04 * (known[2] - known[1]))
        assert found.count == 24


def test_the_probability_of_improvement_is_that_of_rliable() -> None:
    found = interval_of(improvement, tasks(FIRST), tasks(SECOND))
    assert found.mean == pytest.approx(IMPROVEMENT[0], abs=1e-8)
    assert (found.low, found.high) == pytest.approx(IMPROVEMENT[1:], abs=0.03)


def test_the_performance_profile_is_that_of_rliable() -> None:
    assert profile(tasks(FIRST), THRESHOLDS) == pytest.approx(np.array(PROFILE), abs=1e-8)
    low, high = bootstrap(lambda scores: profile(scores, THRESHOLDS), tasks(FIRST))
    # The share of 24 runs moves in steps of 1 / 24.
    assert low == pytest.approx(np.array(PROFILE_LOW), abs=1 / 24 + 1e-6)
    assert high == pytest.approx(np.array(PROFILE_HIGH), abs=1 / 24 + 1e-6)


def test_runs_are_drawn_within_their_task() -> None:
    apart = [np.full(5, 0.0), np.full(5, 100.0)]
    found = interval_of(mean_score, apart)
    assert (found.low, found.mean, found.high) == (50.0, 50.0, 50.0)


def test_equal_scores_have_equal_intervals_and_few_runs_none() -> None:
    assert interval_of(mean_score, tasks(FIRST)) == interval_of(mean_score, tasks(FIRST))
    four = interval_of(interquartile_mean, [FIRST[:4, 0]])
    assert math.isfinite(four.mean)
    assert math.isnan(four.low)
    assert interval_of(mean_score, [np.empty(0)]).count == 0


def test_standings_compare_with_the_first_in_the_direction_that_is_better() -> None:
    nothing = np.full(2, np.nan)
    small, large = np.array([1.0, 2.0]), np.array([3.0, 4.0])
    reached = (np.array([5.0, np.nan]), np.array([9.0, np.nan]), np.array([0.5, np.nan]))
    members = [
        Outcomes("small", (small,), (nothing, nothing, nothing)),
        Outcomes("large", (large,), reached),
    ]
    for better, chance in ((1, 1.0), (-1, 0.0)):
        first, second = standings(members, better)
        assert first.improvement is None
        assert second.improvement is not None
        assert second.improvement.mean == chance
        assert (first.reached, second.reached, second.targets[0]) == (0.0, 0.5, 5.0)


@pytest.mark.parametrize(("runs", "shown"), [(4, "-"), (5, "1")])
def test_a_table_has_probabilities_from_five_runs_on_and_says_so(runs: int, shown: str) -> None:
    nothing = (np.full(runs, np.nan),) * 3
    scores = {"small": np.arange(runs) * 0.1, "large": 1.0 + np.arange(runs)}
    found = standings([Outcomes(name, (own,), nothing) for name, own in scores.items()])
    table = standings_table(found, "final return")
    assert [row[4] for row in table.rows] == ["-", shown]
    assert ("Intervals and probabilities need at least 5 runs." in table.caption) == (runs < 5)


def test_normalized_scores_go_from_the_worst_run_to_the_best() -> None:
    ((first, second),) = normalized([[np.array([10.0, 20.0]), np.array([30.0])]])
    assert first.tolist() == [0.0, 0.5]
    assert second.tolist() == [1.0]
    assert normalized([[np.array([2.0]), np.array([2.0])]])[0][0].tolist() == [0.0]
