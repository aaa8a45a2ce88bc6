"""Frames as a sender makes them: magic, version, two lengths, a msgpack header, the payload as one msgpack `bin`."""

from __future__ import annotations

import struct
from functools import lru_cache
from zlib import crc32

from p2pfrl.core.header import pack
from p2pfrl.core.parameters import Vector
from p2pfrl.core.types import Message, Received

VERSION = 2
MAGIC = b"p2p" + bytes([VERSION])
PREFIX = struct.Struct("<4sII")
_BIN8, _BIN16, _BIN32 = struct.Struct(">BB"), struct.Struct(">BH"), struct.Struct(">BI")


class Frame:
    """An encoded message: immutable, encoded once, shared by all receivers, decoded once.

    Attributes:
        head: everything up to and including the prefix of the payload's `bin`.
        payload: the numbers' own buffer.
        nbytes: bytes on the wire.
        message, received: what a receiver makes of it, once the first has decoded it.
    """

    __slots__ = (
        "crc32",
        "head",
        "kind",
        "message",
        "nbytes",
        "payload",
        "received",
        "round",
        "sequence",
    )

    def __init__(
        self, head: bytes, payload: memoryview, *, kind: str, round: int, sequence: int, crc: int
    ) -> None:
        self.head = head
        self.payload = payload
        self.nbytes = len(head) + len(payload)
        self.kind = kind
        self.round = round
        self.sequence = sequence
        self.crc32 = crc
        self.message: Message | None = None
        self.received: Received | None = None


@lru_cache(maxsize=16)
def bin_prefix(size: int) -> bytes:
    """Return what msgpack puts before a `bin` of `size` bytes."""
    if size < 2**8:
        return _BIN8.pack(0xC4, size)
    if size < 2**16:
        return _BIN16.pack(0xC5, size)
    return _BIN32.pack(0xC6, size)


class Encoder:
    """Makes the frames of one sender and numbers them.

    Args:
        run: name of the run; peers of another run refuse it.
        sender: the agent's id.
        incarnation: how many times it was restarted.
    """

    __slots__ = ("_incarnation", "_run", "_sender", "sequence")

    def __init__(self, run: str, sender: int, incarnation: int = 0) -> None:
        self.sequence = 0
        self._run = run
        self._sender = sender
        self._incarnation = incarnation

    def encode(
        self,
        vector: Vector | None,
        *,
        kind: str,
        round: int,
        weight: float = 0.0,
        score: float = 0.0,
        encoding: str = "raw",
        parts: tuple[str, ...] = (),
    ) -> Frame:
        """Return a frame around `vector`, whose buffer it shares: the caller must not write to it any more."""
        payload = memoryview(b"") if vector is None else vector.data.cast("B")
        crc = crc32(payload)
        self.sequence += 1
        packed = pack(
            {
                "run": self._run,
                "kind": kind,
                "from": self._sender,
                "incarnation": self._incarnation,
                "sequence": self.sequence,
                "round": round,
                "weight": weight,
                "score": score,
                "encoding": encoding,
                "parts": parts,
                "crc32": crc,
            }
        )
        prefix = bin_prefix(len(payload))
        head = PREFIX.pack(MAGIC, len(packed), len(prefix) + len(payload)) + packed + prefix
        return Frame(head, payload, kind=kind, round=round, sequence=self.sequence, crc=crc)
