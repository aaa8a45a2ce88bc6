"""The contract of drifts."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


class Drift(ABC):
    """How a physical quantity of an environment changes from update to update.

    An agent's value depends on its own number of updates, and on nothing that others do. So runs
    are repeatable, and processes over TCP have the values of the simulator.
    """

    @property
    def begins(self) -> int:
        """The first update in which a value may differ from that without drift."""
        return 0

    @abstractmethod
    def values(self, start: Array, agents: Sequence[int], updates: Sequence[int]) -> Array:
        """Return the values `(b,)` in the updates of `agents`.

        Args:
            start: `(b,)` values without drift.
            agents: whose.
            updates: `(b,)` completed updates of each.
        """

    def refresh(self) -> None:
        """Read again, as a run begins, what is in files; here nothing is."""
        return

    def misfit(self, agents: int) -> str | None:
        """Return why the drift does not fit a run of `agents` agents, or None if it does."""
        return None

    def peaks(self, agents: Sequence[int], last: int | None) -> tuple[list[int], list[int]]:
        """Return agents and an update of each, in pairs; none where nothing is known beforehand.

        Among the values in them are the lowest and the highest one of each agent that differ from
        its value without drift.

        Args:
            agents: whose.
            last: the last update; None: of all updates.
        """
        return [], []
