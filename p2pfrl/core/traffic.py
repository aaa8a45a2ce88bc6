"""Traffic counters: one dataclass for the simulator's network, processes, journals and records."""

from __future__ import annotations

from dataclasses import dataclass, field, fields


@dataclass(slots=True)
class Traffic:
    """Totals of a run, of a process or of a period; a frame to k agents counts k times.

    Attributes:
        messages_sent: frames handed to the network.
        messages_delivered: frames that reached a mailbox; second copies do not count.
        messages_dropped: frames that were lost.
        messages_late: frames that came too late to be used.
        messages_empty: sent headers without a payload, from absent agents and closed gates.
        messages_duplicate: second copies that arrived and were not mixed again.
        deadlines_expired: waits that ended by a deadline.
        bytes_sent: frame bytes handed to the network.
        bytes_by: frame bytes by sender.
    """

    messages_sent: int = 0
    messages_delivered: int = 0
    messages_dropped: int = 0
    messages_late: int = 0
    messages_empty: int = 0
    messages_duplicate: int = 0
    deadlines_expired: int = 0
    bytes_sent: int = 0
    bytes_by: dict[int, int] = field(default_factory=dict)

    def send(self, sender: int, size: int, count: int, *, is_empty: bool) -> None:
        """Count one frame of `size` bytes to `count` receivers."""
        self.messages_sent += count
        if is_empty:
            self.messages_empty += count
        self.bytes_sent += size * count
        self.bytes_by[sender] = self.bytes_by.get(sender, 0) + size * count

    def add(self, other: Traffic, sign: int = 1) -> None:
        """Add the totals of `other` (subtract them with sign -1); `bytes_by` stays as it is."""
        for name in COUNTERS:
            setattr(self, name, getattr(self, name) + sign * getattr(other, name))

    def counters(self) -> dict[str, int]:
        """Return the totals by name, as a summary holds them."""
        return {name: getattr(self, name) for name in COUNTERS}


COUNTERS = tuple(entry.name for entry in fields(Traffic) if entry.name != "bytes_by")
