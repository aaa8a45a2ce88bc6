"""Assigned work: an agent's own number of local updates per exchange."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar

from typing_extensions import override

from p2pfrl.core.state import State, Stateful
from p2pfrl.core.types import Action, Event, Schedule, Train, Trained


@dataclass(frozen=True, slots=True)
class Quota:
    """How many local updates an agent makes for one exchange.

    Attributes:
        least: at least so many.
        most: at most so many; None for no limit.
        time: nanoseconds of training; another update begins only if it would end within them, were
            it as long as the last one.
    """

    least: int = 1
    most: int | None = None
    time: int | None = None


class Workload(Stateful):
    """A schedule of one update per exchange, with several updates in place of the one.

    It answers the end of an update with another one until the quota is met, and then tells the
    schedule. All other events are the schedule's: it takes the updates for one.

    Args:
        schedule: of the agent, with one local update per exchange.
        quota: of updates.
    """

    STATE: ClassVar[tuple[str, ...]] = ("_made", "_since", "_last")

    def __init__(self, schedule: Schedule, quota: Quota) -> None:
        self._schedule, self._quota = schedule, quota
        self._made = 0
        self._since = self._last = 0

    @property
    def messages_late(self) -> int:
        """Messages that came too late to be used."""
        return self._schedule.messages_late

    @property
    def deadlines_expired(self) -> int:
        """Waits that ended by a deadline."""
        return self._schedule.deadlines_expired

    def handle(self, event: Event, now: int) -> Iterator[Action]:
        """Yield the actions for `event`."""
        if isinstance(event, Trained):
            self._made += 1
            took, self._last = now - self._last, now
            if not self._is_met(now, took):
                yield Train()
                return
        for action in self._schedule.handle(event, now):
            if isinstance(action, Train):
                self._made, self._since, self._last = 0, now, now
            yield action

    def waits_for(self) -> str:
        """Return what the schedule is waiting for, as text."""
        return self._schedule.waits_for()

    def awaits(self) -> Sequence[int]:
        """Return the agents and coordinators that the schedule waits for."""
        return self._schedule.awaits()

    @override
    def save(self) -> State:
        """Return the state, that of the schedule included."""
        return {**super().save(), "schedule": self._schedule.save()}

    @override
    def restore(self, state: State) -> None:
        """Take over a state."""
        super().restore(state)
        self._schedule.restore(state["schedule"])

    def _is_met(self, now: int, took: int) -> bool:
        """Return whether the quota is met, after an update that took so many nanoseconds."""
        quota = self._quota
        if quota.most is not None and self._made >= quota.most:
            return True
        if self._made < quota.least:
            return False
        return quota.time is None or now + took > self._since + quota.time
