"""Reader of a byte stream: it separates records, each received into its own buffer.

records.py defines their form.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass
from sys import getrefcount
from typing import Any

import numpy as np
from numpy.typing import NDArray

from p2pfrl.core.errors import WireError
from p2pfrl.core.wire import VERSION, Decoder
from p2pfrl.net.records import (
    CONTROL,
    DATA,
    ENVELOPE,
    LENGTH,
    MAGIC,
    MAX_CONTROL,
    open_envelope,
    parse_control,
)

_PREFIX = 12
_NOTHING = memoryview(bytearray())
"""Empty writable buffer for the payload of a frame without numbers."""

_LARGE = 128 * 1024
"""Size in bytes from which the C library requests memory from the kernel each time."""

_KEPT = 2
_UNUSED = 2
"""`getrefcount` of an object that only a list refers to: the list's reference and its argument."""


@dataclass(slots=True)
class RawFrame:
    """A received frame with checked lengths, not decoded. Its header ends at `end` of `head`."""

    to: tuple[int, ...]
    head: bytes
    end: int
    payload: memoryview


Record = dict[str, Any] | RawFrame
"""The map of a control message, or a frame."""


def _bin_prefix(payload: int) -> int:
    """Return the length of the msgpack `bin` prefix before a payload of numbers."""
    return 2 if payload - 2 < 2**8 else 3 if payload - 3 < 2**16 else 5


class _Pool:
    """Uncleared memory for payloads. Every byte of it is overwritten.

    A large buffer is used again once nothing refers to it, because fresh pages, which the kernel
    has to clear, cost a third of the speed. At most two buffers are kept: one for a payload that is
    being mixed and one for the next payload.
    """

    __slots__ = ("_known",)

    def __init__(self) -> None:
        self._known: list[NDArray[np.uint8]] = []

    def take(self, size: int) -> memoryview:
        """Return writable memory that no one else uses."""
        if size < _LARGE:
            return np.empty(size, np.uint8).data if size else _NOTHING
        for i in range(len(self._known)):
            if self._known[i].size == size and getrefcount(self._known[i]) == _UNUSED:
                return self._known[i].data
        self._known = [*self._known[-_KEPT + 1 :], np.empty(size, np.uint8)]
        return self._known[-1].data

    def clear(self) -> None:
        """Release the memory."""
        self._known.clear()


