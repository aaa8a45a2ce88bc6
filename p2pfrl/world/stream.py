"""A stream of bytes cut into its records, each received where it belongs. The records themselves are in greeting.py."""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from p2pfrl.core.errors import WireError
from p2pfrl.core.wire import Decoder
from p2pfrl.world.greeting import CONTROL, ENVELOPE, LENGTH, MAX_CONTROL, open_envelope, parse_control

_PREFIX = 12


@dataclass(frozen=True, slots=True)
class Parcel:
    """A frame as it was received: lengths checked, nothing decoded."""

    to: tuple[int, ...]
    head: bytes
    payload: memoryview


Record = dict[str, Any] | Parcel
"""The map of a control message, or a frame."""


class Reader:
    """What is being received: the step, and its buffer.

    Attributes:
        may_deliver: frames are read; before both have joined they are refused unread.
        got: bytes of the current record that have arrived.

    Args:
        decoder: checks the lengths of frames.
    """

    __slots__ = ("_bin", "_buffer", "_decoder", "_have", "_payload_length", "_prefix", "_step", "_to", "got",
                 "may_deliver")  # fmt: skip

    def __init__(self, decoder: Decoder) -> None:
        self.may_deliver = False
        self.got = 0
        self._decoder = decoder
        self._to: tuple[int, ...] = ()
        self._prefix = b""
        self._payload_length = 0
        self._bin = 0
        self._expect(Reader._envelope, ENVELOPE.size)

    @property
    def is_inside(self) -> bool:
        """The stream is inside a record."""
        return self._have > 0 or self._step is not Reader._envelope

    def buffer(self) -> memoryview:
        """Return where the next bytes belong."""
        return self._buffer[self._have :]

    def filled(self, count: int) -> Record | None:
        """Return the record that ends with the `count` bytes written to `buffer()`, if one does.

        Raises:
            WireError: these bytes are not ours; nothing after them means anything.
        """
        self.got += count
        self._have += count
        return self._step(self) if self._have == len(self._buffer) else None

    def close(self) -> None:
        """Let go of the buffer."""
        self._buffer = memoryview(b"")
        self._have = 0

    # A step is a plain function, not a method bound to its reader: a reader that refers to itself would live, with a
    # buffer of megabytes, until the next collection.
    def _expect(self, step: Callable[[Reader], Record | None], size: int) -> None:
        self._step = step
        self._buffer = memoryview(bytearray(size))
        self._have = 0

    def _next(self) -> None:
        self._expect(Reader._envelope, ENVELOPE.size)
        self.got = 0

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
            raise WireError("bad_length", f"a control message of {length} bytes; at most {MAX_CONTROL}")
        self._expect(Reader._control, length)
        return None

    def _control(self) -> Record | None:
        raw = bytes(self._buffer)
        self._next()
        return parse_control(raw)

    def _recipients(self) -> Record | None:
        self._to = struct.unpack(f"<{len(self._buffer) // 4}i", self._buffer)
        self._expect(Reader._lengths, _PREFIX)
        return None

    def _lengths(self) -> Record | None:
        self._prefix = bytes(self._buffer)
        header, payload = self._decoder.lengths(self._prefix)
        self._payload_length = payload
        # The bin prefix has 2, 3 or 5 bytes; the numbers behind it go straight into a buffer of their own.
        self._bin = 2 if payload - 2 < 2**8 else 3 if payload - 3 < 2**16 else 5
        self._expect(Reader._header, header + self._bin)
        return None

    def _header(self) -> Record | None:
        self._prefix += bytes(self._buffer)
        size = self._payload_length - self._bin
        if size <= 0:
            return self._parcel(memoryview(b""))
        self._expect(Reader._payload, size)
        return None

    def _payload(self) -> Record | None:
        return self._parcel(self._buffer)

    def _parcel(self, payload: memoryview) -> Parcel:
        self._next()
        return Parcel(self._to, self._prefix, payload)
