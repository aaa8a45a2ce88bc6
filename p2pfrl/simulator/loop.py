"""A deterministic asyncio event loop in virtual time.

It jumps to the next event and never sleeps. The stock loop cannot be used: its timers of equal time
fire out of order, and its clock is the machine's. This one has a heap of instants (integer
nanoseconds), a list of calls for each of them, and a first-in first-out queue of what is ready.
Many agents act at the same instants, so the heap stays small. Ordinary asyncio tasks run on this
loop; agents run without tasks (driver.py). It does no I/O.
"""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from asyncio import events
from bisect import insort
from collections import deque
from collections.abc import Awaitable, Callable, Container, Iterable, Iterator
from contextvars import Context
from heapq import heappop, heappush
from itertools import count, islice
from typing import Any, TypeVar, TypeVarTuple

from p2pfrl.core.errors import DeadlockError
from p2pfrl.core.units import SECOND

T = TypeVar("T")
Ts = TypeVarTuple("Ts")


Entry = tuple[int, int, Callable[..., object], tuple[Any, ...]]
"""Time, sequence, callback and arguments of something that will happen."""

_Call = tuple[int, Callable[..., object], tuple[Any, ...]]
"""What happens at an instant: sequence, callback and arguments."""


class Several(ABC):
    """Calls of which only the earliest is in the loop, under a sequence reserved for it.

    So the loop stays small where many messages are under way, and calls happen as if each of them
    had been posted.
    """

    __slots__ = ()

    @abstractmethod
    def first(self) -> None:
        """Make the earliest call, after posting the one behind it (`VirtualTimeLoop.post_as`)."""

    @abstractmethod
    def entries(self, most: int | None = None) -> list[Entry]:
        """Return the calls, or at most so many of them, in any order."""

    @abstractmethod
    def __len__(self) -> int:
        """Return the number of calls."""


