"""The digest of a run: one hash over every event in order, then over the final parameters."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable
from hashlib import blake2b
from itertools import starmap

import numpy as np
from numpy.typing import NDArray

SEND, DELIVER, DROP, TRAIN, MIX, FAULT = range(1, 7)
NAMES = {SEND: "send", DELIVER: "deliver", DROP: "drop", TRAIN: "train", MIX: "mix", FAULT: "fault"}
_EVENT = struct.Struct("<qBiiqI")
_BLOCK = 4096


Entry = tuple[int, int, int, int, int, int]
"""Time in ns, kind, from, to, sequence, crc32 of the payload."""


class Log:
    """Hashes events and, with `trace`, keeps them.

    Attributes:
        append: adds one event without looking whether a block is full: the network's fast path.
            Whoever uses it calls `extend` now and then.

    Args:
        trace: keep every event.
    """

    def __init__(self, *, trace: bool) -> None:
        self._events: list[Entry] | None = [] if trace else None
        self._hash = blake2b(digest_size=16)
        self._block: list[Entry] = []
        self.append: Callable[[Entry], None] = self._block.append

    @property
    def events(self) -> list[Entry] | None:
        """All events so far, in order; None without `trace`."""
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

    def digest(self, parameters: NDArray[np.floating]) -> str:
        """Return the digest, in hexadecimal, of the events so far and the final parameters `(n, d)`."""
        self._flush()
        final = self._hash.copy()
        final.update(np.ascontiguousarray(parameters).data.cast("B"))
        return final.hexdigest()

    def _flush(self) -> None:
        block = self._block
        self._hash.update(b"".join(starmap(_EVENT.pack, block)))
        if self._events is not None:
            self._events += block
        block.clear()
