"""Workers of a cluster: they compute chunks of agents on other machines.

What a cluster is stands in a small contract, `Cluster`, of which Ray is the member that ships
(experiment/rays.py). A worker that dies is replaced, and its chunk is given to another one.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from time import monotonic
from typing import Any, Protocol

from p2pfrl.learning.executors import LostChunkError
from p2pfrl.learning.learners.base import Batch, Outcome
from p2pfrl.learning.workers import Greeting, WorkersError

_EACH = 2
"""Chunks that a worker has at most: one that it computes, and one that is on its way."""
_MOST_TRIES = 3
"""How often a chunk is given away before it is computed here."""
_PATIENCE = 180.0
"""Seconds in which a worker has to start."""
_LOOK = 10.0


class GoneError(Exception):
    """A worker died, or its machine cannot be reached; the message says so."""


class Cluster(Protocol):
    """Workers on other machines. References stand for what they will have returned."""

    def hire(self) -> Any:
        """Start a worker and return it; it may start later."""

    def dismiss(self, worker: Any, /) -> None:
        """End a worker."""

    def greet(self, worker: Any, /) -> Any:
        """Ask a worker for its `Greeting`; a text says why it has none. Return a reference."""

    def update(self, worker: Any, batch: Batch, /) -> Any:
        """Let a worker compute a chunk. Return a reference to an `Outcome`, or to a text."""

    def wait(self, references: Sequence[Any], seconds: float, /) -> Sequence[Any]:
        """Return those that are there, after waiting until one is."""

    def get(self, reference: Any, /) -> object:
        """Return what is there.

        Raises:
            GoneError: nothing will be.
        """


@dataclass(slots=True, eq=False)
class _Ticket:
    batch: Batch | None
    outcome: Outcome | None = None
    lost: str = ""
    tries: int = 0


@dataclass(slots=True, eq=False)
class _Worker:
    one: Any
    began: float
    greeting: Any
    busy: dict[Any, _Ticket] = field(default_factory=dict)


class OnCluster:
    """Computes chunks by the workers of a cluster (`Executor`).

    Args:
        cluster: has the workers.
        greeting: what they have to say: that of the learner here.
        count: number of workers.
        note: called with a sentence on a worker that died.
    """

    most = None
    is_here = False

    def __init__(
        self,
        cluster: Cluster,
        greeting: Greeting,
        count: int,
        note: Callable[[str], None] = lambda text: None,
    ) -> None:
        self._cluster, self._greeting, self._count, self._note = cluster, greeting, count, note
        self._pool: list[_Worker] = []
        self.failures: dict[str, int] = {}

    @property
    def workers(self) -> int:
        """Number of workers; 1 if there is none."""
        return max(1, len(self._pool))

    def start(self) -> None:
        """Start the workers, and wait until all can compute.

        Raises:
            WorkersError: one cannot, and why; none is left then.
        """
        with ExitStack() as otherwise:
            otherwise.callback(self.close)
            limit = monotonic() + _PATIENCE
            while len(self._pool) < self._count:
                self._hire()
            while any(worker.greeting is not None for worker in self._pool):
                if monotonic() > limit:
                    ready = sum(worker.greeting is None for worker in self._pool)
                    raise WorkersError(
                        f"{ready} of {self._count} workers of the cluster were there after {_PATIENCE:g} s"
                    )
                self._wait()
                if len(self._pool) < self._count:
                    raise WorkersError("a worker of the cluster died before it could compute")
            otherwise.pop_all()

    def close(self) -> None:
        """End the workers."""
        for worker in self._pool:
            self._cluster.dismiss(worker.one)
        self._pool.clear()

    def has_room(self) -> bool:
        """Whether a worker can take a chunk now."""
        return any(self._has_room(worker) for worker in self._pool)

    def space(self, agents: int) -> None:
        """Return None: arrays are sent, and stand anywhere."""

    def submit(self, batch: Batch) -> _Ticket:
        """Give a chunk to the worker that has the least to do; wait while all have enough."""
        ticket = _Ticket(batch)
        self._give(ticket)
        return ticket

    def result(self, handle: _Ticket) -> Outcome:
        """Return what came of a chunk; wait for it.

        Raises:
            LostChunkError: it could not be computed, or too many workers died with it.
        """
        while handle.outcome is None and not handle.lost:
            self._wait()
        if handle.outcome is None:
            raise LostChunkError(handle.lost)
        outcome, handle.outcome, handle.lost = handle.outcome, None, "its result was taken"
        return outcome

    def _give(self, ticket: _Ticket) -> None:
        while self._pool and ticket.tries < _MOST_TRIES:
            able = [worker for worker in self._pool if self._has_room(worker)]
            if able:
                worker = min(able, key=lambda worker: len(worker.busy))
                assert ticket.batch is not None
                ticket.tries += 1
                worker.busy[self._cluster.update(worker.one, ticket.batch)] = ticket
                return
            self._wait()
        ticket.lost = ticket.lost or "no worker of the cluster is left"
        ticket.batch = None

    @staticmethod
    def _has_room(worker: _Worker) -> bool:
        return worker.greeting is None and len(worker.busy) < _EACH

    def _hire(self) -> None:
        one = self._cluster.hire()
        self._pool.append(_Worker(one, monotonic(), self._cluster.greet(one)))

    def _wait(self) -> None:
        """Handle what workers have returned, after waiting until one has; dismiss late ones.

        Raises:
            WorkersError: a worker has another learner, or none.
        """
        owners = {reference: worker for worker in self._pool for reference in worker.busy}
        owners |= {worker.greeting: worker for worker in self._pool if worker.greeting is not None}
        for reference in self._cluster.wait([*owners], _LOOK):
            worker = owners[reference]
            if worker not in self._pool:
                continue  # it died with another chunk a moment ago
            try:
                found = self._cluster.get(reference)
            except GoneError as error:
                self._replace(worker, str(error))
                continue
            if reference is worker.greeting:
                if found != self._greeting:
                    known = isinstance(found, Greeting)
                    why = f"another learner, {found}, not {self._greeting}" if known else found
                    raise WorkersError(f"a worker of the cluster: {why}")
                worker.greeting = None
                continue
            ticket = worker.busy.pop(reference)
            ticket.batch = None
            if isinstance(found, Outcome):
                ticket.outcome = found
            else:
                ticket.lost = str(found)
                self.failures[ticket.lost] = self.failures.get(ticket.lost, 0) + 1
        for worker in [*self._pool]:
            if worker.greeting is not None and monotonic() - worker.began > _PATIENCE:
                self._pool.remove(worker)
                self._cluster.dismiss(worker.one)

    def _replace(self, worker: _Worker, why: str) -> None:
        """Start another worker in the place of one that died, and give its chunks away again."""
        was_ready = worker.greeting is None
        self._pool.remove(worker)
        self._cluster.dismiss(worker.one)
        if was_ready:
            self._hire()
            self._note(f"a worker of the cluster died ({why}); its chunks are computed again")
        for ticket in worker.busy.values():
            ticket.lost = ""
            self._give(ticket)
