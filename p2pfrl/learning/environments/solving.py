"""Optima that are computed once for each physics that differ."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from p2pfrl.learning.environments.base import Array

MOST = 256
"""Most agents with different physics whose optima are computed: each takes up to .1 s."""


def solved(
    physics: Mapping[str, NDArray[np.generic]],
    names: Sequence[str],
    solve: Callable[[tuple[float, ...]], float],
) -> Array | None:
    """Return `solve` of every agent's physics, `(b,)`; None if more than `MOST` differ.

    Args:
        physics: `(b,)` columns.
        names: of the columns that `solve` takes, in order.
        solve: values of the columns -> the optimum.
    """
    rows = np.stack([np.asarray(physics[name], dtype=np.float64) for name in names], axis=-1)
    different, place = np.unique(rows, axis=0, return_inverse=True)
    if len(different) > MOST:
        return None
    return np.array([solve(tuple(row)) for row in different.tolist()])[place.reshape(-1)]
