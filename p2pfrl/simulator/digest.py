"""The digest of a run: one hash over every event in order, then over the final parameters."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable
from hashlib import blake2b
from itertools import starmap
from typing import BinaryIO, Protocol

import numpy as np
from numpy.typing import NDArray

from p2pfrl.core.errors import ClockError, RecordError

SEND, DELIVER, DROP, TRAIN, MIX, FAULT = range(1, 7)
NAMES = {SEND: "send", DELIVER: "deliver", DROP: "drop", TRAIN: "train", MIX: "mix", FAULT: "fault"}
_EVENT = struct.Struct("<qBiiqI")
_BLOCK = 4096
_PIECE = 4096 * _EVENT.size


Entry = tuple[int, int, int, int, int, int]
"""Time in ns, kind, from, to, sequence, crc32 of the payload."""


class Sink(Protocol):
    """Receives the bytes of events."""

    def write(self, packed: bytes, /) -> object:
        """Take more bytes."""


class Log:
    """Hashes events and, with `trace`, keeps them.

    Attributes:
        size: bytes of all events that have been hashed.
        file: receives the bytes of events as they are hashed; None: nothing does.
        append: adds one event without looking whether a block is full: the network's fast path.
            Whoever uses it calls `extend` now and then.

    Args:
        trace: keep every event.
    """

    def __init__(self, *, trace: bool) -> None:
        self.size = 0
        self.file: Sink | None = None
        self._events: list[Entry] | None = [] if trace else None
        self._hash = blake2b(digest_size=16)
        self._block: list[Entry] = []
        self.append: Callable[[Entry], None] = self._block.append

    @property
    def events(self) -> list[Entry] | None:
        """All events so far, in order; None if they are not kept (`trace`)."""
        self._flush()
        return self._events

    def add(
        self, time: int, kind: int, sender: int, receiver: int, sequence: int, crc: int
    ) -> None:
        """Add one event."""
        self.append((time, kind, sender, receiver, sequence, crc))
        if len(self._block) >= _BLOCK:
            self._flush()

    def extend(self, events: Iterable[Entry]) -> None:
        """Add events, and hash the block if it is full."""
        block = self._block
        block += events
        if len(block) >= _BLOCK:
            self._flush()

    def latest(self, most: int) -> list[Entry]:
        """Return at most the last `most` events; fewer if a block has just been hashed."""
        return self._block[-most:]

    def digest(self, parameters: NDArray[np.floating]) -> str:
        """Return the digest, in hexadecimal, of all events so far and the final parameters.

        The parameters have shape `(n, d)`.
        """
        self._flush()
        final = self._hash.copy()
        final.update(np.ascontiguousarray(parameters).data.cast("B"))
        return final.hexdigest()

    def flush(self) -> int:
        """Hash all events so far and hand them to `file`; return the number of their bytes."""
        self._flush()
        return self.size

    def hashed(self) -> str:
        """Return the hash of all events that were flushed, in hexadecimal."""
        return self._hash.hexdigest()

    def replay(self, file: BinaryIO, size: int, hashed: str | None = None) -> None:
        """Add the first `size` bytes of events that an earlier log handed to a file.

        A hash cannot be saved, so it is computed again, at about a gigabyte per second.

        Args:
            file: what the earlier log wrote.
            size: number of bytes.
            hashed: hash of these events; None if it is not known.

        Raises:
            RecordError: the file is shorter, or has other events.
        """
        while self.size < size:
            packed = file.read(min(_PIECE, size - self.size))
            if not packed or len(packed) % _EVENT.size:
                got = self.size + len(packed)
                raise RecordError(f"{file.name}: expected {size} bytes of events, got {got}")
            self._hash.update(packed)
            self.size += len(packed)
            if self._events is not None:
                self._events += _EVENT.iter_unpack(packed)
        if hashed not in (None, self.hashed()):
            raise RecordError(f"{file.name}: damaged: its events do not have their hash")

    def _flush(self) -> None:
        block = self._block
        try:
            packed = b"".join(starmap(_EVENT.pack, block))
        except struct.error:
            if max(entry[0] for entry in block) < 2**63:
                raise
            raise ClockError from None
        self._hash.update(packed)
        self.size += len(packed)
        if self.file is not None:
            self.file.write(packed)
        if self._events is not None:
            self._events += block
        block.clear()
