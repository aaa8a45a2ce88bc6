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

    Attributes:
        corners: left, bottom, right and top of every bar, `(bars, 4)`.
    """

    corners: NDArray[np.float64]

    def __init__(
        self, left: ArrayLike, bottom: ArrayLike, width: ArrayLike, height: ArrayLike, **look: Any
    ) -> None:
        x, y, w, h = np.broadcast_arrays(left, bottom, width, height)
        self.corners = np.stack((x, y, x + w, y + h), axis=-1, dtype=np.float64)
        around = self.corners[:, [[0, 1], [2, 1], [2, 3], [0, 3]]]
        super().__init__([*around], **look)