class VirtualTimeLoop(asyncio.AbstractEventLoop):
    """An event loop whose clock is the time of the event being handled.

    Attributes:
        now: integer nanoseconds since the start.
        explain: returns who waits for whom, for the report of a deadlock.
    """

    def __init__(self, explain: Callable[[], str] = lambda: "no agent") -> None:
        self.now = 0
        self.explain = explain
        self._instants: list[int] = []  # a heap of those in `_later`
        self._later: dict[int, list[_Call]] = {}  # in order of sequence
        self._left: list[_Call] = []  # of the instant being handled, the next one last
        self._ready: deque[tuple[Callable[..., object], tuple[Any, ...], Context | None]] = deque()
        self._numbers = count()
        self._next = self._numbers.__next__
        self._when_idle: list[Callable[[], object]] = []
        self._stopping = False
        self._running = False
        self._closed = False
        self._failure: BaseException | None = None

    def post(self, when: int, callback: Callable[..., object], *args: Any) -> None:
        """Call `callback(*args)` at time `when`, in nanoseconds.

        Callbacks of equal times are called in the order of posting. They cannot be cancelled.
        """
        call = (self._next(), callback, args)
        calls = self._later.get(when)
        if calls is None:
            self._later[when] = [call]
            heappush(self._instants, when)
        else:
            calls.append(call)

    def soon(self, callback: Callable[..., object], *args: Any) -> None:
        """Call `callback(*args)` after what is ready already, and before the time moves on."""
        self._ready.append((callback, args, None))

    def reserve(self, calls: int) -> int:
        """Return the first of so many consecutive sequences, which calls posted now would get."""
        first = self._next()
        deque(islice(self._numbers, calls - 1), maxlen=0)
        return first

    def post_as(self, when: int, sequence: int, several: Several) -> None:
        """Call `several.first()` at `when`, under a sequence that was reserved."""
        call = (sequence, several.first, ())
        if when == self.now and self._left and sequence < self._left[0][0]:
            insort(self._left, call, key=_descending)
        elif when in self._later:
            insort(self._later[when], call)
        else:
            self._later[when] = [call]
            heappush(self._instants, when)

    def when_idle(self, callback: Callable[[], object]) -> None:
        """Call `callback` once, between two events.

        Everything that is ready has run by then, and every task waits.
        """
        self._when_idle.append(callback)

    def pending(self, each: int | None = None) -> list[Entry]:
        """Return the calls that are scheduled, in any order; of `Several` at most `each`."""
        found: list[Entry] = []
        for entry in self._entries():
            several = _several(entry)
            found += (entry,) if several is None else several.entries(each)
        return found

    def count(self, names: Container[str]) -> int:
        """Return how many calls of methods with these names are scheduled."""
        found = 0
        for entry in self._entries():
            several = _several(entry)
            _, _, callback, _ = entry if several is None else several.entries(1)[0]
            if callback.__name__ in names:
                found += 1 if several is None else len(several)
        return found

    def scheduled(self) -> list[Entry]:
        """Return the calls that are scheduled, in order: (time, sequence, callback, arguments)."""
        return sorted(self.pending(), key=lambda entry: entry[:2])

    def alone(self) -> list[Entry]:
        """Return the calls that are scheduled and are of no `Several`, in order."""
        return sorted(
            (entry for entry in self._entries() if _several(entry) is None),
            key=lambda entry: entry[:2],
        )

    def groups(self) -> list[Several]:
        """Return the `Several` that are scheduled, in order."""
        return [
            one
            for entry in sorted(self._entries(), key=lambda entry: entry[:2])
            if (one := _several(entry))
        ]

    def resume(self, now: int, scheduled: Iterable[Entry], last: int = -1) -> None:
        """Set the time to `now` and the scheduled calls to `scheduled`.

        The loop must not have run yet. What was posted to it before is dropped.

        Args:
            now: nanoseconds.
            scheduled: calls, in order.
            last: the last sequence of calls that are put back later (`post_as`).
        """
        assert not self._ready, "what is ready would happen twice"
        self.now = now
        self._later.clear()
        for when, sequence, callback, args in scheduled:
            self._later.setdefault(when, []).append((sequence, callback, args))
            last = max(last, sequence)
        self._instants[:] = sorted(self._later)
        self._numbers = count(last + 1)
        self._next = self._numbers.__next__

    def is_busy(self) -> bool:
        """Return whether anything is ready or will happen later."""
        return bool(self._ready or self._left or self._later)

    def run_until_complete(self, future: Awaitable[T]) -> T:  # type: ignore[override]  # asyncio's own type is generic
        """Run until `future` is done and return its result.

        Raises:
            DeadlockError: the future is not done, nothing is ready and no timer is left.
        """
        task: asyncio.Future[T] = asyncio.ensure_future(future, loop=self)
        task.add_done_callback(lambda _: self.stop())
        self.run_forever()
        return task.result()

    def run_forever(self) -> None:
        """Handle events in order of time until `stop`."""
        if self._running:
            raise RuntimeError("this loop is running already")
        previous = events._get_running_loop()
        events._set_running_loop(self)
        self._running = True
        ready = self._ready
        pop = ready.popleft
        left = self._left
        try:
            while True:
                while ready:
                    callback, args, context = pop()
                    if context is None:
                        callback(*args)
                    else:
                        context.run(callback, *args)
                if self._stopping:
                    if self._failure is not None:
                        raise self._failure
                    return
                if self._when_idle:
                    self._when_idle.pop()()
                    left = self._left
                    continue
                if not left:
                    left = self._advance()
                _, callback, args = left.pop()
                callback(*args)
        finally:
            self._running = self._stopping = False
            events._set_running_loop(previous)

    def _advance(self) -> list[_Call]:
        """Go on to the next instant, and return its calls, the next one last.

        Raises:
            DeadlockError: there is none.
        """
        if not self._instants:
            raise DeadlockError(f"everyone waits and no timer is left: {self.explain()}")
        self.now = now = heappop(self._instants)
        self._left = left = self._later.pop(now)
        if len(left) > 1:
            left.reverse()
        return left

    def _entries(self) -> Iterator[Entry]:
        """Yield the calls that are in the loop, in any order."""
        for call in self._left:
            yield self.now, *call
        for when, calls in self._later.items():
            for call in calls:
                yield when, *call

    def stop(self) -> None:
        """Return from `run_forever` once what is ready now has run."""
        self._stopping = True

    def is_running(self) -> bool:
        """Whether events are being handled."""
        return self._running

    def is_closed(self) -> bool:
        """Whether `close` was called."""
        return self._closed

    def close(self) -> None:
        """Drop everything that is still queued."""
        self._closed = True
        for calls in (self._instants, self._later, self._left, self._ready):
            calls.clear()

    async def shutdown_asyncgens(self) -> None:
        """Do nothing: no asynchronous generator is used."""

    def get_debug(self) -> bool:
        """Return False: asyncio's debug mode reads the machine's clock."""
        return False

    def time(self) -> float:
        """Return virtual seconds."""
        return self.now / SECOND

    def call_soon(  # type: ignore[override]
        self, callback: Callable[..., object], *args: Any, context: Context | None = None
    ) -> asyncio.Handle:
        """Run `callback` after what is ready already.

        With a `context`, which asyncio's own tasks pass, the call cannot be cancelled.
        """
        if context is not None:
            self._ready.append((callback, args, context))
            return None  # type: ignore[return-value]  # tasks and futures ignore it, and it would cost 0.3 us
        handle = asyncio.Handle(callback, args, self)
        self._ready.append((self._run_handle, (handle,), None))
        return handle

    def call_at(
        self,
        when: float,
        callback: Callable[[*Ts], object],
        *args: *Ts,
        context: Context | None = None,
    ) -> asyncio.TimerHandle:
        """Run `callback` at `when` seconds."""
        handle = asyncio.TimerHandle(when, callback, args, self, context)
        self.post(max(self.now, round(when * SECOND)), self._run_handle, handle)
        return handle

    def call_later(
        self,
        delay: float,
        callback: Callable[[*Ts], object],
        *args: *Ts,
        context: Context | None = None,
    ) -> asyncio.TimerHandle:
        """Run `callback` after `delay` seconds."""
        return self.call_at(self.now / SECOND + delay, callback, *args, context=context)

    def create_future(self) -> asyncio.Future[Any]:
        """Return a future of this loop."""
        return asyncio.Future(loop=self)

    def create_task(
        self, coro: Any, *, name: str | None = None, context: Context | None = None
    ) -> asyncio.Task[Any]:
        """Return a task of this loop."""
        return asyncio.Task(coro, loop=self, name=name, context=context)

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        """Stop with the exception: nothing that fails in a simulation may pass unseen."""
        self._failure = (
            self._failure or context.get("exception") or RuntimeError(context["message"])
        )
        self.stop()

    def _timer_handle_cancelled(self, handle: asyncio.TimerHandle) -> None:
        """Do nothing: asyncio calls this, but a cancelled handle is skipped when its time comes."""

    @staticmethod
    def _run_handle(handle: asyncio.Handle) -> None:
        if not handle.cancelled():
            handle._run()


def _descending(call: _Call) -> int:
    return -call[0]


def _several(entry: Entry) -> Several | None:
    owner = getattr(entry[2], "__self__", None)
    return owner if isinstance(owner, Several) else None


def virtual_time() -> VirtualTimeLoop:
    """Return a new loop."""
    return VirtualTimeLoop()  # type: ignore[abstract]  # it has no I/O: asyncio's base raises NotImplementedError there
