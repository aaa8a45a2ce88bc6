"""Target networks of learners from replay, and what an exchange does to them."""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray

from p2pfrl.core.parameters import Vector

AfterMixing = Literal["sync", "shift", "keep"]


def met(
    after_mixing: AfterMixing, rows: Vector, ahead: Vector, after: Vector, is_new: NDArray[np.bool_]
) -> None:
    """Move target networks as the exchange moved the networks, in place; at first they are equal.

    Args:
        after_mixing: sync copies a network that was changed, shift moves its target as far as it
            was moved, keep leaves the target.
        rows: `(b, stride)` the networks after the exchange.
        ahead: `(b, stride)` their targets.
        after: `(b, stride)` the networks after the last update.
        is_new: `(b,)` whether there has been no update.
    """
    if after_mixing == "shift":
        ahead += rows - after
    elif after_mixing == "sync":
        is_mixed = (rows != after).any(axis=1)
        ahead[is_mixed] = rows[is_mixed]
    ahead[is_new] = rows[is_new]
