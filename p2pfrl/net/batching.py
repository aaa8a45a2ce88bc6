"""Batching of local updates within one process."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

from p2pfrl.learning.meetings import Meetings

_LEAST = 1 / 16


class Batches:
    """Collects the updates that agents start and computes them together in one thread.

    The first update of a batch waits for agents that are not training yet, at most as long as the
    last batch took. So no update ends later than it would by just missing a batch that started
    without it. If the others do not come (they wait for a peer that is down, or take no part), the
    waiting time is halved, down to a sixteenth; it doubles when one comes.

    Members of a shared world start together (learning/meetings.py).

    Args:
        loop: event loop of the process.
        compute: computes the updates of a batch of agents; called in the thread.
        trained: called with every agent of a batch, in order, after the batch is computed.
        present: returns how many agents may still train.
        begin: called with the members of a shared world that start an update together.
        meetings: of shared worlds; None: nobody shares one.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        *,
        compute: Callable[[list[int]], None],
        trained: Callable[[int], None],
        present: Callable[[], int],
        begin: Callable[[Sequence[int]], None] = lambda together: None,
        meetings: Meetings | None = None,
    ) -> None:
        self._loop = loop
        self._compute = compute
        self._trained = trained
        self._present = present
        self._start_together = begin
        self._meetings = meetings
        self._queued: dict[int, None] = {}
        self._is_computing = self._is_closed = False
        self._timer: asyncio.TimerHandle | None = None
        self._alone = 0
        self._took = 0.0
        self._patience = 1.0
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="trainer")

    def add(self, agent: int) -> None:
        """Begin an update of `agent`."""
        if self._meetings is None:
            self._queued[agent] = None
            self.look()
        else:
            self._meetings.ask(agent)
            self._loop.call_soon(self._meet, self._meetings.world(agent))

    def leave(self, agent: int) -> None:
        """An agent trains no more: nobody waits for it."""
        if self._meetings is not None:
            self._meetings.leave(agent)
            self._loop.call_soon(self._meet, self._meetings.world(agent))
        self.look()

    def _meet(self, world: int) -> None:
        """Begin the updates of a shared world's members, if those that are awaited have asked."""
        assert self._meetings is not None
        together = self._meetings.start(world)
        if together and not self._is_closed:
            self._start_together(together)
            self._queued |= dict.fromkeys(together)
            self.look()

    def look(self) -> None:
        """Start computing if all agents have asked; else wait briefly for the others."""
        if self._is_computing or not self._queued:
            return
        if len(self._queued) >= self._present():
            if self._timer is not None:
                self._end_wait(has_paid=True)
            self._begin()
        elif self._timer is None:
            # `_alone` is compared at the end of the wait: the wait has paid if more agents came.
            self._alone = len(self._queued)
            self._timer = self._loop.call_later(self._took * self._patience, self._give_up)

    def close(self) -> None:
        """Start no more updates."""
        self._is_closed = True
        self._queued.clear()
        if self._timer is not None:
            self._timer.cancel()
        self._thread.shutdown(wait=False, cancel_futures=True)

    async def ended(self) -> None:
        """Wait until the update under way, if any, has ended, after `close`."""
        await asyncio.to_thread(self._thread.shutdown)

    def _give_up(self) -> None:
        self._end_wait(has_paid=len(self._queued) > self._alone)
        self._begin()

    def _end_wait(self, *, has_paid: bool) -> None:
        assert self._timer is not None
        self._timer.cancel()
        self._timer = None
        self._patience = (
            min(1.0, 2 * self._patience) if has_paid else max(_LEAST, self._patience / 2)
        )

    def _begin(self) -> None:
        batch, start = sorted(self._queued), self._loop.time()
        self._queued.clear()
        self._is_computing = True
        done = self._loop.run_in_executor(self._thread, self._compute, batch)
        done.add_done_callback(lambda future: self._computed(batch, start, future))

    def _computed(self, batch: list[int], start: float, future: asyncio.Future[None]) -> None:
        self._is_computing = False
        if future.cancelled():
            return
        future.result()
        self._took = self._loop.time() - start
        for agent in batch:
            self._trained(agent)
            if self._meetings is not None:
                self._meetings.end(agent)
                self._loop.call_soon(self._meet, self._meetings.world(agent))
        self.look()
