"""The real world's clock, with the face that ports know from the virtual one."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any

SECOND = 1_000_000_000


class WallClock:
    """Nanoseconds of the monotonic clock since it was made; setting the system's clock has no effect.

    Args:
        loop: runs what is posted.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._origin = time.monotonic_ns()

    @property
    def now(self) -> int:
        """Nanoseconds since the start."""
        return time.monotonic_ns() - self._origin

    def post(self, when: int, callback: Callable[..., object], *args: Any) -> None:
        """Call `callback(*args)` at `when`."""
        self._loop.call_later(max(0, when - self.now) / SECOND, self._fire, when, callback, *args)

    def _fire(self, when: int, callback: Callable[..., object], *args: Any) -> None:
        """Call back, or wait on: an event loop's timers are coarse, and may come a little early."""
        if self.now < when:
            self._loop.call_later(1e-3, self._fire, when, callback, *args)
        else:
            callback(*args)

    def create_future(self) -> asyncio.Future[Any]:
        """Return a future of the loop."""
        return self._loop.create_future()
