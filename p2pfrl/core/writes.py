"""Writes of a run in progress that may fail, as on a full disk."""

from __future__ import annotations

from collections.abc import Callable

from p2pfrl.core.errors import RecordError

_OUTAGES = 8
"""Number of times of one kind, from failure to success, that are all said."""


class Writes:
    """Tries writes, and ends the run with the first that fails or goes on without it.

    A run that goes on says so at once, and again when the same kind of write works again. If that
    happens many times, as where only short entries fit, it says it at the powers of two.

    Attributes:
        failed: kind of write, such as "checkpoints" -> number of writes that failed.

    Args:
        say: prints a line.
        goes_on: whether the run goes on without what cannot be written.
        fix: what to do where it does not.
    """

    def __init__(self, say: Callable[[str], None], *, goes_on: bool, fix: str) -> None:
        self.failed: dict[str, int] = {}
        self._say = say
        self._goes_on = goes_on
        self._fix = fix
        self._before: dict[str, int] = {}
        self._outages: dict[str, int] = {}

    def __call__(self, kind: str, write: Callable[[], object]) -> bool:
        """Return whether `write` has worked.

        Raises:
            RecordError: it has failed, and the run does not go on.
        """
        try:
            write()
        except RecordError as error:
            failed = self.failed.get(kind, 0)
            self.failed[kind] = failed + 1
            if not self._goes_on:
                raise RecordError(f"{error}; {self._fix}") from error
            if kind not in self._before:
                self._before[kind] = failed
                self._outages[kind] = self._outages.get(kind, 0) + 1
                self._tell(kind, f"{error}; the run goes on, and {kind} are missing from now on")
            return False
        if (before := self._before.pop(kind, None)) is not None:
            self._tell(kind, f"{kind} are written again: {self.failed[kind] - before} are missing")
        return True

    def _tell(self, kind: str, text: str) -> None:
        count = self._outages[kind]
        if count <= _OUTAGES or count & (count - 1) == 0:
            self._say(text)


def strictly(kind: str, write: Callable[[], object]) -> bool:
    """Write, and let any error end the run: the place of `Writes` where there is no choice."""
    write()
    return True
