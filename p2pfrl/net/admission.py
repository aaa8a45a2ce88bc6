"""Admission of connections that have not sent a greeting yet."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from p2pfrl.net.session import Event
from p2pfrl.net.tcp import Link

EACH, TOTAL = 16, 64


class Admission:
    """Limits on connections without a greeting, per host and in total.

    A greeting takes milliseconds and at most one timeout, so few honest connections wait; each costs
    a descriptor and 130 KB. Beyond a limit the oldest is closed: a silent connection is older than
    an honest one that has just arrived.

    Args:
        expected: processes that are to connect; they may all come at once, and from one host.
        handle: processes the events of a link that is closed.
    """

    def __init__(self, expected: int, handle: Callable[[Link, list[Event]], None]) -> None:
        self._each = EACH + expected
        self._total = TOTAL + expected
        self._handle = handle
        self._waiting: dict[Link, str] = {}

    def __iter__(self) -> Iterator[Link]:
        """Iterate over the waiting connections, oldest first."""
        return iter(list(self._waiting))

    def __len__(self) -> int:
        """Return how many connections wait."""
        return len(self._waiting)

    def admit(self, link: Link) -> None:
        """Add a connection; the oldest ones are closed where there are too many."""
        host = link.peer_host()
        self._make_room(
            [other for other, where in self._waiting.items() if where == host], self._each
        )
        self._make_room(list(self._waiting), self._total)
        self._waiting[link] = host

    def leave(self, link: Link) -> None:
        """Remove a connection that has sent its greeting or is closed."""
        self._waiting.pop(link, None)

    def _make_room(self, links: list[Link], limit: int) -> None:
        for link in links[: max(0, len(links) + 1 - limit)]:
            self.leave(link)
            self._handle(
                link, link.session.give_up("too_many", f"over {limit} connections without greeting")
            )
            link.abort()
