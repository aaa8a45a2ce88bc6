"""What the coordinators of one process tell its journal."""

from __future__ import annotations

from collections.abc import Sequence

from p2pfrl.deploy.journal import Journal


class Notes:
    """What one of several coordinators tells a journal: the same, under its own id."""

    def __init__(self, journal: Journal, id: int) -> None:
        self._journal = journal
        self._id = id

    def excused(self, round: int, participants: Sequence[int]) -> None:
        """A model went out."""
        self._journal.excused(round, participants, self._id)

    def applied(self, agent: int, tau: int) -> None:
        """An update was applied."""
        self._journal.applied(agent, tau, self._id)
