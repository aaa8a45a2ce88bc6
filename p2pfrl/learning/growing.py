"""An executor that begins in this thread and goes on in worker processes where they pay."""

from __future__ import annotations

from collections.abc import Callable
from time import thread_time
from typing import Any

from p2pfrl.core.parameters import Vector
from p2pfrl.learning.executors import Executor
from p2pfrl.learning.learners.base import Batch, Outcome, State

AFTER = 3.0
"""CPU seconds of training here after which processes start. To start them takes about as long."""
_LEAST = 0.005
"""CPU seconds of a chunk from which on it pays to send it to another process (0.3 ms)."""


class Growing:
    """Computes here until training has taken `AFTER` seconds of CPU, then elsewhere (`Executor`).

    Training whose chunks are too short, or have one agent, stays here.

    Args:
        update: computes the updates of a batch.
        warm: called a while before `grow`; returns at once.
        grow: returns what computes elsewhere; None: nothing can.
        after: CPU seconds; None: `AFTER`.
    """

    def __init__(
        self,
        update: Callable[[Batch], Outcome],
        warm: Callable[[], None],
        grow: Callable[[], Executor | None],
        after: float | None = None,
    ) -> None:
        self._update, self._warm, self._grow = update, warm, grow
        self._after = AFTER if after is None else after
        self._elsewhere: Executor | None = None
        self._spent, self._chunks, self._agents = 0.0, 0, 0
        self._is_warm = self._stays = False

    @property
    def workers(self) -> int:
        """How many chunks are computed at a time."""
        return 1 if self._elsewhere is None else self._elsewhere.workers

    @property
    def most(self) -> int | None:
        """How many agents a chunk has at most."""
        return None if self._elsewhere is None else self._elsewhere.most

    @property
    def is_here(self) -> bool:
        """Whether nothing else computes so far."""
        return self._elsewhere is None

    def has_room(self) -> bool:
        """Whether a chunk would be computed beside this process."""
        return self._elsewhere is not None and self._elsewhere.has_room()

    def space(self, agents: int) -> tuple[Vector, State] | None:
        """Return arrays for the next chunk, if it is to be computed elsewhere."""
        if self._elsewhere is None and self._pays():
            self._elsewhere = self._grow()
            self._stays = self._elsewhere is None
        return None if self._elsewhere is None else self._elsewhere.space(agents)

    def submit(self, batch: Batch) -> Any:
        """Take a chunk; compute it now while there is nothing else that does."""
        if self._elsewhere is not None:
            return self._elsewhere.submit(batch)
        start = thread_time()
        outcome = self._update(batch)
        self._spent += thread_time() - start
        self._chunks += 1
        self._agents += len(batch.agents)
        return outcome

    def result(self, handle: Any) -> Outcome:
        """Return what came of a chunk."""
        if isinstance(handle, Outcome):
            return handle
        assert self._elsewhere is not None
        return self._elsewhere.result(handle)

    def _pays(self) -> bool:
        """Whether processes are to start now."""
        if self._stays or not self._chunks or self._spent < self._after / 2:
            return False
        if self._spent < _LEAST * self._chunks or self._agents < 2 * self._chunks:
            return False
        if not self._is_warm:
            self._is_warm = True
            self._warm()
        return self._spent >= self._after
