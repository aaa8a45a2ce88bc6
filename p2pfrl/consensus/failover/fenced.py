"""Schedules that refuse what belongs to an earlier term of office."""

from __future__ import annotations

from typing_extensions import override

from p2pfrl.core.state import State, Stateful
from p2pfrl.core.types import Schedule


class Fenced(Stateful):
    """A schedule around another one, and how many messages of earlier epochs it has refused.

    Args:
        schedule: the other one.
    """

    def __init__(self, schedule: Schedule) -> None:
        self._schedule = schedule
        self._fenced = 0

    @property
    def messages_late(self) -> int:
        """Messages that came too late, those of an earlier epoch included."""
        return self._schedule.messages_late + self._fenced

    @property
    def deadlines_expired(self) -> int:
        """Waits that ended by a deadline."""
        return self._schedule.deadlines_expired

    @override
    def save(self) -> State:
        """Return the state, that of the other schedule included."""
        return {**super().save(), "schedule": self._schedule.save()}

    @override
    def restore(self, state: State) -> None:
        """Take over a state."""
        super().restore(state)
        self._schedule.restore(state["schedule"])
