"""Messages of secure sums: entries (agent, bytes), in ascending order of agents.

    repeated   i32 agent, u16 length, bytes

An agent cannot occur twice, so that the living and the dead of a list cannot overlap.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping

from p2pfrl.exchange.secure.errors import SecureError

_HEAD = struct.Struct("<iH")
LONGEST = 2**16 - 1
"""Bytes of the longest entry."""


def pack(entries: Mapping[int, bytes]) -> bytes:
    """Return the message of `entries`."""
    return b"".join(_HEAD.pack(i, len(entries[i])) + entries[i] for i in sorted(entries))


def packed_size(count: int, longest: int) -> int:
    """Return the most bytes of a message of `count` entries of at most `longest` bytes."""
    return count * (_HEAD.size + longest)


def unpack(data: bytes) -> dict[int, bytes]:
    """Return the entries of a message.

    Raises:
        SecureError: it is none.
    """
    found: dict[int, bytes] = {}
    at, last = 0, -1
    while at < len(data):
        end = at + _HEAD.size
        if end > len(data):
            raise SecureError("malformed", "an entry ends early")
        agent, size = _HEAD.unpack_from(data, at)
        if agent <= last:
            raise SecureError("malformed", f"agent {agent} after {last}: expected ascending ids")
        if end + size > len(data):
            raise SecureError("malformed", f"the entry of agent {agent} ends early")
        found[agent] = data[end : end + size]
        at, last = end + size, agent
    return found
