"""Observations and rewards on a common scale: running statistics, and how they are kept.

Statistics of observations are numbers of the parameter vector, in a part of their own. So they
travel as parameters do, or stay with the agent; a policy and its statistics are never apart; and
gradients do not change them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from p2pfrl.core.parameters import Layout, Tensor, Vector
from p2pfrl.learning.environments.base import Step
from p2pfrl.learning.learners.base import State

Array = NDArray[np.float64]
Statistics = Literal["personal", "averaged", "merged"]

PART = "normalization"
"""The part of the parameters that holds the statistics of observations."""
_COUNT, _FIRST, _SECOND = (f"{PART}.{name}" for name in ("count", "first", "second"))
_TINY, _MOST = 1e-8, 10.0


@dataclass(frozen=True)
class Moments:
    """Mean and variance of some samples.

    Attributes:
        count: how many, `(b,)`.
        mean: `(b, o)`.
        variance: `(b, o)`, the mean of squared distances from the mean.
    """

    count: Array
    mean: Array
    variance: Array

    def joined(self, other: Moments) -> Moments:
        """Return the moments of both sets of samples together, by their counts.

        mean = mean_a + d n_b / n, M = M_a + M_b + d^2 n_a n_b / n, with d = mean_b - mean_a, n =
        n_a + n_b and sums of squared distances M. Chan, Golub, LeVeque, Updating formulae and a
        pairwise algorithm for computing sample variances, report STAN-CS-79-773, 1979.

        >>> one, row = np.ones(1), np.ones((1, 1))
        >>> found = Moments(2 * one, 1 * row, 1 * row).joined(Moments(2 * one, 5 * row, 0 * row))
        >>> [float(values.item()) for values in (found.count, found.mean, found.variance)]
        [4.0, 3.0, 4.5]
        """
        total = self.count + other.count
        share = np.divide(other.count, total, out=np.zeros_like(total), where=total > 0)[:, None]
        apart = other.mean - self.mean
        variance = (1.0 - share) * self.variance + share * other.variance
        return Moments(
            total, self.mean + share * apart, variance + share * (1.0 - share) * np.square(apart)
        )


def moments(samples: Vector) -> Moments:
    """Return the moments of samples `(b, o, B)`."""
    exact = samples.astype(np.float64)
    mean = exact.mean(axis=2)
    variance = np.square(exact - mean[:, :, None]).mean(axis=2)
    return Moments(np.full(len(exact), float(exact.shape[2])), mean, variance)


@dataclass(frozen=True)
class Normalizer:
    """Scales observations by the statistics in the parameters.

    "merged" statistics are kept as sums: the number of observations, their sum, and that of their
    squares. Means of sums over agents are sums over all observations, but for a factor that
    cancels; so averaging vectors merges statistics by count, as `Moments.joined` does. Otherwise
    they are number, mean and variance.

    Attributes:
        size: numbers of an observation that are scaled, the first ones.
        statistics: how they are kept.
    """

    size: int
    statistics: Statistics
    _at: dict[str, int] = field(default_factory=dict, compare=False)

    @property
    def tensors(self) -> list[Tensor]:
        """The tensors of the part."""
        sizes = {_COUNT: 1, _FIRST: self.size, _SECOND: self.size}
        return [Tensor(name, (size,)) for name, size in sizes.items()]

    def place(self, layout: Layout) -> None:
        """Note where the layout, which has the tensors, holds them."""
        places = zip((tensor.name for tensor in layout.tensors), layout.offsets, strict=True)
        self._at.update({name: at for name, at in places if name in (_COUNT, _FIRST, _SECOND)})

    @property
    def columns(self) -> slice:
        """The columns of a row that hold statistics."""
        return slice(self._at[_COUNT], self._at[_SECOND] + self.size)

    def scaled(self, rows: Vector, x: Vector) -> Vector:
        """Return (x - mean) / std of observations `(b, o, B)`, within +-10; a new array.

        Without statistics, and from position `size` on, they stay as they are. Observations may be
        shorter than `size`.
        """
        known, size = self.moments(rows), min(self.size, x.shape[1])
        out = np.array(x, dtype=rows.dtype)
        mean = known.mean.astype(rows.dtype)[:, :size, None]
        std = np.sqrt(known.variance + _TINY).astype(rows.dtype)[:, :size, None]
        within = np.clip((out[:, :size] - mean) / std, -_MOST, _MOST)
        out[:, :size] = np.where(known.count[:, None, None] > 0, within, out[:, :size])
        return out

    def moments(self, rows: Vector) -> Moments:
        """Return the statistics of rows; mean 0 and variance 1 where there are none.

        What an exchange made of them may be no statistics: variances are at least 0.
        """
        count = rows[:, self._at[_COUNT]].astype(np.float64)
        first, second = (
            rows[:, self._at[name] : self._at[name] + self.size].astype(np.float64)
            for name in (_FIRST, _SECOND)
        )
        is_known = (count > 0)[:, None]
        if self.statistics == "merged":
            per = np.where(is_known, count[:, None], 1.0)
            first, second = first / per, second / per - np.square(first / per)
        return Moments(
            np.where(is_known[:, 0], count, 0.0),
            np.where(is_known, first, 0.0),
            np.where(is_known, np.maximum(second, 0.0), 1.0),
        )

    def absorb(self, rows: Vector, x: Vector) -> None:
        """Add observations `(b, o, B)` to the statistics of rows, in place."""
        fresh = moments(x[:, : self.size])
        if self.statistics == "merged":
            known = self._kept(rows) + _sums(fresh)
        else:
            joined = self.moments(rows).joined(fresh)
            known = np.concatenate([joined.count[:, None], joined.mean, joined.variance], axis=1)
        self._keep(rows, known)

    def follow(self, rows: Vector, of: Vector) -> None:
        """Let rows have the statistics of others."""
        rows[:, self.columns] = of[:, self.columns]

    def _places(self) -> Sequence[tuple[slice, slice]]:
        """Return pairs of slices: of the statistics without padding, and of a row."""
        first, second = 1 + self.size, 1 + 2 * self.size
        at = self._at
        return (
            (slice(0, 1), slice(at[_COUNT], at[_COUNT] + 1)),
            (slice(1, first), slice(at[_FIRST], at[_FIRST] + self.size)),
            (slice(first, second), slice(at[_SECOND], at[_SECOND] + self.size)),
        )

    def _kept(self, rows: Vector) -> Array:
        return np.concatenate([rows[:, own] for _, own in self._places()], axis=1).astype(float)

    def _keep(self, rows: Vector, values: Array) -> None:
        for compact, own in self._places():
            rows[:, own] = values[:, compact]


def _sums(found: Moments) -> Array:
    """Return number, sums and sums of squares `(b, 1 + 2 o)`."""
    count = found.count[:, None]
    squares = found.variance + np.square(found.mean)
    return np.concatenate([count, count * found.mean, count * squares], axis=1)


RETURNS, SPREAD = "reward_returns", "reward_statistics"
"""State arrays: the discounted sum of the rewards of each instance's episode so far, `(b, m)`; and
`(b, 3)` number, mean and variance of such sums."""


@dataclass(frozen=True)
class RewardScale:
    """Divides rewards by the standard deviation of the discounted sum of an episode's rewards.

    As Gymnasium's wrapper NormalizeReward and CleanRL, but the sum begins anew with every episode,
    and rewards are divided after all of an update are known. Rewards stay within +-10.

    Attributes:
        gamma: discount.
    """

    gamma: float

    def init(self, rows: int, instances: int) -> State:
        """Return the state without any reward."""
        return {RETURNS: np.zeros((rows, instances)), SPREAD: np.zeros((rows, 3))}

    def absorb(self, state: State, reward: Vector, finished: NDArray[np.bool_]) -> None:
        """Add the rewards `(b, T, m)` of an update, which follow those before; in place."""
        sums: Array = np.empty(reward.shape, dtype=np.float64)
        running: Array = state[RETURNS]  # type: ignore[assignment]
        for t in range(reward.shape[1]):
            running = self.gamma * running + reward[:, t]
            sums[:, t] = running
            running = np.where(finished[:, t], 0.0, running)
        fresh = moments(sums.reshape(len(sums), 1, -1))
        known: Array = state[SPREAD]  # type: ignore[assignment]
        joined = Moments(known[:, 0], known[:, 1:2], known[:, 2:]).joined(fresh)
        state[RETURNS] = running
        state[SPREAD] = np.concatenate([joined.count[:, None], joined.mean, joined.variance], 1)

    def scaled(self, state: Mapping[str, NDArray[np.generic]], reward: Vector) -> Vector:
        """Return rewards `(b, ...)` over the standard deviation; as they are before the first."""
        known: Array = state[SPREAD]  # type: ignore[assignment]
        spread = np.where(known[:, 0] > 0, known[:, 2], 1.0)
        std = np.sqrt(spread + _TINY).reshape(-1, *[1] * (reward.ndim - 1))
        out: Vector = np.clip(reward / std.astype(reward.dtype), -_MOST, _MOST)
        return out


def personal_parts(normalizer: Normalizer | None) -> tuple[str, ...]:
    """Return the parts of the parameters that never travel."""
    is_personal = normalizer is not None and normalizer.statistics == "personal"
    return (PART,) if is_personal else ()


def keep_personal(normalizer: Normalizer | None, mean: Vector, rows: Vector) -> None:
    """Give mean parameters the statistics that their agents keep for themselves, in place."""
    if normalizer is not None and personal_parts(normalizer):
        normalizer.follow(mean, rows)


def take_in(
    normalizer: Normalizer | None,
    reward_norm: RewardScale | None,
    rows: Vector,
    state: State,
    seen: Sequence[NDArray[np.float32]],
    steps: Sequence[Step],
) -> None:
    """Add an update's observations and rewards to the statistics, where there are any, in place.

    Args:
        normalizer: of observations.
        reward_norm: of rewards.
        rows: `(b, stride)`.
        state: with the statistics of rewards.
        seen: observations `(b, m, o)`, step by step.
        steps: what came of them.
    """
    if normalizer is not None:
        normalizer.absorb(rows, np.concatenate(seen, axis=1).transpose(0, 2, 1))
    if reward_norm is not None:
        rewards = np.stack([step.reward for step in steps], axis=1)
        ends = np.stack([step.finished for step in steps], axis=1)
        reward_norm.absorb(state, rewards, ends)
