"""Distances and order statistics of rows, as robust aggregators need them.

All sums of squares are in float64, so that finite numbers of float32 never overflow. Each function
gives the same numbers for the same rows whatever else is computed.
"""

from __future__ import annotations

from functools import cache

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.floating]
Float64 = NDArray[np.float64]

_NETWORK_ROWS = 24
"""Most rows that a sorting network sorts; above, `np.sort` is faster."""
_NETWORK_WIDTH = 512
"""Fewest columns that a sorting network sorts."""


def squared_norms(rows: Array) -> Float64:
    """Return ||x_i||^2 of rows `(k, d)`, `(k,)`."""
    wide = rows.astype(np.float64, copy=False)
    found: Float64 = np.einsum("kd,kd->k", wide, wide)
    return found


def norms(rows: Array) -> Float64:
    """Return ||x_i|| of rows `(k, d)`, `(k,)`."""
    return np.sqrt(squared_norms(rows))


def squared_distances(rows: Array) -> Float64:
    """Return ||x_i - x_j||^2 of rows `(k, d)`, `(k, k)`.

    Differences come first, so that a large common part costs no digits.
    """
    wide = rows.astype(np.float64, copy=False)
    found = np.zeros((len(rows), len(rows)))
    for i in range(len(rows) - 1):
        found[i, i + 1 :] = found[i + 1 :, i] = squared_norms(wide[i + 1 :] - wide[i])
    return found


def sorted_rows(rows: Array) -> Array:
    """Return each column sorted, `(k, d)`, as `np.sort(rows, axis=0)` does."""
    k, d = rows.shape
    if k > _NETWORK_ROWS or d < _NETWORK_WIDTH:
        return np.sort(rows, axis=0)
    lanes, spare = list(rows.copy()), np.empty(d, dtype=rows.dtype)
    for i, j in _comparators(k):
        np.minimum(lanes[i], lanes[j], out=spare)
        np.maximum(lanes[i], lanes[j], out=lanes[j])
        lanes[i], spare = spare, lanes[i]
    return np.array(lanes)


def coordinate_median(rows: Array) -> Array:
    """Return the median of every column of `(k, d)`; of an even number the mean of the two."""
    ordered, half = sorted_rows(rows), len(rows) // 2
    middle: Array = ordered[half].copy()
    if not len(rows) % 2:
        low = ordered[half - 1]
        middle = low + (middle - low) / 2
    return middle


@cache
def _comparators(k: int) -> tuple[tuple[int, int], ...]:
    """Return the pairs of Batcher's merge exchange for k rows, in order.

    Knuth, The Art of Computer Programming, vol. 3, section 5.2.2, algorithm M.
    """
    pairs = []
    top = 1 << max(0, (k - 1).bit_length() - 1)
    p = top
    while p > 0:
        q, r, d = top, 0, p
        while True:
            pairs += [(i, i + d) for i in range(k - d) if i & p == r]
            if q == p:
                break
            d, q, r = q - p, q // 2, p
        p //= 2
    return tuple(pairs)
