"""The header of a frame: its fields, and a fast way to read headers that repeat.

Most headers differ from a known header in nothing but their numbers.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from math import isfinite

import msgpack

Fields = tuple[str, int, int, int, int, float, float, str, tuple[str, ...], int, int]
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
pack: Callable[[object], bytes] = (
    msgpack.Packer().pack
)  # keeps nothing between calls but its 256 KiB buffer
_CODES = {1: "b", 2: "B", 3: "H", 5: "I", 9: "Q"}
"""Bytes of a packed count -> the code of the number behind its first byte.

A count of one byte has no other byte before it. With its sign, other first bytes are below 0.
"""
_SAME_LENGTH = 8
"""Most forms of one length that are known: each is tried, so that a flood must not add more."""


class Form:
    """A form of headers of agents that differ only in their numbers from one checked in full.

    The headers of all agents have few forms: one for each kind, and for each number of bytes that
    the counts need. The other bytes are compared at once, which takes a third of the time.
    """

    __slots__ = ("_agents", "_between", "_encoding", "_kind", "_numbers", "_parts")

    def __init__(self, raw: bytes, fields: Fields, agents: int, numbers: struct.Struct) -> None:
        self._agents = agents
        self._kind, self._encoding, self._parts = fields[0], fields[7], fields[8]
        self._numbers = numbers
        self._between = numbers.unpack(raw)[::2]

    def read(self, raw: bytes) -> Fields | None:
        """Return the fields of a header of the same length.

        The result is None if it has another form or a field breaks its limit.
        """
        a, sender, b, incarnation, c, sequence, d, round, e, weight, f, score, g, crc = (
            self._numbers.unpack(raw)
        )
        if (a, b, c, d, e, f, g) != self._between or not (
            sender < self._agents
            and 0 <= (sender | incarnation | sequence | round | crc) < MAX_COUNT  # each of them
            and 0.0 <= weight <= MAX_WEIGHT
            and isfinite(score)
        ):
            return None
        return (
            self._kind,
            sender,
            incarnation,
            sequence,
            round,
            weight,
            score,
            self._encoding,
            self._parts,
            crc,
            0,
        )


def form_of(raw: bytes, run: str, fields: Fields, agents: int) -> Form | None:
    """Return the form of the header `raw` that has these `fields`, of a run of so many agents.

    The result is None if this package packs the fields differently, if it is not of an agent, or if
    there is an epoch.
    """
    kind, sender, incarnation, sequence, round, weight, score, encoding, parts, crc, _ = fields
    values = (run, kind, sender, incarnation, sequence, round, weight, score, encoding, parts, crc)
    if sender < 0 or pack(dict(zip(NAMES, values, strict=True))) != raw:
        return None
    layout, gap = ">", 1
    for name, value in zip(NAMES, values, strict=True):
        gap += len(pack(name))
        size = len(pack(value))
        if type(value) is str or type(value) is tuple:
            gap += size
            continue
        code = "d" if type(value) is float else _CODES[size]
        layout += f"{gap + (size > 1)}s{code}"
        gap = 0
    return Form(raw, fields, agents, struct.Struct(layout))


class Forms:
    """The forms of headers that a process has seen.

    Args:
        run: name of the run.
        agents: number of agents n.
    """

    def __init__(self, run: str, agents: int) -> None:
        self._run, self._agents = run, agents
        self._known: dict[int, list[Form]] = {}

    def __len__(self) -> int:
        """Return the number of forms."""
        return sum(map(len, self._known.values()))

    def read(self, raw: bytes) -> Fields | None:
        """Return the fields of a header of a known form, checked; None for any other header."""
        for form in self._known.get(len(raw), ()):
            if (fields := form.read(raw)) is not None:
                return fields
        return None

    def learn(self, raw: bytes, fields: Fields) -> None:
        """Remember the form of a header that was checked in full."""
        form = form_of(raw, self._run, fields, self._agents)
        if form is not None:
            known = self._known.setdefault(len(raw), [])
            known.insert(0, form)
            del known[_SAME_LENGTH:]
