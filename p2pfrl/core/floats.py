"""Floating-point numbers that become infinite, or no numbers."""

from __future__ import annotations

import numpy as np


def allow_overflow() -> np.errstate:
    """Return a context in which numpy does not warn of overflows, nor of what is no number.

    What is not finite is refused where it matters: by who receives a vector, and after an update.
    """
    return np.errstate(over="ignore", invalid="ignore")
