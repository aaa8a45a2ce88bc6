"""What an agent remembers of a neighbor that it awaited in vain."""

from __future__ import annotations

from dataclasses import dataclass

from p2pfrl.core.types import Message


@dataclass(slots=True)
class Missed:
    """A neighbor that was awaited in vain.

    Attributes:
        count: deadlines in a row.
        first: of the rounds in which nothing of it was mixed, the first.
        late: what came from it since, too late for its own round.
    """

    count: int
    first: int
    late: Message | None = None

    def take(self) -> Message | None:
        """Return what came late and counts still, once."""
        late, self.late = self.late, None
        if late is None or late.round < self.first:
            return None
        self.first = late.round + 1
        return late
