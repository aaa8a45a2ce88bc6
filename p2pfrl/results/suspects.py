"""Suspects of a run: agents whose vectors are far from what robust rules choose."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

ALARM = 3.0
"""Suspicion above which a round of an agent is an alarm: thrice the median distance."""


def suspects(agents: Mapping[str, NDArray[Any]]) -> dict[str, Any]:
    """Return how often agents raised an alarm, and which ones did in most of their rounds.

    False alarms are those of honest agents.

    Args:
        agents: columns of agents.csv, with "suspicion", and "byzantine" where there are attacks.
    """
    values, ids = agents["suspicion"], agents["agent"]
    known = np.isfinite(values)
    found = [
        int(agent)
        for agent in np.unique(ids[known])
        if float(np.median(values[known & (ids == agent)])) > ALARM
    ]
    honest = known & (agents["byzantine"] == 0) if "byzantine" in agents else known
    return {
        "threshold": ALARM,
        "alarms": _share(values[known]),
        "false_alarms": _share(values[honest]),
        "suspects": found,
    }


def _share(values: NDArray[np.float64]) -> float:
    """Return the share of values that are alarms; 0 if there are none."""
    return float((values > ALARM).mean()) if len(values) else 0.0
