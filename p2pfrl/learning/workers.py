"""Worker processes: they compute chunks of agents on other cores of this machine.

A process makes the learner for itself and keeps nothing between two chunks. Arrays stay in shared
memory: a chunk is gathered in one of its places, computed there, and read there until the last of
its agents ends its update. A process has two chunks at most, one that it computes and one that
waits. Pipes carry ids and the short results. A process that dies is replaced, and its chunks are
computed again.

Nothing waits for a process without noticing its death. A process that is told to end, or whose
parent dies, ends at once.
"""

from __future__ import annotations

import gc
import os
import signal
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from functools import cached_property
from multiprocessing.connection import Connection, wait
from multiprocessing.heap import Arena
from time import monotonic
from weakref import finalize

import numpy as np
from threadpoolctl import threadpool_limits

from p2pfrl.core.causes import cause, foreign
from p2pfrl.core.children import follow, one_thread_each, preloaded, withheld
from p2pfrl.core.floats import allow_overflow
from p2pfrl.core.garbage import SELDOM
from p2pfrl.core.interrupts import INTERRUPTED
from p2pfrl.core.parameters import ALIGNMENT, Vector, aligned_zeros
from p2pfrl.learning.executors import LostChunkError
from p2pfrl.learning.learners.base import Batch, Outcome, Stack, State

GUARD = 'a script that starts processes needs `if __name__ == "__main__":` around what it runs'
_EACH = 2
"""Chunks that a process has at most."""
_MOST_BYTES = 2**28
"""Bytes of a place at most, if one agent has no more."""
_MOST_LENT = 2**31
"""Bytes of places at most whose results are read where they are; others are copied."""
_PATIENCE = 120.0
"""Seconds in which a process has to start."""
_PAUSE = 1e-3
"""Seconds between two looks at the pipes, each of which takes 40 us."""
_MOST_DEATHS = 8
"""Processes that are replaced in a run; later ones are not."""


class WorkersError(Exception):
    """Worker processes cannot compute the updates of a run; the message says why."""


