"""Wall clock with the interface of the virtual clock."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any

from p2pfrl.core.units import SECOND


class WallClock:
    """Monotonic nanoseconds since creation. Changes of the system time have no effect.

    Args:
        loop: event loop that runs posted callbacks.
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
        """Call back, or wait again: timers of an event loop are coarse and may fire early."""
        if self.now < when:
            self._loop.call_later(1e-3, self._fire, when, callback, *args)
        else:
            callback(*args)

    def soon(self, callback: Callable[..., object], *args: Any) -> None:
        """Call `callback(*args)` after what is ready already."""
        self._loop.call_soon(callback, *args)

    def create_future(self) -> asyncio.Future[Any]:
        """Return a future of the loop."""
        return self._loop.create_future()
