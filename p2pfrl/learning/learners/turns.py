"""Programs of users that run by turns: each goes on until it needs what the others do.

A learner that is written for one agent calls its environment. Where members share a world, a step
needs the actions of all of them, so each learner has a thread, of which one runs at a time: the
order of all that happens, and so every result, is the same in every run.
"""

from __future__ import annotations

import contextvars
import threading
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from p2pfrl.core.causes import PassingError, foreign
from p2pfrl.core.lazy import LazyModule
from p2pfrl.learning.learners.seeding import Generators

if TYPE_CHECKING:
    import torch
else:
    torch = LazyModule("torch")

Brought = TypeVar("Brought")
Got = TypeVar("Got")
_PATIENCE = 1.0
"""Seconds for a function to end that is stopped; one that does not is left behind, asleep."""


class Turns(Generic[Brought, Got]):
    """Functions that meet again and again, each with something that it brings.

    Each has the global random generators of torch, numpy and Python to itself.

    Args:
        together: what all have brought, in their order -> what each gets.
    """

    def __init__(self, together: Callable[[list[Brought]], Sequence[Got]]) -> None:
        self._together = together
        self._back = threading.Semaphore(0)
        self._turns: list[_Turn] = []

    def run(self, functions: Sequence[Callable[[], None]]) -> None:
        """Run functions to their end. They must meet equally often.

        Raises:
            BaseException: what the first of them raised, in their order, or `together`; the others
                are stopped.
        """
        self._turns = [_Turn(function, self._back) for function in functions]
        outside = Generators()
        for turn in self._turns:
            turn.generators = outside
        try:
            while any(not turn.is_over for turn in self._turns):
                for turn in self._turns:
                    turn.go()
                    if turn.error is not None:
                        raise turn.error
                outside.put()
                waiting = [turn for turn in self._turns if not turn.is_over]
                assert len(waiting) in (0, len(self._turns)), "functions meet equally often"
                got = self._together([turn.brought for turn in waiting]) if waiting else ()
                for turn, values in zip(waiting, got, strict=True):
                    turn.got = values
        finally:
            for turn in self._turns:
                turn.stop()
            outside.put()

    def meet(self, number: int, brought: Brought) -> Got:
        """Bring something as the function of this number, and return what came of it."""
        got: Got = self._turns[number].meet(brought)
        return got


class _StopError(PassingError):
    """Ends a function that waits for others which will not come."""


class _Turn:
    """One function in its thread."""

    def __init__(self, function: Callable[[], None], back: threading.Semaphore) -> None:
        self.brought: Any = None
        self.got: Any = None
        self.error: BaseException | None = None
        self.is_over = False
        self.generators: Generators
        self._function, self._back = function, back
        self._forth = threading.Semaphore(0)
        self._is_stopped = False
        context = contextvars.copy_context()
        self._thread = threading.Thread(target=context.run, args=(self._live,), daemon=True)

    def go(self) -> None:
        """Let the function go on until it meets the others or ends."""
        if self.is_over:
            return
        self.generators.put()
        if self._thread.ident is None:
            self._thread.start()
        else:
            self._forth.release()
        self._back.acquire()
        self.generators = Generators()

    def meet(self, brought: Any) -> Any:
        """Called by the function: end its turn, and return what it got."""
        self.brought = brought
        self._back.release()
        self._forth.acquire()
        if self._is_stopped:
            raise _StopError
        return self.got

    def stop(self) -> None:
        """End the function if it has not ended."""
        if self.is_over or self._thread.ident is None:
            return
        self._is_stopped = True
        self._forth.release()
        self._thread.join(_PATIENCE)

    def _live(self) -> None:
        try:
            torch.set_num_threads(1)
            self._function()
        except _StopError:
            pass
        except KeyboardInterrupt as error:
            self.error = error
        except foreign() as error:
            self.error = error  # `Turns.run` raises it again
        finally:
            self.is_over = True
            self._back.release()
