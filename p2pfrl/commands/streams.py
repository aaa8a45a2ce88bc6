"""Standard streams of the program: what happens if they cannot be written."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout, suppress
from contextvars import ContextVar
from typing import Any, TextIO, cast

_RESULTS: ContextVar[TextIO | None] = ContextVar("results", default=None)


def results() -> TextIO:
    """Return the stream that results are printed to: standard output."""
    return _RESULTS.get() or sys.stdout


@contextmanager
def only_results(wanted: bool) -> Iterator[None]:
    """Let nothing but `results` reach standard output inside, if that is wanted.

    What environments and rules of users print goes to standard error.
    """
    if not wanted:
        yield
        return
    token = _RESULTS.set(sys.stdout)
    try:
        with redirect_stdout(sys.stderr):
            yield
    finally:
        _RESULTS.reset(token)


class UnwrittenError(OSError):
    """Standard output cannot be written, as on a full disk; the message says so."""


class Dropping:
    """A stream that drops what cannot be written, such as progress: the run behind it goes on.

    The reader may have gone, as in `p2pfrl ... 2>&1 | head -1`.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    @classmethod
    def of(cls, stream: TextIO) -> TextIO:
        """Return such a stream in place of another."""
        return cast("TextIO", cls(stream))

    def write(self, text: str) -> int:
        """Write a text, or drop it; return its length."""
        with suppress(OSError):
            self._stream.write(text)
        return len(text)

    def flush(self) -> None:
        """Write out what is buffered, or drop it."""
        with suppress(OSError):
            self._stream.flush()

    def __getattr__(self, name: str) -> Any:
        """Return another attribute of the stream."""
        return getattr(self._stream, name)


class Naming:
    """Standard output, which the error of a failed write names.

    If its reader has gone, the error is that of the system.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    @classmethod
    def of(cls, stream: TextIO) -> TextIO:
        """Return such a stream in place of another."""
        return cast("TextIO", cls(stream))

    def write(self, text: str) -> int:
        """Write a text; return its length.

        Raises:
            UnwrittenError: it cannot be written.
        """
        try:
            return self._stream.write(text)
        except OSError as error:
            raise _named(error) from error

    def flush(self) -> None:
        """Write out what is buffered.

        Raises:
            UnwrittenError: it cannot be written.
        """
        try:
            self._stream.flush()
        except OSError as error:
            raise _named(error) from error

    def __getattr__(self, name: str) -> Any:
        """Return another attribute of the stream."""
        return getattr(self._stream, name)


def _named(error: OSError) -> OSError:
    gone = isinstance(error, BrokenPipeError)
    return error if gone else UnwrittenError(f"stdout: {error.strerror}")
