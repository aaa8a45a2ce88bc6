"""Suspicion: how far a received vector is from what a robust rule chose, and in which direction."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from p2pfrl.core.floats import allow_overflow
from p2pfrl.core.parameters import Vector
from p2pfrl.core.types import Scores


def scores(received: Mapping[int, Vector], chosen: Vector, start: Vector) -> Scores:
    """Return for each sender how far its vector is from the chosen one, and in which direction.

    The distance ||x_j - chosen|| is in units of the median distance of all received vectors, so an
    honest run has scores near 1 where its agents differ alike. The cosine is that of x_j - start
    and chosen - start: the change that the vector asks for, and the one that was made. It is 0
    where one of them is zero.

    Args:
        received: `(k,)` vectors by sender.
        chosen: `(k,)` what the rule made of them.
        start: `(k,)` the point that changes are counted from.
    """
    if not received:
        return {}
    senders = sorted(received)
    rows = np.array([received[j] for j in senders], dtype=np.float64)
    with allow_overflow():
        distances = np.linalg.norm(rows - chosen, axis=1)
        changes, change = rows - start, np.subtract(chosen, start, dtype=np.float64)
        lengths = np.linalg.norm(changes, axis=1) * np.linalg.norm(change)
        cosines = (changes * change).sum(axis=1) / np.where(lengths > 0.0, lengths, 1.0)
    unit = float(np.median(distances))
    relative = distances / unit if 0.0 < unit < np.inf else np.ones(len(senders))
    found = zip(senders, _finite(relative).tolist(), _finite(cosines).tolist(), strict=True)
    return {j: (distance, cosine) for j, distance, cosine in found}


def _finite(values: Vector) -> Vector:
    """Return the values, where squares overflowed the largest number."""
    return np.nan_to_num(values, nan=0.0, posinf=1e300, neginf=-1e300)
