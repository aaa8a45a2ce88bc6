"""The header of a frame: its fields, and a fast way to read those of frames that repeat.

Most frames differ before their payload from a known one in nothing but their numbers.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from math import isfinite

import msgpack

Fields = tuple[str, int, int, int, int, float, float, str, tuple[str, ...], int, int, bool]
"""What a header says, but for the run: kind, sender, incarnation, sequence, round, weight, score,
encoding, parts, crc32, epoch; and whether the payload is known to be the raw numbers agreed on."""

LEAD = 12
"""Bytes before the header: they hold its length and that of the payload."""

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
    """A form of heads of agents' frames that differ only in their numbers from one that was taken.

    A head is the lead of a frame, its header and the prefix of its payload (core/wire.py). The
    heads of all agents have few forms: one for each kind, and for each number of bytes that the
    counts need. The other bytes are compared at once, the lengths among them: this takes a third of
    the time of reading a header.

    Attributes:
        size: bytes of the payload.
    """

    __slots__ = (
        "_agents",
        "_between",
        "_encoding",
        "_is_raw",
        "_kind",
        "_numbers",
        "_parts",
        "size",
    )

    def __init__(
        self,
        head: bytes,
        size: int,
        fields: Fields,
        agents: int,
        numbers: struct.Struct,
        *,
        is_raw: bool,
    ) -> None:
        self.size = size
        self._agents, self._is_raw = agents, is_raw
        self._kind, self._encoding, self._parts = fields[0], fields[7], fields[8]
        self._numbers = numbers
        self._between = numbers.unpack(head)[::2]

    def read(self, head: bytes) -> Fields | None:
        """Return the fields of a head of the same length.

        The result is None if it has another form or a field breaks its limit.
        """
        a, sender, b, incarnation, c, sequence, d, round, e, weight, f, score, g, crc, h = (
            self._numbers.unpack(head)
        )
        if (a, b, c, d, e, f, g, h) != self._between or not (
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
            self._is_raw,
        )


def form_of(
    head: bytes, end: int, size: int, run: str, fields: Fields, agents: int, *, is_raw: bool = False
) -> Form | None:
    """Return the form of a head that has these `fields`, of a run of so many agents.

    The result is None if this package packs the fields differently, if it is not of an agent, or if
    there is an epoch.

    Args:
        head: everything before the numbers.
        end: where the header ends in it.
        size: bytes of the payload.
        run: its name.
        fields: what the header says.
        agents: number of agents n.
        is_raw: whether the payload is the raw numbers that were agreed on.
    """
    kind, sender, incarnation, sequence, round, weight, score, encoding, parts, crc, *_ = fields
    values = (run, kind, sender, incarnation, sequence, round, weight, score, encoding, parts, crc)
    if sender < 0 or pack(dict(zip(NAMES, values, strict=True))) != head[LEAD:end]:
        return None
    layout, gap = ">", LEAD + 1
    for name, value in zip(NAMES, values, strict=True):
        gap += len(pack(name))
        width = len(pack(value))
        if type(value) is str or type(value) is tuple:
            gap += width
            continue
        code = "d" if type(value) is float else _CODES[width]
        layout += f"{gap + (width > 1)}s{code}"
        gap = 0
    layout += f"{len(head) - end}s"
    return Form(head, size, fields, agents, struct.Struct(layout), is_raw=is_raw)


class Forms:
    """The forms of heads that a process has seen.

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

    def read(self, head: bytes, size: int) -> Fields | None:
        """Return the fields of a head of a known form, checked; None for any other head.

        `size` is that of the payload, in bytes.
        """
        for form in self._known.get(len(head), ()):
            if form.size == size and (fields := form.read(head)) is not None:
                return fields
        return None

    def learn(self, head: bytes, end: int, size: int, fields: Fields, *, is_raw: bool) -> None:
        """Remember the form of a head whose frame was taken (arguments as of `form_of`)."""
        form = form_of(head, end, size, self._run, fields, self._agents, is_raw=is_raw)
        if form is not None:
            known = self._known.setdefault(len(head), [])
            known.insert(0, form)
            del known[_SAME_LENGTH:]
