"""Who waits at the door: connections that others made and that have not greeted yet."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from p2pfrl.net.session import Event
from p2pfrl.net.tcp import Link

EACH, TOTAL = 16, 64


class Gate:
    """Limits of connections without a greeting: of one host, and of all.

    Greeting takes milliseconds and at most one timeout, so honest ones are few; each costs a
    descriptor and 130 KB. Where there are too many the oldest goes: a silent one is older than an
    honest one that came just now.

    Args:
        expected: processes that are to connect; they may all come at once, and from one host.
        happened: is told what follows for a link that has to go.
    """

    def __init__(self, expected: int, happened: Callable[[Link, list[Event]], None]) -> None:
        self._each = EACH + expected
        self._total = TOTAL + expected
        self._happened = happened
        self._waiting: dict[Link, str] = {}

    def __iter__(self) -> Iterator[Link]:
        """Iterate over those who wait, oldest first."""
        return iter(list(self._waiting))

    def __len__(self) -> int:
        """Return how many wait."""
        return len(self._waiting)

    def admit(self, link: Link) -> None:
        """Let a connection wait."""
        host = link.peer_host()
        self._make_room(
            [other for other, where in self._waiting.items() if where == host], self._each
        )
        self._make_room(list(self._waiting), self._total)
        self._waiting[link] = host

    def leave(self, link: Link) -> None:
        """Forget a connection: it has greeted, or is gone."""
        self._waiting.pop(link, None)

    def _make_room(self, links: list[Link], limit: int) -> None:
        for link in links[: max(0, len(links) + 1 - limit)]:
            self.leave(link)
            self._happened(
                link, link.session.give_up("too_many", f"over {limit} connections without greeting")
            )
            link.abort()
