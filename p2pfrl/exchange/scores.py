"""What agents tell of themselves beside a payload, so that receivers can rank them: `SCORES` by name."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from p2pfrl.core.turn import Turn


def mean_return(turn: Turn) -> float:
    """Return the mean return of the training episodes that finished since the last exchange; 0 where none did."""
    return float(np.mean(turn.returns)) if turn.returns else 0.0


def return_variance(turn: Turn) -> float:
    """Return the variance of those returns; 0 below two."""
    return float(np.var(turn.returns)) if len(turn.returns) > 1 else 0.0


def loss(turn: Turn) -> float:
    """Return the loss of the last local update; 0 where it is not known."""
    return turn.loss if np.isfinite(turn.loss) else 0.0


SCORES: dict[str, Callable[[Turn], float]] = {"return": mean_return, "variance": return_variance, "loss": loss}
