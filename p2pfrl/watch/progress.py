"""How far a run is, and the time that is left."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Mapping
from typing import Any

from p2pfrl.core.units import seconds

_MEMORY = 60.0
"""Seconds of the past from which the speed is taken."""


class Progress:
    """Estimates the time that is left from the speed of the last minute.

    Args:
        stop: the table `[stop]` of the scenario.
    """

    def __init__(self, stop: Mapping[str, Any]) -> None:
        self.goals: dict[str, float] = {}
        for key in ("rounds", "env_steps"):
            if isinstance(value := stop.get(key), int | float):
                self.goals[key] = float(value)
        if (limit := stop.get("virtual_time")) is not None:
            self.goals["virtual_seconds"] = seconds(limit)
        self._seen: deque[tuple[float, float]] = deque()

    def share(self, now: Mapping[str, float | None]) -> float | None:
        """Return the share of the run that is done, in [0, 1]: that of the nearest goal."""
        shares = [
            value / goal
            for key, goal in self.goals.items()
            if goal > 0 and (value := now.get(key)) is not None
        ]
        return min(1.0, max(shares)) if shares else None

    def left(self, share: float | None, wall: float | None) -> float | None:
        """Return the seconds that are left, after `wall` seconds of which so much is done.

        None where nothing can be said yet.
        """
        if share is None or wall is None:
            return None
        seen = self._seen
        if seen and wall < seen[-1][0]:  # another start
            seen.clear()
        seen.append((wall, share))
        while len(seen) > 2 and wall - seen[0][0] > _MEMORY:
            seen.popleft()
        begin = seen[0] if share > seen[0][1] else (0.0, 0.0)
        if share >= 1.0:
            return 0.0
        speed = (share - begin[1]) / (wall - begin[0]) if wall > begin[0] else 0.0
        found = (1.0 - share) / speed if speed > 0 else math.inf
        return found if math.isfinite(found) else None
