"""The frame: magic, version, two lengths, a msgpack header, and the payload as one msgpack `bin` of raw numbers.

    offset 0   4 bytes   b"p2p" and the version
    offset 4   u32       length of the header, little-endian
    offset 8   u32       length of the payload, its `bin` prefix included
    offset 12  header    msgpack map: run kind from incarnation sequence round weight encoding parts crc32
    ...        payload   msgpack bin, little-endian numbers

Both lengths are checked before anything is allocated. Any msgpack library can read the two objects. Nothing is pickled.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Callable
from typing import Any
from zlib import crc32

import msgpack
import numpy as np

from p2pfrl.core.errors import WireError
from p2pfrl.core.parameters import Vector
from p2pfrl.core.types import COORDINATOR, FINAL, MODEL, SKIP, TRANSITIONS, UPDATE, Message

VERSION = 1
MAGIC = b"p2p" + bytes([VERSION])
MAX_HEADER = 4096
MAX_PAYLOAD = 2**30
KINDS = (UPDATE, MODEL, SKIP, FINAL)
_PREFIX = struct.Struct("<4sII")
_FIELDS: dict[str, type] = {
    "run": str, "kind": str, "from": int, "incarnation": int, "sequence": int, "round": int,
    "weight": float, "encoding": str, "parts": list, "crc32": int,
}  # fmt: skip
_BIN8, _BIN16, _BIN32 = struct.Struct(">BB"), struct.Struct(">BH"), struct.Struct(">BI")


class Frame:
    """An encoded message: immutable, encoded once, shared by all receivers, decoded once.

    Attributes:
        head: everything up to and including the prefix of the payload's `bin`.
        payload: the numbers' own buffer.
        nbytes: bytes on the wire.
    """

    __slots__ = ("crc32", "head", "kind", "message", "nbytes", "payload", "round", "sequence")

    def __init__(self, head: bytes, payload: memoryview, *, kind: str, round: int, sequence: int, crc: int) -> None:
        self.head = head
        self.payload = payload
        self.nbytes = len(head) + len(payload)
        self.kind = kind
        self.round = round
        self.sequence = sequence
        self.crc32 = crc
        self.message: Message | None = None


def _bin_prefix(size: int) -> bytes:
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

    def __init__(self, run: str, sender: int, incarnation: int = 0) -> None:
        self.sequence = 0
        self._pack: Callable[[object], bytes] = msgpack.Packer().pack
        self._header: dict[str, Any] = {"run": run, "kind": "", "from": sender, "incarnation": incarnation}

    def encode(self, vector: Vector | None, *, kind: str, round: int, weight: float = 0.0,
               encoding: str = "raw", parts: tuple[str, ...] = ()) -> Frame:  # fmt: skip
        """Return a frame around `vector`, whose buffer it shares: the caller must not write to it any more."""
        payload = memoryview(b"") if vector is None else vector.data.cast("B")
        crc = crc32(payload)
        self.sequence += 1
        header = self._header
        header["kind"] = kind
        header["sequence"] = self.sequence
        header["round"] = round
        header["weight"] = weight
        header["encoding"] = encoding
        header["parts"] = parts
        header["crc32"] = crc
        packed = self._pack(header)
        prefix = _bin_prefix(len(payload))
        head = _PREFIX.pack(MAGIC, len(packed), len(prefix) + len(payload)) + packed + prefix
        return Frame(head, payload, kind=kind, round=round, sequence=self.sequence, crc=crc)


class Decoder:
    """Checks and decodes frames against the local layout; shape and dtype are never taken from the wire.

    Args:
        run: frames of another run are refused.
        agents: number of agents n; senders are 0..n-1 or the coordinator.
        parts: the parts every payload must carry.
        size: numbers in a payload; None: any (transitions).
        dtype: of a payload.
        uploads: agents send transitions, of any number, instead of those parts.
    """

    def __init__(
        self, run: str, *, agents: int, parts: tuple[str, ...], size: int | None, dtype: str, uploads: bool = False
    ) -> None:
        self._run = run
        self._agents = agents
        self._forms = dict.fromkeys((UPDATE, MODEL, FINAL), (list(parts), size))
        if uploads:
            self._forms[UPDATE] = ([TRANSITIONS], None)
        self._dtype = np.dtype(dtype).newbyteorder("<")
        self._limit = MAX_PAYLOAD if size is None or uploads else size * self._dtype.itemsize + 5

    def lengths(self, prefix: bytes) -> tuple[int, int]:
        """Return (header length, payload length) from the first 12 bytes; refuse them before anything is allocated."""
        magic, header, payload = _PREFIX.unpack(prefix)
        if magic != MAGIC:
            raise WireError("bad_magic", f"expected {MAGIC!r} (protocol version {VERSION}), got {magic!r}")
        if not 0 < header <= MAX_HEADER:
            raise WireError("bad_length", f"header of {header} bytes; at most {MAX_HEADER}")
        if not 2 <= payload <= self._limit:
            raise WireError("bad_length", f"payload of {payload} bytes; at most {self._limit}")
        return header, payload

    def decode(self, frame: Frame) -> Message:
        """Return the message in `frame`; the result is kept with the frame, since frames are immutable.

        Raises:
            WireError: the frame is not what this run agreed on; its `reason` says why.
        """
        if frame.message is None:
            frame.message = self.parse(frame.head, frame.payload)
        return frame.message

    def parse(self, head: bytes, payload: memoryview) -> Message:
        """Return the message whose bytes are `head` + `payload`."""
        header_length, payload_length = self.lengths(head[:12])
        if len(head) + len(payload) != 12 + header_length + payload_length:
            raise WireError("bad_length", f"{len(head) + len(payload)} bytes do not match the announced lengths")
        header = self._header(head[12 : 12 + header_length])
        if head[12 + header_length :] != _bin_prefix(len(payload)):
            raise WireError("malformed", "the payload is not one msgpack bin of the announced length")
        if crc32(payload) != header["crc32"]:
            raise WireError("corrupt", "the checksum of the payload does not match")
        return Message(
            header["kind"], header["from"], header["incarnation"], header["sequence"], header["round"],
            header["weight"], header["encoding"], tuple(header["parts"]), header["crc32"],
            self._numbers(header, payload),
        )  # fmt: skip

    def _header(self, raw: bytes) -> dict[str, Any]:
        try:
            header = msgpack.unpackb(
                raw, max_map_len=16, max_array_len=64, max_str_len=256, max_ext_len=0, max_bin_len=0
            )
        except (ValueError, msgpack.UnpackException, RecursionError) as error:
            raise WireError("malformed", f"the header is not msgpack: {error}") from error
        if not isinstance(header, dict) or header.keys() != _FIELDS.keys():
            raise WireError("malformed", "the header is not a map of exactly the agreed keys")
        for name, kind in _FIELDS.items():
            if type(header[name]) is not kind:
                raise WireError("bad_field", f"{name}: expected {kind.__name__}, got {type(header[name]).__name__}")
        if header["run"] != self._run:
            raise WireError("wrong_run", f"expected run {self._run!r}, got {header['run']!r}")
        if header["kind"] not in KINDS:
            raise WireError("bad_field", f"kind: expected one of {KINDS}, got {header['kind']!r}")
        if not COORDINATOR <= header["from"] < self._agents:
            raise WireError("unknown_sender", f"expected an agent below {self._agents}, got {header['from']}")
        for name in ("incarnation", "sequence", "round", "crc32"):
            if not 0 <= header[name] < 2**62:
                raise WireError("bad_field", f"{name}: expected 0 to 2^62, got {header[name]}")
        if not (math.isfinite(header["weight"]) and header["weight"] >= 0):
            raise WireError("bad_field", f"weight: expected a finite number >= 0, got {header['weight']}")
        return header

    def _numbers(self, header: dict[str, Any], payload: memoryview) -> Vector:
        if header["kind"] == SKIP:
            if len(payload):
                raise WireError("bad_length", f"a skip carries no payload, got {len(payload)} bytes")
            return np.empty(0, dtype=self._dtype)
        parts, size = self._forms[header["kind"]]
        if header["parts"] != parts:
            raise WireError("wrong_layout", f"expected parts {parts}, got {header['parts']}")
        if header["encoding"] != "raw":
            raise WireError("bad_field", f"encoding: expected 'raw', got {header['encoding']!r}")
        if len(payload) % self._dtype.itemsize or (
            size is not None and len(payload) != size * self._dtype.itemsize
        ):
            raise WireError("wrong_layout", f"expected {size} numbers of {self._dtype}, got {len(payload)} bytes")
        vector = np.frombuffer(payload, dtype=self._dtype)
        if not np.isfinite(vector).all():
            raise WireError("not_finite", "the payload holds NaN or infinity")
        vector.flags.writeable = False
        return vector
