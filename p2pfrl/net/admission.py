"""Admission of connections before their TLS handshake or greeting is complete."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Generic, TypeVar

from p2pfrl.net.session import Event
from p2pfrl.net.tcp import Link

EACH, TOTAL = 16, 64

T = TypeVar("T")
Handle = Callable[[Link, list[Event]], None]


class Admission(Generic[T]):
    """Limits on waiting connections, per host and in total.

    A handshake or a greeting takes milliseconds and at most one timeout, so few honest connections
    wait. Each waiting connection costs a descriptor and 130 KB. Above a limit the oldest is closed,
    because a silent connection is older than an honest one that has just arrived.

    Args:
        close: closes a connection above the limit, given the limit; it is no longer waiting then.
    """

    def __init__(self, close: Callable[[T, int], None]) -> None:
        self._close = close
        self._waiting: dict[T, str] = {}

    def __iter__(self) -> Iterator[T]:
        """Iterate over the waiting connections, oldest first."""
        return iter(list(self._waiting))

    def __len__(self) -> int:
        """Return the number of waiting connections."""
        return len(self._waiting)

    def admit(self, one: T, host: str, expected: int) -> None:
        """Add a connection. If there are too many, the oldest ones are closed.

        Args:
            one: the connection.
            host: host of the other side.
            expected: number of processes that will connect, possibly all at once and from one host.
        """
        self._make_room(
            [other for other, where in self._waiting.items() if where == host], EACH + expected
        )
        self._make_room(list(self._waiting), TOTAL + expected)
        self._waiting[one] = host

    def leave(self, one: T) -> None:
        """Remove a connection that no longer waits, or is closed."""
        self._waiting.pop(one, None)

    def _make_room(self, those: list[T], limit: int) -> None:
        for one in those[: max(0, len(those) + 1 - limit)]:
            self.leave(one)
            self._close(one, limit)


def of_greetings(handle: Handle) -> Admission[Link]:
    """Return the admission of links without a greeting.

    `handle` receives the events of links that it closes.
    """

    def close(link: Link, limit: int) -> None:
        reason = f"over {limit} connections without greeting"
        handle(link, link.session.give_up("too_many", reason))
        link.abort()

    return Admission(close)
