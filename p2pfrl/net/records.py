"""Records of a stream besides frames: control messages and envelopes.

A stream is a sequence of records. Each starts with eight bytes: b"p2p", the version, a type, a
zero, and a u16 count.

    control (type 0)   u32 length, then a msgpack map {"say": name, ...} of at most 64 KiB
    data (type 1)      count i32 recipients, then one frame (core/wire.py)
"""

from __future__ import annotations

import os
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import msgpack

from p2pfrl.core.errors import WireError
from p2pfrl.core.types import HIGHEST_ID, LOWEST_ID
from p2pfrl.core.wire import VERSION

CONTROL, DATA = 0, 1
MAX_CONTROL = 65536
ENVELOPE = struct.Struct("<3sBBxH")
LENGTH = struct.Struct("<I")
MAGIC = b"p2p"
MASKS = "masks"
"""Key of a hello's settings: the public key of that process for masks between neighbors."""
ENGINE = "engine"
"""Key of a hello's settings: what computes networks in that process, whatever the scenario says."""
_TLS_HANDSHAKE = b"\x16\x03"
_NONCE = 16


@dataclass(frozen=True, slots=True)
class Identity:
    """The hello of a process.

    Attributes:
        run: name of the run.
        scenario: hash of the resolved scenario.
        layout: signature of the parameters' layout.
        agents: ids of the process's agents, coordinators below 0. Empty for a process that asks the
            lead for ids.
        incarnation: how many times the process was started before.
        nonce: 16 fresh random bytes.
        address: host and port on which it listens.
        settings: the scenario's keys and values as text, so that messages can name differences, and
            `ENGINE` and, where neighbors mask what they send, `MASKS`.
    """

    run: str
    scenario: str
    layout: str
    agents: tuple[int, ...]
    incarnation: int
    nonce: bytes
    address: tuple[str, int]
    settings: Mapping[str, str] = field(default_factory=dict)

    def fresh(self) -> Identity:
        """Return the same identity with a new nonce, for another connection."""
        return replace(self, nonce=os.urandom(_NONCE))


def envelope(to: Sequence[int]) -> bytes:
    """Return the bytes that precede a frame on the stream."""
    return ENVELOPE.pack(MAGIC, VERSION, DATA, len(to)) + struct.pack(f"<{len(to)}i", *to)


def control(say: str, **body: Any) -> bytes:
    """Return a control record."""
    packed: bytes = msgpack.packb({"say": say, **body})
    assert len(packed) <= MAX_CONTROL, f"a control message of {len(packed)} bytes"
    return ENVELOPE.pack(MAGIC, VERSION, CONTROL, 0) + LENGTH.pack(len(packed)) + packed


def open_envelope(raw: bytes | memoryview) -> tuple[int, int]:
    """Return (type, count) of a record's first eight bytes.

    Raises:
        WireError: they are not those of a record.
    """
    magic, version, kind, count = ENVELOPE.unpack(raw)
    if magic != MAGIC or kind not in (CONTROL, DATA):
        is_tls = bytes(raw[:2]) == _TLS_HANDSHAKE
        got = "TLS; both sides must use certificates, or neither" if is_tls else repr(bytes(raw))
        raise WireError("bad_magic", f"expected a p2pfrl record, got {got}")
    if version != VERSION:
        raise WireError("wrong_version", f"expected protocol version {VERSION}, got {version}")
    if (kind == CONTROL) == (count > 0):
        raise WireError("malformed", "a frame has recipients and a control message has none")
    return kind, count


def parse_control(raw: bytes) -> dict[str, Any]:
    """Return the map of a control message.

    Raises:
        WireError: it is not one.
    """
    try:
        body = msgpack.unpackb(raw, max_ext_len=0, strict_map_key=True)
    except (ValueError, msgpack.UnpackException, RecursionError) as error:
        raise WireError("malformed", f"a control message is not msgpack: {error}") from error
    if (
        not isinstance(body, dict)
        or not all(isinstance(k, str) for k in body)
        or not isinstance(body.get("say"), str)
    ):
        raise WireError("malformed", "a control message is not a map with a string 'say'")
    return body


def differences(own: Identity, peer: Identity) -> str:
    """Return the scenario keys that differ, with both values."""
    keys = [
        k
        for k in sorted({**own.settings, **peer.settings})
        if own.settings.get(k) != peer.settings.get(k)
    ]
    shown = [
        f"{k}: expected {own.settings.get(k, 'none')}, got {peer.settings.get(k, 'none')}"
        for k in keys[:5]
    ]
    more = f"; and {len(keys) - 5} more" if len(keys) > 5 else ""
    return f" ({'; '.join(shown)}{more})" if shown else ""


def plain_text(value: object) -> str:
    """Return a text from the other side, shortened and without control characters."""
    return printable(value, 500) if isinstance(value, str) else "no reason given"


def printable(text: str, limit: int) -> str:
    """Return the first `limit` characters of `text`, with unprintable ones as "?"."""
    return "".join(c if c.isprintable() else "?" for c in text[:limit])


_HELLO: dict[str, type] = {
    "version": int,
    "run": str,
    "scenario": str,
    "layout": str,
    "agents": list,
    "incarnation": int,
    "nonce": bytes,
    "host": str,
    "port": int,
    "settings": dict,
}


def parse_hello(body: dict[str, Any]) -> Identity:
    """Return the identity in a hello.

    Raises:
        WireError: it is not a hello.
    """
    if body.keys() != _HELLO.keys():
        raise WireError("malformed", "the hello has not exactly the agreed keys")
    for name, kind in _HELLO.items():
        if type(body[name]) is not kind:
            raise WireError(
                "bad_field",
                f"hello.{name}: expected {kind.__name__}, got {type(body[name]).__name__}",
            )
    if body["version"] != VERSION:
        raise WireError(
            "wrong_version", f"expected protocol version {VERSION}, got {body['version']}"
        )
    if (
        len(body["nonce"]) != _NONCE
        or not 0 <= body["incarnation"] < 2**62
        or not 0 <= body["port"] < 2**16
    ):
        raise WireError("bad_field", "hello: nonce, incarnation or port out of range")
    # Nested values are refused without a look at them, because Python cannot even print a list
    # that is nested a thousand deep.
    if not all(isinstance(k, str) and isinstance(v, str) for k, v in body["settings"].items()):
        raise WireError("bad_field", "hello.settings: expected texts")
    agents = body["agents"]
    if (
        not all(type(a) is int and LOWEST_ID <= a <= HIGHEST_ID for a in agents)
        or sorted(set(agents)) != agents
    ):
        raise WireError("bad_field", "hello.agents: expected ascending agent ids")
    return Identity(
        body["run"],
        body["scenario"],
        body["layout"],
        tuple(agents),
        body["incarnation"],
        body["nonce"],
        (body["host"], body["port"]),
        {printable(k, 100): printable(v, 200) for k, v in body["settings"].items()},
    )
