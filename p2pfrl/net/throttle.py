"""Which of many like events are worth a line in the log."""

from __future__ import annotations

_LINES = 8
"""Events of one kind and sender that are all noted; then every power of two is, or a flood would fill the disk."""


class News:
    """Counts events by kind and sender.

    Attributes:
        counts: (kind, agents of the sender) -> how often.
    """

    def __init__(self) -> None:
        self.counts: dict[tuple[str, tuple[int, ...]], int] = {}

    def __call__(self, what: str, agents: tuple[int, ...]) -> int:
        """Return how often it happened by now, or 0 where that is no news."""
        count = self.counts[what, agents] = self.counts.get((what, agents), 0) + 1
        return count if count <= _LINES or count & (count - 1) == 0 else 0
