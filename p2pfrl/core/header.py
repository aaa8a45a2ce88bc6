"""The header of a frame: its fields, and a fast way to read headers that repeat.

Most headers differ from a known header in nothing but their numbers.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from math import isfinite

import msgpack

Fields = tuple[str, int, int, int, int, float, float, str, list[str], int, int]
"""What a header says, but for the run, in the order of `Message`; the epoch is the last."""

FIELDS: dict[str, type] = {
    "run": str,
    "kind": str,
    "from": int,
    "incarnation": int,
    "sequence": int,
    "round": int,
    "weight": float,
    "score": float,
    "encoding": str,
    "parts": list,
    "crc32": int,
}
NAMES = tuple(FIELDS)
EPOCH = "epoch"
"""The key that comes last, where the coordinator has standbys."""
MAX_COUNT = 2**62
MAX_WEIGHT = 2.0**53
SEQUENCE = b"sequence"
pack: Callable[[object], bytes] = (
    msgpack.Packer().pack
)  # keeps nothing between calls but its 256 KiB buffer
_CODES = {2: "B", 3: "H", 5: "I", 9: "Q"}
"""Bytes of a packed count -> the code of the number behind its first byte.

A count of one byte has no code.
"""


class Form:
    """A form of headers that differ only in their numbers from one that was checked in full.

    The headers of one sender have the same form until a number needs more bytes than before. Their
    other bytes are compared at once, which takes a third of the time.

    Attributes:
        lead: the bytes before the first number.
    """

    __slots__ = (
        "_between",
        "_encoding",
        "_incarnation",
        "_kind",
        "_numbers",
        "_parts",
        "_sender",
        "_size",
        "lead",
    )

    def __init__(self, raw: bytes, fields: Fields, start: int, numbers: struct.Struct) -> None:
        self.lead = raw[:start]
        self._kind, self._sender, self._incarnation = fields[:3]
        self._encoding, self._parts = fields[7:9]
        self._size = len(raw)
        self._numbers = numbers
        self._between = numbers.unpack_from(raw, start)[1::2]

    def read(self, raw: bytes) -> Fields | None:
        """Return the fields of a header that begins with `lead`.

        The result is None if the header has another form or a field breaks its limit.
        """
        if len(raw) != self._size:
            return None
        sequence, a, round, b, weight, c, score, d, crc = self._numbers.unpack_from(
            raw, len(self.lead)
        )
        limit = MAX_COUNT
        if (a, b, c, d) != self._between or not (
            sequence < limit and round < limit and crc < limit
        ):
            return None
        if not 0.0 <= weight <= MAX_WEIGHT or not isfinite(score):
            return None
        return (
            self._kind,
            self._sender,
            self._incarnation,
            sequence,
            round,
            weight,
            score,
            self._encoding,
            self._parts,
            crc,
            0,
        )


def form_of(raw: bytes, run: str, fields: Fields) -> Form | None:
    """Return the form of the header `raw` that has these `fields`.

    The result is None if this package packs the fields differently, if a count takes one byte, or
    if there is an epoch.
    """
    kind, sender, incarnation, sequence, round, weight, score, encoding, parts, crc, _ = fields
    values = (run, kind, sender, incarnation, sequence, round, weight, score, encoding, parts, crc)
    codes = [_CODES.get(len(pack(count)), "") for count in (sequence, round, crc)]
    if not all(codes) or pack(dict(zip(NAMES, values, strict=True))) != raw:
        return None
    sizes = [len(pack(name)) + len(pack(value)) for name, value in zip(NAMES, values, strict=True)]
    start = 1 + sum(sizes[:4]) + len(pack("sequence")) + 1
    if raw.find(SEQUENCE) + len(SEQUENCE) + 1 != start:
        return None  # the run's name holds that word
    round_gap, weight_gap, score_gap = (
        len(pack(name)) + 1 for name in ("round", "weight", "score")
    )
    crc_gap = sum(sizes[8:10]) + len(pack("crc32")) + 1
    numbers = struct.Struct(
        f">{codes[0]}{round_gap}s{codes[1]}{weight_gap}sd{score_gap}sd{crc_gap}s{codes[2]}"
    )
    return Form(raw, fields, start, numbers)
