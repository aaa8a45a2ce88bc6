"""Executors: where the chunks of a batch are computed, in this process or elsewhere.

A chunk is a `Batch`, and its outcome depends on it alone. So it makes no difference to a run who
computes it, nor when: the trainer puts outcomes in their places by agent.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from p2pfrl.core.parameters import Vector
from p2pfrl.learning.learners.base import Batch, Outcome, State


class LostChunkError(Exception):
    """A chunk was given away and did not come back; the trainer computes it again here."""


class Executor(Protocol):
    """Computes chunks that a trainer submits. A handle stands for one until its result is there."""

    @property
    def workers(self) -> int:
        """How many chunks it computes at a time; a batch is split into as many at least."""

    @property
    def most(self) -> int | None:
        """How many agents a chunk may have at most; None: as many as the learner likes."""

    @property
    def is_here(self) -> bool:
        """Whether `submit` computes a chunk before it returns, in the thread that calls it."""

    def has_room(self) -> bool:
        """Whether a chunk that is submitted now would be computed while this process goes on."""

    def space(self, agents: int, /) -> tuple[Vector, State] | None:
        """Return arrays for the parameters and state of the next chunk, if it has its own.

        It may wait until there is room.
        """

    def submit(self, batch: Batch, /) -> Any:
        """Take a chunk and return its handle. It may wait until there is room.

        The arrays of the batch are the executor's from now on.
        """

    def result(self, handle: Any, /) -> Outcome:
        """Return what came of a chunk, once; wait for it if needed.

        Raises:
            LostChunkError: it could not be computed where it was.
        """


class InThisThread:
    """Computes every chunk at once, in the thread that submits it.

    Args:
        update: computes the updates of a batch.
    """

    workers = 1
    most = None
    is_here = True

    def __init__(self, update: Callable[[Batch], Outcome]) -> None:
        self._update = update

    def has_room(self) -> bool:
        """No: nothing else goes on meanwhile."""
        return False

    def space(self, agents: int) -> None:
        """Return None: it has no arrays of its own."""

    def submit(self, batch: Batch) -> Outcome:
        """Compute the chunk; its outcome is its own handle."""
        return self._update(batch)

    def result(self, handle: Outcome) -> Outcome:
        """Return the outcome."""
        return handle
