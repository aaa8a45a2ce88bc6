"""The port of one agent, in both worlds: a mailbox with one waiter, and one timer."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any, Protocol

from p2pfrl.core.state import State
from p2pfrl.core.types import Event, Expired, Frame


class Clock(Protocol):
    """The clock of a world: virtual time, or that of the machine."""

    @property
    def now(self) -> int:
        """Nanoseconds since the start."""

    def post(self, when: int, callback: Callable[..., object], *args: Any) -> None:
        """Call `callback(*args)` at `when`."""

    def create_future(self) -> asyncio.Future[Any]:
        """Return a future."""

    def soon(self, callback: Callable[..., object], *args: Any) -> None:
        """Call `callback(*args)` after what is ready already."""


def _nowhere(event: Event) -> None:
    """Nobody listens yet."""


class MailboxPort:
    """The port of one agent or coordinator: mailbox, timer, training and sending.

    Args:
        clock: the world's.
        train: begins a local update of this agent.
        send: hands a frame to the network.

    Attributes:
        leaves: whether the agent leaves for good at the end of the round that it is in.
    """

    __slots__ = (
        "_armed",
        "_clock",
        "_deadline",
        "_queue",
        "_take",
        "_waiter",
        "_waits",
        "leaves",
        "send",
        "train",
    )

    def __init__(
        self, clock: Clock, train: Callable[[], None], send: Callable[[Sequence[int], Frame], None]
    ) -> None:
        self.train = train
        self.send = send
        self.leaves = False
        self._clock = clock
        self._queue: list[
            Event
        ] = []  # hardly ever longer than one; an empty deque would take 760 bytes
        self._waiter: asyncio.Future[Event] | None = None
        self._take: Callable[[Event], object] = _nowhere
        self._waits = False
        self._deadline: int | None = None
        self._armed: int | None = None

    def now(self) -> int:
        """Return the time in nanoseconds."""
        return self._clock.now

    def __len__(self) -> int:
        """Return how many events wait."""
        return len(self._queue)

    def receive(self) -> asyncio.Future[Event]:
        """Return a future of the next event, to be awaited.

        A bare future is faster and smaller than a coroutine around it.
        """
        future: asyncio.Future[Event] = self._clock.create_future()
        if self._queue:
            future.set_result(self._queue.pop(0))
        else:
            self._waiter = future
        return future

    def listen(self, take: Callable[[Event], object]) -> None:
        """Let the clock call `take` with each event that `next` did not find.

        This is `receive` for a world without tasks, in the same order: a task would run when `take`
        is called.
        """
        self._take = take

    def forget(self) -> None:
        """Call nobody any more, so that a port does not keep alive who has listened."""
        self._take, self._waits = _nowhere, False

    def next(self) -> Event | None:
        """Return the next event if it is here; otherwise wait for it (`listen`)."""
        if self._queue:
            return self._queue.pop(0)
        self._waits = True
        return None

    def put(self, event: Event) -> None:
        """Add an event to the mailbox."""
        if self._waits:
            self._waits = False
            self._clock.soon(self._take, event)
            return
        waiter = self._waiter
        if waiter is None or waiter.done():  # done without an event: whoever waited was canceled
            self._queue.append(event)
        else:
            self._waiter = None
            waiter.set_result(event)

    def deliver(self, event: Event) -> None:
        """Let the agent answer an event now if it waits for one; else put it into the mailbox.

        For a call of the clock that does nothing after this: as nothing is ready then, all happens
        in the same order as with `put`.
        """
        if self._waits:
            self._waits = False
            self._take(event)
        else:
            self.put(event)

    def save(self) -> State:
        """Return the events that wait, and the timer.

        An event that is being awaited is not part of the result.
        """
        timer = {"deadline": self._deadline, "armed": self._armed}
        return {"queue": list(self._queue), **timer, "leaves": self.leaves}

    def restore(self, state: State) -> None:
        """Restore the events and the timer that `save` returned.

        The world restores the timer's entry in the clock.
        """
        self._queue = list(state["queue"])
        self._deadline, self._armed = state["deadline"], state["armed"]
        self.leaves = state.get("leaves", False)  # earlier versions have none

    def close(self) -> None:
        """Drop all events and the timer: the agent is gone."""
        self._queue.clear()
        self._waiter = self._deadline = None
        self.forget()

    def wait_until(self, time: int | None) -> None:
        """Put `Expired(time)` into the mailbox at `time`, unless this is called again before.

        At most one timer per agent is in the heap as long as deadlines only move forward. A timer
        that fires before the current deadline is posted again for that deadline.
        """
        self._deadline = time
        if time is not None and (self._armed is None or self._armed > time):
            self._armed = time
            self._clock.post(time, self.ring)

    def ring(self) -> None:
        """Put `Expired` into the mailbox if the deadline has come.

        `wait_until` posts this method.
        """
        if self._armed is not None and self._armed <= self._clock.now:
            self._armed = None
        if self._deadline is None:
            return
        if self._deadline <= self._clock.now:
            deadline, self._deadline = self._deadline, None
            self.put(Expired(deadline))
        elif self._armed is None or self._armed > self._deadline:
            self._armed = self._deadline
            self._clock.post(self._deadline, self.ring)
