"""What the page of some processes tells pages of all about each round, so that their curves join.

With agents p of one page, n_p of them, their mean m_p, the sum s_p of squared distances to it, and
m the mean of all, the sum of squared distances to m is

    sum_i ||x_i - m||^2 = sum_p (s_p + n_p ||m_p - m||^2).

So pages need not tell the parameters of every agent, and rounds of different pages add up. Means of
more than 128 numbers are projected to 128 random sums, the same for all pages.
"""

from __future__ import annotations

import base64
import math
from collections import deque
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from p2pfrl.core.parameters import Vector
from p2pfrl.core.rng import Purpose, generator

SIZE = 128
"""Number of parameters above which they are projected."""
SINGLE = 16
"""Number of agents of a page up to which it tells the parameters of each in its last rounds."""
_RECENT, _MOST = 4, 64


@dataclass(frozen=True, slots=True)
class Point:
    """The mean of some agents.

    Attributes:
        agents: their ids.
        mean: of their parameters or projections.
        scatter: sum of their squared distances to it.
    """

    agents: tuple[int, ...]
    mean: NDArray[np.float64]
    scatter: float


@dataclass(frozen=True, slots=True)
class Share:
    """One round of the agents of a page.

    Attributes:
        round: number of rounds that they have ended.
        seconds: when the last of them ended it.
        returns: how many have a return, and its sum, least and largest value.
        points: one for each agent, or one for all; none if their parameters differ in number.
        is_projected: whether means are projections.
    """

    round: int
    seconds: float
    returns: tuple[float, float, float, float]
    points: tuple[Point, ...]
    is_projected: bool

    def to_json(self) -> list[Any]:
        """Return it as JSON."""
        points = [
            [list(p.agents), base64.b64encode(p.mean.astype("<f8").tobytes()).decode(), p.scatter]
            for p in self.points
        ]
        return [self.round, self.seconds, list(self.returns), points, self.is_projected]

    @classmethod
    def of_json(cls, found: Sequence[Any]) -> Share:
        """Return what `to_json` has returned, perhaps of another host.

        Raises:
            ValueError, TypeError: it is something else.
        """
        round, seconds, (count, total, least, most), points, is_projected = found
        return cls(
            int(round),
            float(seconds),
            (float(count), float(total), float(least), float(most)),
            tuple(
                Point(
                    tuple(map(int, agents)),
                    np.frombuffer(base64.b64decode(mean, validate=True), dtype="<f8"),
                    float(scatter),
                )
                for agents, mean, scatter in points
            ),
            bool(is_projected),
        )


def share_of(
    round: int, seconds: float, returns: Mapping[int, float], vectors: Mapping[int, Vector]
) -> Share:
    """Return the share of a round that some agents have ended.

    Args:
        round: number of rounds that they have ended.
        seconds: when the last of them ended it.
        returns: agent -> its mean return; nan if it is not known.
        vectors: agent -> its parameters.
    """
    known = [value for value in returns.values() if math.isfinite(value)]
    spread = (float(len(known)), sum(known), min(known, default=0.0), max(known, default=0.0))
    sizes = {len(vector) for vector in vectors.values()}
    if len(sizes) != 1 or not min(sizes):
        return Share(round, seconds, spread, (), is_projected=False)
    points = [
        Point((agent,), np.asarray(x, np.float64), 0.0) for agent, x in sorted(vectors.items())
    ]
    if len(points) > SINGLE:
        points = [_center(points)]
    small = tuple(replace(point, mean=projected(point.mean)) for point in points)
    return Share(round, seconds, spread, small, is_projected=sizes.pop() > SIZE)


def merged(share: Share) -> Share:
    """Return a share with one point for all of its agents."""
    return replace(share, points=(_center(share.points),)) if share.points else share


def _center(points: Sequence[Point]) -> Point:
    """Return the point of all agents of some points."""
    counts = np.array([len(p.agents) for p in points], dtype=np.float64)
    means = np.stack([p.mean for p in points])
    mean = counts @ means / counts.sum()
    scatter = sum(p.scatter for p in points) + float(counts @ np.square(means - mean).sum(axis=1))
    return Point(tuple(agent for p in points for agent in p.agents), mean, scatter)


