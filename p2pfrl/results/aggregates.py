"""Aggregates of the scores of runs over tasks, with stratified bootstrap intervals.

They are those of Agarwal, Schwarzer, Castro, Courville and Bellemare, "Deep Reinforcement Learning
at the Edge of the Statistical Precipice", NeurIPS 2021, arXiv 2108.13264, and their library
rliable. Scores are one array per task with the runs in its last axis; the leading axes of all
tasks are the same, such as resamples. Tasks may have different numbers of runs.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import isfinite, nan

import numpy as np
from numpy.typing import NDArray

from p2pfrl.core.rng import Purpose, generator
from p2pfrl.results.statistics import CONFIDENCE, MIN_SEEDS, Estimate, estimate

Scores = Sequence[NDArray[np.float64]]
"""Scores by task, `(..., runs)` each."""
Aggregate = Callable[..., NDArray[np.float64]]
"""Scores of one or two members -> aggregate over the last axis, `(..., *)`."""

RESAMPLES = 2000
_AT_ONCE = 2**21  # numbers of a block of resamples


def mean_score(scores: Scores) -> NDArray[np.float64]:
    """Return the mean over tasks of the mean over runs.

    >>> float(mean_score([np.array([1.0, 3.0]), np.array([6.0])]))
    4.0
    """
    return np.asarray(np.mean([task.mean(axis=-1) for task in scores], axis=0))


def interquartile_mean(scores: Scores) -> NDArray[np.float64]:
    """Return the mean of the middle half of all runs of all tasks.

    >>> float(interquartile_mean([np.array([1.0, 2.0]), np.array([3.0, 1000.0])]))
    2.5
    """
    every = np.sort(np.concatenate(list(scores), axis=-1), axis=-1)
    count = every.shape[-1]
    cut = int(0.25 * count)
    return np.asarray(every[..., cut : count - cut].mean(axis=-1))


def improvement(first: Scores, second: Scores) -> NDArray[np.float64]:
    """Return the probability that a run of `first` is better than one of `second`, over tasks.

    It is the mean over tasks of the share of pairs of runs, all with all, in which `first` is
    larger. Ties count half: Mann and Whitney's U over its maximum.

    >>> float(improvement([np.array([1.0, 3.0])], [np.array([1.0, 2.0])]))
    0.625
    """
    shares = []
    for x, y in zip(first, second, strict=True):
        mine, other = x[..., :, None], y[..., None, :]
        shares.append(((mine > other).mean((-1, -2)) + (mine >= other).mean((-1, -2))) / 2)
    return np.asarray(np.mean(shares, axis=0))


def profile(scores: Scores, thresholds: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the share of all runs of all tasks whose score is above each threshold.

    >>> profile([np.array([1.0, 3.0])], np.array([0.0, 1.0, 3.0])).tolist()
    [1.0, 0.5, 0.0]
    """
    every = np.concatenate(list(scores), axis=-1)
    return np.asarray((every[..., None, :] > thresholds[:, None]).mean(axis=-1))


def bootstrap(
    aggregate: Aggregate, *members: Scores, confidence: float = CONFIDENCE
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the percentile interval of an aggregate, with runs drawn anew within each task.

    Equal scores give equal intervals: the random numbers are the same at every call. Percentiles of
    few runs are narrow: of five normal values they cover the mean in 83% of cases, not in 95%.

    Args:
        aggregate: takes as many scores as there are `members`.
        members: scores, `(runs,)` per task; those of different members are drawn independently.
        confidence: 0.95 leaves 2.5% of the resamples on either side.

    Returns:
        low and high, of the aggregate's shape.
    """
    rng = generator(0, Purpose.BOOTSTRAP)
    sizes = [[len(task) for task in scores] for scores in members]
    largest = sum(map(max, zip(*sizes, strict=True))) ** len(members)
    largest *= max(1, aggregate(*members).size)
    block = max(1, min(RESAMPLES, _AT_ONCE // max(1, largest)))
    found = []
    for start in range(0, RESAMPLES, block):
        count = min(block, RESAMPLES - start)
        drawn = [
            [task[rng.integers(len(task), size=(count, len(task)))] for task in scores]
            for scores in members
        ]
        found.append(aggregate(*drawn))
    tails = 100 * np.array([(1 - confidence) / 2, (1 + confidence) / 2])
    low, high = np.percentile(np.concatenate(found), tails, axis=0)
    return low, high


def interval_of(aggregate: Aggregate, *members: Scores) -> Estimate:
    """Return an aggregate with its interval; nan if a task has no run, or too few for an interval.

    An interval needs `MIN_SEEDS` runs of every task.
    """
    least = min(len(task) for scores in members for task in scores)
    count = sum(len(task) for task in members[0])
    if least < 1:
        return Estimate(nan, nan, nan, 0)
    value = float(aggregate(*members))
    if least < MIN_SEEDS:
        return Estimate(value, nan, nan, count)
    low, high = bootstrap(aggregate, *members)
    return Estimate(value, float(low), float(high), count)


@dataclass(frozen=True)
class Outcomes:
    """What the runs of a member of a comparison reached.

    Attributes:
        label: of the member.
        scores: by task, `(runs,)` each; runs without a score are left out.
        targets: rounds, bytes and virtual seconds to the target, `(runs,)` each, nan where a run
            did not reach it.
    """

    label: str
    scores: tuple[NDArray[np.float64], ...]
    targets: tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]


@dataclass(frozen=True)
class Standing:
    """Aggregates of one member.

    Attributes:
        label: of the member.
        runs: number of runs with a score.
        mean: mean over tasks of the means over runs.
        iqm: interquartile mean over all runs.
        improvement: probability that a run is better than one of the first member; None for the
            first itself.
        targets: means over the runs that reached the target: rounds, bytes, virtual seconds.
        reached: share of the runs that reached it; None if no run of any member did.
    """

    label: str
    runs: int
    mean: Estimate
    iqm: Estimate
    improvement: Estimate | None
    targets: tuple[float, float, float]
    reached: float | None


def standings(members: Sequence[Outcomes], better: int = 1) -> tuple[Standing, ...]:
    """Return the aggregates of every member; `better` is -1 if smaller scores are better."""
    any_reached = any(np.isfinite(m.targets[0]).any() for m in members)
    found = []
    for place, member in enumerate(members):
        against = None
        if place:
            signed = [[better * task for task in m.scores] for m in (member, members[0])]
            against = interval_of(improvement, *signed)
        reached = np.isfinite(member.targets[0])
        means = [estimate(values).mean for values in member.targets]
        found.append(
            Standing(
                member.label,
                sum(map(len, member.scores)),
                interval_of(mean_score, member.scores),
                interval_of(interquartile_mean, member.scores),
                against,
                (means[0], means[1], means[2]),
                float(reached.mean()) if any_reached and len(reached) else None,
            )
        )
    return tuple(found)


def normalized(tasks: Sequence[Sequence[NDArray[np.float64]]]) -> list[list[NDArray[np.float64]]]:
    """Return scores by task and member, from 0 for the worst run of a task to 1 for its best."""
    found = []
    for members in tasks:
        every = np.concatenate(list(members)) if members else np.empty(0)
        low, high = (float(every.min()), float(every.max())) if len(every) else (0.0, 1.0)
        span = high - low if isfinite(high - low) and high > low else 1.0
        found.append([(scores - low) / span for scores in members])
    return found
