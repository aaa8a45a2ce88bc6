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

    In a run without attackers every alarm is a false one.

    Args:
        agents: columns of agents.csv, with "suspicion".
    """
    values, ids = agents["suspicion"], agents["agent"]
    known = np.isfinite(values)
    found = [
        int(agent)
        for agent in np.unique(ids[known])
        if float(np.median(values[known & (ids == agent)])) > ALARM
    ]
    share = float((values[known] > ALARM).mean()) if known.any() else 0.0
    return {"threshold": ALARM, "alarms": share, "suspects": found}
