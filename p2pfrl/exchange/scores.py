"""Scores that agents send beside a payload, by which receivers rank them: `SCORES` by name."""

from __future__ import annotations

import sys
from collections.abc import Callable

import numpy as np

from p2pfrl.core.turn import Turn

UNKNOWN = -sys.float_info.max
"""The score of an agent for which it is not defined, below every other."""
OF_RETURNS = ("return", "variance")
"""The scores that only agents have whose episodes end."""


def mean_return(turn: Turn) -> float:
    """Return the mean return of the episodes since the last exchange; UNKNOWN without any."""
    return float(np.mean(turn.returns)) if turn.returns else UNKNOWN


def return_variance(turn: Turn) -> float:
    """Return the variance of those returns; UNKNOWN below two."""
    return float(np.var(turn.returns)) if len(turn.returns) > 1 else UNKNOWN


def loss(turn: Turn) -> float:
    """Return the loss of the last local update; UNKNOWN where it is not finite."""
    return float(turn.loss) if np.isfinite(turn.loss) else UNKNOWN


SCORES: dict[str, Callable[[Turn], float]] = {
    "return": mean_return,
    "variance": return_variance,
    "loss": loss,
}