@dataclass(frozen=True)
class Shapes:
    """The arrays of a chunk, in the order of their places in memory.

    Attributes:
        rows: how many agents a chunk has at most.
        arrays: name, shape of one row, and type; the first one are the parameters.
    """

    rows: int
    arrays: tuple[tuple[str, tuple[int, ...], str], ...]

    @classmethod
    def of(cls, rows: int, members: int, parameters: Vector, state: State) -> Shapes:
        """Return the shapes of chunks of `rows` agents, in whole worlds of `members`.

        There are fewer where an agent has much state.

        Raises:
            WorkersError: an array holds objects of Python.
        """
        arrays = [("", parameters), *state.items()]
        for name, values in arrays:
            if values.dtype.hasobject:
                raise WorkersError(f"the state {name!r} of the learner has objects of Python")
        found = cls(1, tuple((name, a.shape[1:], a.dtype.str) for name, a in arrays))
        most = min(rows, max(1, _MOST_BYTES // found.size))
        return cls(max(members, most - most % members), found.arrays)

    @property
    def size(self) -> int:
        """Bytes of a place for `rows` agents."""
        return sum(map(self._aligned, self._each))

    @cached_property
    def _each(self) -> tuple[int, ...]:
        """Bytes of one row of every array."""
        return tuple(
            int(np.prod(shape, dtype=np.int64)) * np.dtype(dtype).itemsize
            for _, shape, dtype in self.arrays
        )

    def _aligned(self, each: int) -> int:
        """Return the bytes from an array with so many bytes a row to the next one."""
        return -(-self.rows * each // ALIGNMENT) * ALIGNMENT

    def views(self, arena: Arena, place: int, rows: int) -> tuple[Vector, State]:
        """Return parameters and state of the first `rows` agents of a place, each aligned.

        All are views of one array, `parameters.base`.
        """
        whole = np.frombuffer(arena.buffer, np.uint8, self.size, place * self.size)
        start, state = 0, State()
        for (name, shape, dtype), each in zip(self.arrays, self._each, strict=True):
            values = whole[start : start + rows * each]
            state[name] = values.view(dtype).reshape(rows, *shape)
            start += self._aligned(each)
        parameters: Vector = state.pop("")  # type: ignore[assignment]  # floats, as they were
        return parameters, state


@dataclass(frozen=True)
class Greeting:
    """What a process says when it can compute.

    Attributes:
        signature: of the learner's layout.
        engine: what computes.
    """

    signature: str
    engine: str

    @classmethod
    def of(cls, stack: Stack) -> Greeting:
        """Return the greeting of a process that has a learner."""
        return cls(stack.layout.signature, stack.traits.engine)


@dataclass(slots=True, eq=False)
class _Ticket:
    """A chunk that was submitted: what came of it, or why nothing did."""

    agents: Sequence[int]
    outcome: Outcome | None = None
    lost: str = ""


class Workers:
    """Computes chunks in processes of its own (`Executor`).

    Args:
        make: makes the learner in another process.
        greeting: what the processes have to say: that of the learner here.
        shapes: of the arrays of a chunk.
        count: number of processes.
        chunks: whose results are wanted at a time: as many as all agents make.
        preload: modules that all of them need, imported once.
        note: called with a sentence on a process that died.
    """

    is_here = False

    def __init__(
        self,
        make: Callable[[], Stack],
        greeting: Greeting,
        shapes: Shapes,
        count: int,
        *,
        chunks: int,
        preload: Sequence[str] = (),
        note: Callable[[str], None] = lambda text: None,
    ) -> None:
        self._make, self._greeting, self._shapes = make, greeting, shapes
        self._preload, self._note = preload, note
        self._count, self._deaths, self._is_up = count, 0, False
        self._pool: list[_Worker] = []
        places = _EACH * count + min(chunks, _MOST_LENT // shapes.size)
        self._arena = _arena(places * shapes.size)
        self._free = [*range(places)]
        self._open: tuple[int, Vector, State] | None = None
        self._look = 0.0
        self.failures: dict[str, int] = {}

    @property
    def workers(self) -> int:
        """Number of processes that compute; 1 if none is left."""
        return max(1, len(self._pool))

    @property
    def most(self) -> int:
        """How many agents a chunk has at most."""
        return self._shapes.rows

    @property
    def pids(self) -> tuple[int, ...]:
        """The ids of the processes."""
        return tuple(worker.pid for worker in self._pool)

    def start(self) -> None:
        """Start the processes, and wait until all can compute.

        Raises:
            WorkersError: one cannot, and why; none is left then.
        """
        with ExitStack() as otherwise:
            otherwise.callback(self.close)
            self.begin()
            limit = monotonic() + _PATIENCE
            while not self.is_ready():
                if monotonic() > limit:
                    raise WorkersError(f"they did not start within {_PATIENCE:g} s")
                self._wait(limit - monotonic())
            otherwise.pop_all()

    def begin(self) -> None:
        """Start the processes.

        Raises:
            WorkersError: what they need cannot be sent to them.
        """
        for _ in range(self._count):
            self._pool.append(self._new())

    def is_ready(self) -> bool:
        """Whether all processes can compute.

        Raises:
            WorkersError: one cannot, and why.
        """
        self._wait(0.0)
        self._is_up = self._is_up or all(worker.is_ready for worker in self._pool)
        return self._is_up

    def has_room(self) -> bool:
        """Whether a chunk that is submitted now would be computed beside this process."""
        if not any(worker.has_room for worker in self._pool) and monotonic() >= self._look:
            self._look = monotonic() + _PAUSE
            self._wait(0.0)
        return any(worker.has_room for worker in self._pool)

    def space(self, agents: int) -> tuple[Vector, State] | None:
        """Return a place for the next chunk; wait while every process has enough to do.

        None: no process is left.
        """
        if self._idle() is None:
            return None
        place = self._free.pop() if self._open is None else self._open[0]
        self._open = (place, *self._shapes.views(self._arena, place, agents))
        return self._open[1:]

    def submit(self, batch: Batch) -> _Ticket:
        """Give a chunk to the process that has the least to do; wait while all have two."""
        ticket = _Ticket(batch.agents)
        while (worker := self._idle()) is not None:
            if self._open is None or self._open[1] is not batch.parameters:
                self._copied(batch)
            assert self._open is not None
            place = self._open[0]
            if worker.give(ticket, place, batch):
                self._open = None
                return ticket
            self._bury(worker)
        ticket.lost = "no worker process is left"
        return ticket

    def _copied(self, batch: Batch) -> None:
        """Put a chunk that stands elsewhere into a place."""
        space = self.space(len(batch.agents))
        assert space is not None
        space[0][:] = batch.parameters
        for name, values in space[1].items():
            values[:] = batch.state[name]

    def _idle(self) -> _Worker | None:
        """Return the process that has the least to do, if it may get more; wait until there is one.

        None: no process is left.
        """
        while able := [worker for worker in self._pool if worker.is_ready]:
            worker = min(able, key=lambda worker: len(worker.busy))
            if worker.has_room:
                return worker
            self._wait(None)
        return None

    def result(self, handle: _Ticket) -> Outcome:
        """Return what came of a chunk; wait for it.

        Raises:
            LostChunkError: its process died, or could not compute it.
        """
        while handle.outcome is None and not handle.lost:
            self._wait(None)
        if handle.outcome is None:
            raise LostChunkError(handle.lost)
        outcome, handle.outcome, handle.lost = handle.outcome, None, "its result was taken"
        return outcome

    def close(self) -> None:
        """End the processes. They have nothing to keep."""
        for worker in self._pool:
            worker.kill()
        self._pool.clear()

    def _new(self) -> _Worker:
        try:
            return _Worker(self._make, self._shapes, self._arena, self._preload)
        except foreign() as error:
            raise WorkersError(cause(error)) from error

    def _wait(self, timeout: float | None) -> None:
        """Handle what processes have said, after waiting until one says something or dies.

        Raises:
            WorkersError: one cannot compute at all.
        """
        ends: dict[Connection | int, _Worker] = {}
        for worker in self._pool:
            ends |= {worker.pipe: worker, worker.sentinel: worker}
        heard = {id(ends[end]): ends[end] for end in wait([*ends], timeout)}  # type: ignore[index]
        for worker in heard.values():
            try:
                while worker.pipe.poll():
                    self._take(worker, worker.pipe.recv())
            except (EOFError, OSError):
                self._bury(worker)
                continue
            if worker.has_ended:
                self._bury(worker)

    def _take(self, worker: _Worker, said: object) -> None:
        """Handle what a process has said: its greeting, a result, or what went wrong."""
        if isinstance(said, Greeting):
            worker.is_ready = said == self._greeting
            if not worker.is_ready:
                self._fail(f"they have another learner, {said}, not {self._greeting}")
        elif isinstance(said, Said):
            ticket = worker.busy.pop(said.place)
            if said.failure:
                self._free.append(said.place)
                ticket.lost = said.failure
                self.failures[said.failure] = self.failures.get(said.failure, 0) + 1
            else:
                ticket.outcome = self._outcome(said, len(ticket.agents))
        else:
            self._fail(str(said))

    def _outcome(self, said: Said, agents: int) -> Outcome:
        """Return what came of a chunk: its place is free once nothing refers to the arrays.

        They are copied where no more places can be spared.
        """
        parameters, state = self._shapes.views(self._arena, said.place, agents)
        if len(self._free) >= _EACH * self._count:
            finalize(parameters.base, self._free.append, said.place).atexit = False
        else:
            there, parameters = parameters, aligned_zeros(parameters.shape, parameters.dtype)
            parameters[:] = there
            state = {name: values.copy() for name, values in state.items()}
            self._free.append(said.place)
        return said.outcome(parameters, state)

    def _fail(self, why: str) -> None:
        """A process cannot compute at all: nor can the others, unless it is to replace one.

        Raises:
            WorkersError: it is one of the first.
        """
        if not self._is_up:
            raise WorkersError(why)

    def _bury(self, worker: _Worker) -> None:
        """Give up a process that died, and start another one.

        Raises:
            WorkersError: it died before it could compute.
        """
        self._pool.remove(worker)
        worker.kill()
        why = f"a worker process {worker.death()}"
        for place, ticket in worker.busy.items():
            ticket.lost = why
            self._free.append(place)
        self._deaths += 1
        if not worker.is_ready:
            self._fail(f"{why} before it could compute; {GUARD}")
        what = "; what it computed is computed again"
        if not worker.is_ready or self._deaths > _MOST_DEATHS:
            self._note(f"{why}{what}, and no other takes its place")
            return
        self._note(f"{why}{what}, and another takes its place")
        with suppress(WorkersError):
            self._pool.append(self._new())


@dataclass(frozen=True)
class Said:
    """What a process says of a chunk: what is not in the shared memory, or what went wrong."""

    place: int
    failure: str = ""
    env_steps: object = None
    loss: object = None
    returns: Sequence[Sequence[float]] = ()
    measures: Mapping[str, object] = field(default_factory=dict)
    transitions: object = None

    def outcome(self, parameters: Vector, state: State) -> Outcome:
        """Return the outcome with its parameters and state."""
        return Outcome(
            parameters,
            state,
            self.env_steps,  # type: ignore[arg-type]  # as the learner there returned it
            self.loss,  # type: ignore[arg-type]
            self.returns,
            self.measures,  # type: ignore[arg-type]
            self.transitions,  # type: ignore[arg-type]
        )


class _Worker:
    """One process.

    Attributes:
        pipe: to the process.
        busy: place -> the chunk there that it has.
        is_ready: whether it can compute.
    """

    def __init__(
        self,
        make: Callable[[], Stack],
        shapes: Shapes,
        arena: Arena,
        preload: Sequence[str],
    ) -> None:
        context = preloaded(preload)
        self.busy: dict[int, _Ticket] = {}
        self.is_ready = False
        self.pipe, other = context.Pipe()
        with one_thread_each(), withheld():
            self._process = context.Process(
                target=_work, args=(other, arena, shapes, dict(os.environ)), daemon=True
            )
            self._process.start()
        other.close()
        with ExitStack() as otherwise:
            otherwise.callback(self.kill)
            self.pipe.send(make)
            otherwise.pop_all()

    @property
    def sentinel(self) -> int:
        """Becomes ready when the process ends."""
        return self._process.sentinel

    @property
    def pid(self) -> int:
        """Its id."""
        assert self._process.pid is not None
        return self._process.pid

    @property
    def has_ended(self) -> bool:
        """Whether the process has ended."""
        return not self._process.is_alive()

    @property
    def has_room(self) -> bool:
        """Whether it can take another chunk."""
        return self.is_ready and len(self.busy) < _EACH

    def give(self, ticket: _Ticket, place: int, batch: Batch) -> bool:
        """Let it compute the chunk in a place; return whether it is there."""
        try:
            self.pipe.send((place, tuple(batch.agents), tuple(batch.index)))
        except OSError:
            return False
        self.busy[place] = ticket
        return True

    def kill(self) -> None:
        """End it at once."""
        if self._process.pid is not None:
            self._process.kill()
            self._process.join()
        self.pipe.close()

    def death(self) -> str:
        """Return how it ended, in words."""
        code = self._process.exitcode
        if code is None or code >= 0:
            return f"ended with code {code}"
        known = -code in set(signal.Signals)
        name = signal.Signals(-code).name if known else f"signal {-code}"
        reason = "; the system does so when memory runs out" if -code == signal.SIGKILL else ""
        return f"was killed by {name}{reason}"


def _arena(size: int) -> Arena:
    """Return shared memory without a name, which has no pages before they are written."""
    if not hasattr(os, "memfd_create"):
        return Arena(size)
    fd = os.memfd_create("p2pfrl")
    os.ftruncate(fd, size)
    arena = Arena(size, fd)
    finalize(arena, os.close, fd)
    return arena


def _work(pipe: Connection, arena: Arena, shapes: Shapes, environment: Mapping[str, str]) -> None:
    """Compute chunks until the parent wants no more; the main function of a process."""
    try:
        follow(environment)
        gc.set_threshold(*SELDOM)
        try:
            stack: Stack = pipe.recv()()
        except foreign() as error:
            pipe.send(cause(error))
            return
        pipe.send(Greeting.of(stack))
        with threadpool_limits(1, "blas"):
            while True:
                place, agents, index = pipe.recv()
                parameters, state = shapes.views(arena, place, len(agents))
                pipe.send(computed(stack, place, Batch(agents, index, parameters, state)))
    except (EOFError, OSError):
        return
    except KeyboardInterrupt:
        os._exit(INTERRUPTED)


def computed(stack: Stack, place: int, batch: Batch) -> Said:
    """Compute a chunk: its arrays hold the parameters and state that come of it."""
    parameters, state = batch.parameters, dict(batch.state)
    try:
        with allow_overflow():
            outcome = stack.update(batch)
        for name, values in (("", parameters), *state.items()):
            found = outcome.state[name] if name else outcome.parameters
            if found is not values:
                if np.shape(found) != values.shape:
                    raise ValueError(f"{name or 'parameters'}: shape {np.shape(found)}")
                values[...] = found
    except foreign() as error:
        return Said(place, failure=cause(error))
    return Said(
        place,
        "",
        outcome.env_steps,
        outcome.loss,
        outcome.returns,
        outcome.measures,
        outcome.transitions,
    )
