"""The digest of a run: one hash over every event in order, then over the final parameters."""

from __future__ import annotations

import struct
from hashlib import blake2b

import numpy as np
from numpy.typing import NDArray

SEND, DELIVER, DROP, TRAIN, MIX, FAULT = range(1, 7)
NAMES = {SEND: "send", DELIVER: "deliver", DROP: "drop", TRAIN: "train", MIX: "mix", FAULT: "fault"}
_EVENT = struct.Struct("<qBiiqI")
_BLOCK = 4096


class Log:
    """Hashes events (time in ns, kind, from, to, sequence, crc32 of the payload) and, with `trace`, keeps them.

    Args:
        trace: keep every event in `events`.
    """

    def __init__(self, *, trace: bool) -> None:
        self.events: list[tuple[int, int, int, int, int, int]] | None = [] if trace else None
        self._hash = blake2b(digest_size=16)
        self._block: list[bytes] = []
        self._append = self._block.append

    def add(self, time: int, kind: int, sender: int, receiver: int, sequence: int, crc: int) -> None:
        """Append one event."""
        self._append(_EVENT.pack(time, kind, sender, receiver, sequence, crc))
        if len(self._block) >= _BLOCK:
            self._flush()
        if self.events is not None:
            self.events.append((time, kind, sender, receiver, sequence, crc))

    def digest(self, parameters: NDArray[np.floating]) -> str:
        """Return the digest, in hexadecimal, of the events so far and the final parameters `(n, d)`."""
        self._flush()
        final = self._hash.copy()
        final.update(np.ascontiguousarray(parameters).data.cast("B"))
        return final.hexdigest()

    def _flush(self) -> None:
        self._hash.update(b"".join(self._block))
        self._block.clear()
