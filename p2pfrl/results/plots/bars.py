"""Many bars as one artist."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.collections import PolyCollection
from numpy.typing import ArrayLike, NDArray


class Bars(PolyCollection):
    """Bars of one look, which are drawn together: one patch per bar takes five times as long.

    Args:
        left, bottom: corners, `(bars,)` or one for all.
        width, height: sizes, likewise.
        **look: as of `PolyCollection`.
    """

    def __init__(
        self, left: ArrayLike, bottom: ArrayLike, width: ArrayLike, height: ArrayLike, **look: Any
    ) -> None:
        x, y, w, h = np.broadcast_arrays(left, bottom, width, height)
        corners = ((x, y), (x + w, y), (x + w, y + h), (x, y + h))
        super().__init__(np.array(corners, dtype=np.float64).transpose(2, 0, 1), **look)

    def corners(self) -> NDArray[np.float64]:
        """Return left, bottom, right and top of every bar, `(bars, 4)`."""
        found = [(*path.vertices[0], *path.vertices[2]) for path in self.get_paths()]
        return np.array(found, dtype=np.float64).reshape(-1, 4)