def projected(vector: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return P x, `(d,)` -> `(128,)`, or x where d is at most 128.

    Every column of P has one entry, 1 or -1, in a random row: E ||P x||^2 = ||x||^2, and the
    standard deviation is at most sqrt(2/128) ||x||^2. So a distance is off by 6% or so.

    Reference: Weinberger, Dasgupta, Langford, Smola, Attenberg, "Feature hashing for large scale
    multitask learning", ICML 2009, arXiv 0902.2206.
    """
    if len(vector) <= SIZE:
        return vector
    rows, signs = _sketch(len(vector))
    sums = np.zeros(SIZE)
    np.add.at(sums, rows, signs * vector)
    return sums


@lru_cache(maxsize=4)
def _sketch(size: int) -> tuple[NDArray[np.intp], NDArray[np.float64]]:
    """Return the row and the sign of each column of P."""
    drawn = generator(0, Purpose.PROJECTION, "page", size).integers(0, 2 * SIZE, size=size)
    return (drawn >> 1).astype(np.intp), np.where(drawn & 1, 1.0, -1.0)


class Shares:
    """The shares of the last rounds, and of older ones evenly spaced and merged.

    Older rounds are multiples of a power of two. So those of pages that are at work for different
    times have rounds in common.
    """

    def __init__(self) -> None:
        self._recent: deque[Share] = deque()
        self._older: list[Share] = []
        self._step = 1

    def add(self, share: Share) -> None:
        """Add the next round."""
        self._recent.append(share)
        while len(self._recent) > _RECENT:
            old = self._recent.popleft()
            if old.round % self._step == 0:
                self._older.append(merged(old))
        while len(self._older) > _MOST:
            self._step *= 2
            self._older = [old for old in self._older if old.round % self._step == 0]

    def to_json(self) -> list[list[Any]]:
        """Return all that are kept, in order, as JSON."""
        return [share.to_json() for share in (*self._older, *self._recent)]


class Joined:
    """Rows of curves from the shares of several pages.

    Attributes:
        disagreement: agent -> distance to the mean in the last row that has points of each.
        is_projected: whether distances are estimates, from projections.
    """

    def __init__(self) -> None:
        self.disagreement: dict[int, float] = {}
        self.is_projected = False
        self._last = 0

    def add(
        self, pages: Sequence[Sequence[Share]], gone: Collection[int] = ()
    ) -> list[list[float]]:
        """Return the rows that are new: round, seconds, mean, least, largest return, distance.

        Args:
            pages: shares of each page.
            gone: places of the pages that no row waits for.
        """
        by_round: dict[int, dict[int, Share]] = {}
        for place, shares in enumerate(pages):
            for share in shares:
                by_round.setdefault(share.round, {})[place] = share
        needed = set(range(len(pages))) - set(gone)
        rows = []
        for round, found in sorted(by_round.items()):
            if round > self._last and needed <= found.keys():
                rows.append(self._row(round, list(found.values())))
                self._last = round
        return rows

    def _row(self, round: int, shares: Sequence[Share]) -> list[float]:
        known = [share.returns for share in shares if share.returns[0]]
        count = sum(count for count, *_ in known)
        spread = [math.nan] * 3
        if known:
            total = sum(total for _, total, *_ in known)
            spread = [total / count, min(r[2] for r in known), max(r[3] for r in known)]
        points = [point for share in shares for point in share.points]
        distance = math.nan
        has_all = all(share.points for share in shares)
        if has_all and len({len(point.mean) for point in points}) == 1:
            center = _center(points)
            distance = math.sqrt(center.scatter / len(center.agents))
            self.is_projected = any(share.is_projected for share in shares)
            singles = [point for point in points if len(point.agents) == 1]
            self.disagreement |= {
                point.agents[0]: float(np.linalg.norm(point.mean - center.mean))
                for point in singles
            }
        return [float(round), max(share.seconds for share in shares), *spread, distance]