class Reader:
    """Reader of the current record: its step and its buffer.

    Attributes:
        may_deliver: whether frames are read. Before both sides have joined they are refused unread.
        got: number of received bytes of the current record.

    Args:
        decoder: checks the lengths of frames.
    """

    __slots__ = (
        "_buffer",
        "_decoder",
        "_end",
        "_have",
        "_lead",
        "_pool",
        "_prefix",
        "_rest",
        "_size",
        "_start",
        "_step",
        "_to",
        "got",
        "may_deliver",
    )

    _step: Callable[[Reader], Record | None]

    def __init__(self, decoder: Decoder) -> None:
        self.may_deliver = False
        self.got = 0
        self._decoder = decoder
        self._pool = _Pool()
        self._to: tuple[int, ...] = ()
        self._prefix = b""
        self._lead = b""
        self._end = self._rest = self._size = 0
        self._start = memoryview(bytearray(ENVELOPE.size))
        self._next()

    @property
    def is_inside(self) -> bool:
        """Whether the stream is inside a record."""
        return self._have > 0 or self._step is not Reader._envelope

    def buffer(self) -> memoryview:
        """Return the buffer that the next bytes go into."""
        return self._buffer[self._have :]

    def filled(self, count: int) -> Record | None:
        """Return the record that ends with the `count` bytes written to `buffer()`, if any.

        Raises:
            WireError: the bytes are invalid; everything after them is meaningless.
        """
        self.got += count
        self._have += count
        return self._step(self) if self._have == len(self._buffer) else None

    def leap(self, view: memoryview, at: int) -> tuple[int, RawFrame | None]:
        """Read a frame that begins at `at` of `view`, with a complete header, in one step.

        Returns:
            the number of bytes read, and the frame if all of it is there. Zero bytes for anything
                other than a valid frame; reading it step by step then finds the error.
        """
        if self.got or not self.may_deliver:
            return 0, None
        # If the frame begins like the last one, its recipients and lengths are known.
        lead = self._lead
        if not lead or bytes(view[at : at + len(lead)]) != lead:
            lead = self._lead = self._learn(view[at:])
            if not lead:
                return 0, None
        begin = at + len(lead)
        stop = begin + self._rest
        if len(view) < stop:
            return 0, None
        head = bytes(view[begin - _PREFIX : stop])
        end = stop + self._size
        if end <= len(view):
            return end - at, RawFrame(self._to, head, self._end, memoryview(bytes(view[stop:end])))
        # The rest of the payload is received directly into its own buffer.
        buffer = self._pool.take(self._size)
        self._step, self._buffer, self._prefix = Reader._payload, buffer, head
        self._have = len(view) - stop
        buffer[: self._have] = view[stop:]
        self.got = len(view) - at
        return self.got, None

    def _learn(self, view: memoryview) -> bytes:
        """Parse envelope, recipients and lengths at the start of `view`; return them, or b"".

        The next frame mostly begins with the same bytes, which need no second parsing.
        """
        if len(view) < ENVELOPE.size:
            return b""
        magic, version, kind, count = ENVELOPE.unpack_from(view)
        begin = ENVELOPE.size + 4 * count
        lead = bytes(view[: begin + _PREFIX])
        if (
            magic != MAGIC
            or version != VERSION
            or kind != DATA
            or not count
            or len(lead) < begin + _PREFIX
        ):
            return b""
        try:
            header, payload = self._decoder.lengths(lead[begin:])
        except WireError:
            return b""
        self._to = struct.unpack_from(f"<{count}i", lead, ENVELOPE.size)
        self._end = _PREFIX + header
        prefix = _bin_prefix(payload)
        self._rest, self._size = header + prefix, payload - prefix
        return lead

    def close(self) -> None:
        """Release the buffer."""
        self._buffer = _NOTHING
        self._have = 0
        self._pool.clear()

    # A step is a plain function, not a method bound to its reader: a reader that refers to itself
    # would live, with a buffer of megabytes, until the next collection.
    def _expect(self, step: Callable[[Reader], Record | None], size: int) -> None:
        self._step = step
        self._buffer = memoryview(bytearray(size))
        self._have = 0

    def _next(self) -> None:
        self._step, self._buffer = Reader._envelope, self._start
        self._have = self.got = 0

    def _envelope(self) -> Record | None:
        kind, count = open_envelope(self._buffer)
        if kind == CONTROL:
            self._expect(Reader._control_length, LENGTH.size)
        elif not self.may_deliver:
            raise WireError("not_joined", "a frame before both have joined")
        else:
            self._expect(Reader._recipients, 4 * count)
        return None

    def _control_length(self) -> Record | None:
        (length,) = LENGTH.unpack(self._buffer)
        if not 0 < length <= MAX_CONTROL:
            raise WireError(
                "bad_length", f"a control message of {length} bytes; at most {MAX_CONTROL}"
            )
        self._expect(Reader._control, length)
        return None

    def _control(self) -> Record | None:
        raw = bytes(self._buffer)
        self._next()
        return parse_control(raw)

    def _recipients(self) -> Record | None:
        self._lead = b""  # it no longer describes `_to` and the lengths, which change below
        self._to = struct.unpack(f"<{len(self._buffer) // 4}i", self._buffer)
        self._expect(Reader._lengths, _PREFIX)
        return None

    def _lengths(self) -> Record | None:
        self._prefix = bytes(self._buffer)
        header, payload = self._decoder.lengths(self._prefix)
        prefix = _bin_prefix(payload)
        self._size = payload - prefix
        self._end = _PREFIX + header
        self._expect(Reader._header, header + prefix)
        return None

    def _header(self) -> Record | None:
        self._prefix += bytes(self._buffer)
        if self._size <= 0:
            return self._raw_frame(_NOTHING)
        self._step, self._buffer, self._have = Reader._payload, self._pool.take(self._size), 0
        return None

    def _payload(self) -> Record | None:
        return self._raw_frame(self._buffer)

    def _raw_frame(self, payload: memoryview) -> RawFrame:
        self._next()
        return RawFrame(self._to, self._prefix, self._end, payload)
