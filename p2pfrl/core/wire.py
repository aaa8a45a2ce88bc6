"""The frame of a message: a fixed lead, a msgpack header and a msgpack payload.

    offset 0   4 bytes   b"p2p" and the version
    offset 4   u32       length of the header, little-endian
    offset 8   u32       length of the payload, its `bin` prefix included
    offset 12  header    msgpack map: run kind from incarnation sequence round weight score encoding
                         parts crc32, and epoch where the coordinator has standbys
    ...        payload   msgpack bin: little-endian numbers, or the bytes of the encoding that the
                         header names

Both lengths are checked before anything is allocated. Any msgpack library can read the two objects.
Nothing is pickled.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from operator import itemgetter
from typing import Any, Protocol
from zlib import crc32

import msgpack
import numpy as np
from numpy.typing import NDArray

from p2pfrl.core.errors import WireError
from p2pfrl.core.header import (
    EPOCH,
    FIELDS,
    LEAD,
    MAX_COUNT,
    MAX_WEIGHT,
    NAMES,
    Fields,
    Forms,
    pack,
)
from p2pfrl.core.parameters import Vector
from p2pfrl.core.types import (
    COORDINATOR,
    FINAL,
    KEYS,
    LOWEST_ID,
    MODEL,
    NOTICES,
    PROMISE,
    REPLY,
    REVEAL,
    SHARES,
    SKIP,
    STORE,
    UPDATE,
    VACANT,
    Frame,
    Message,
    Notice,
    Received,
)

VERSION = 2
MAGIC = b"p2p" + bytes([VERSION])
PREFIX = struct.Struct("<4sII")
_BIN8, _BIN16, _BIN32 = struct.Struct(">BB"), struct.Struct(">BH"), struct.Struct(">BI")


@lru_cache(maxsize=16)
def bin_prefix(size: int) -> bytes:
    """Return what msgpack puts before a `bin` of `size` bytes."""
    if size < 2**8:
        return _BIN8.pack(0xC4, size)
    if size < 2**16:
        return _BIN16.pack(0xC5, size)
    return _BIN32.pack(0xC6, size)


@dataclass(frozen=True, slots=True)
class _Term:
    """A run and a term of office in it."""

    run: str
    epoch: int


_term_of = lru_cache(maxsize=64)(_Term)
"""One object for all encoders of a run, so that each has a slot less."""


class Encoder:
    """Makes the frames of one sender and numbers them.

    Args:
        run: name of the run; peers of another run refuse it.
        sender: the agent's id.
        incarnation: how many times it was restarted.
    """

    __slots__ = ("_sender", "_term", "incarnation", "sequence")

    def __init__(self, run: str, sender: int, incarnation: int = 0) -> None:
        self.sequence = 0
        self._term = _term_of(run, 0)
        self._sender = sender
        self.incarnation = incarnation

    @property
    def sender(self) -> int:
        """The id of the sender."""
        return self._sender

    def stamp(self, epoch: int) -> None:
        """Make frames of a term of office from now on, where the coordinator has standbys."""
        self._term = _term_of(self._term.run, epoch)

    def encode(
        self,
        vector: NDArray[Any] | None,
        *,
        kind: str,
        round: int,
        weight: float = 0.0,
        score: float = 0.0,
        encoding: str = "raw",
        parts: tuple[str, ...] = (),
    ) -> Frame:
        """Return a frame around `vector`.

        The frame shares the buffer of `vector`: the caller must not write to it any more.
        """
        payload = memoryview(b"") if vector is None else vector.data.cast("B")
        crc, term = crc32(payload), self._term
        self.sequence += 1
        fields = {
            "run": term.run,
            "kind": kind,
            "from": self._sender,
            "incarnation": self.incarnation,
            "sequence": self.sequence,
            "round": round,
            "weight": weight,
            "score": score,
            "encoding": encoding,
            "parts": parts,
            "crc32": crc,
        }
        if term.epoch:
            fields[EPOCH] = term.epoch
        packed = pack(fields)
        prefix = bin_prefix(len(payload))
        head = PREFIX.pack(MAGIC, len(packed), len(prefix) + len(payload)) + packed + prefix
        return Frame(head, payload, kind=kind, round=round, sequence=self.sequence, crc=crc)

    def notice(self, notice: Notice) -> Frame:
        """Return a frame of a notice.

        Its round is the version of the state, and its weight the epoch in which it was stored.
        """
        self.stamp(notice.epoch)
        value = notice.value
        vector: Vector | None = None if value is None else np.frombuffer(value, np.uint8)
        return self.encode(
            vector, kind=notice.kind, round=notice.version, weight=float(notice.stored_in)
        )

    def save(self) -> dict[str, int]:
        """Return the number of the last frame, and the incarnation that it belongs to."""
        return {"incarnation": self.incarnation, "sequence": self.sequence}

    def restore(self, state: Mapping[str, int]) -> bool:
        """Continue the numbering from a state, unless it belongs to another incarnation.

        The result says whether the state belongs to this incarnation.
        """
        is_ours = state["incarnation"] == self.incarnation
        if is_ours:
            self.sequence = state["sequence"]
        return is_ours

    def again(self, frame: Frame) -> Frame:
        """Return a new frame of this sender with the content of `frame` and a number of its own."""
        _, size, _ = PREFIX.unpack_from(frame.head)
        header = msgpack.unpackb(frame.head[PREFIX.size : PREFIX.size + size])
        return self.encode(
            np.frombuffer(frame.payload, np.uint8) if frame.payload else None,
            kind=frame.kind,
            round=frame.round,
            weight=header["weight"],
            score=header["score"],
            encoding=header["encoding"],
            parts=tuple(header["parts"]),
        )


MAX_HEADER = 4096
MAX_PAYLOAD = 2**30
KINDS = (UPDATE, MODEL, SKIP, FINAL, REPLY)
_OF_EDGES = (MODEL, FINAL, UPDATE, SKIP)
_OF_VOTERS = (MODEL, FINAL, VACANT, *NOTICES)
_BARE = (SKIP, VACANT)
"""Kinds without a payload."""
_OF_SUMS = (KEYS, SHARES, REVEAL)
_TYPES = tuple(FIELDS.values())
_in_order = itemgetter(*FIELDS)
_MAP = 0x80 | len(
    FIELDS
)  # the first byte of a map of that many pairs: a key that comes twice leaves too few


def _refuse_extension(code: int, data: bytes) -> object:
    raise ValueError(f"extension {code}")


class Codec(Protocol):
    """An encoding of vectors as bytes (exchange/compressors)."""

    @property
    def encoding(self) -> str:
        """Its name in the header."""

    def limit(self, size: int, itemsize: int) -> int:
        """Return the most bytes that `size` numbers take."""

    def decode(self, data: memoryview, size: int, dtype: np.dtype) -> Vector:
        """Return the `(size,)` vector in `data`.

        Raises:
            WireError: the bytes are not such a vector.
        """


class Masked(Codec, Protocol):
    """The encoding of masked vectors, and what else a secure sum sends.

    Attributes:
        longest: bytes of the longest message of another kind; 0 where there are none.
    """

    @property
    def longest(self) -> int:
        """Bytes of the longest message that carries no vector."""


class Decoder:
    """Checks and decodes frames against the local layout.

    Shape and dtype are never taken from the wire.

    Args:
        run: frames of another run are refused.
        agents: number of agents n; senders are 0..n-1 or a coordinator.
        parts: the parts every model carries, and every payload where `names` says nothing else.
        size: numbers in an agent's payload; None: any (transitions).
        model: numbers in a coordinator's model; as many as in a payload when not given.
        names: what agents' payloads carry instead of those parts.
        dtype: of a payload.
        codec: the encoding agents may use besides raw numbers.
        masked: the encoding that agents' updates must have, where only their sum may be known.
        coordinators: how many there are; their ids are -1, -2, ..., of which -1 is the one above
            the others.
        standbys: how many standbys the coordinator has.
        state: the most bytes of what a coordinator remembers, which travels to its standbys.
    """

    def __init__(
        self,
        run: str,
        *,
        agents: int,
        parts: tuple[str, ...],
        size: int | None,
        dtype: str,
        model: int | None = None,
        names: Sequence[str] | None = None,
        codec: Codec | None = None,
        masked: Masked | None = None,
        coordinators: int = 1,
        standbys: int = 0,
        state: int = 0,
    ) -> None:
        self._run = run
        self._agents = agents
        self._standbys = range(LOWEST_ID, LOWEST_ID + standbys)
        self._state = min(state, MAX_PAYLOAD - 5) if standbys else 0
        self._lowest = -coordinators
        self._forms = dict.fromkeys(
            (UPDATE, REPLY), (tuple(parts if names is None else names), size)
        )
        self._forms |= dict.fromkeys(
            (MODEL, FINAL), (tuple(parts), size if model is None else model)
        )
        self._dtype = np.dtype(dtype).newbyteorder("<")
        self._itemsize = self._dtype.itemsize
        self._known = Forms(run, agents)
        self._codec = codec if masked is None else masked
        self._masked = masked
        self._longest = 0 if masked is None else masked.longest
        self._of_sums = _OF_SUMS if self._longest else ()
        votes = (VACANT, *NOTICES) if self._standbys else ()
        self._kinds = (*KINDS, *votes, *self._of_sums)
        most = max(self._most(count) for _, count in self._forms.values())
        self._limit = max(most, self._state + 5, self._longest + 5)

    def _most(self, size: int | None) -> int:
        """Return the most bytes of a payload of `size` numbers."""
        if size is None:
            return MAX_PAYLOAD
        encoded = 0 if self._codec is None else self._codec.limit(size, self._itemsize)
        return max(size * self._itemsize, encoded) + 5

    def lengths(self, prefix: bytes) -> tuple[int, int]:
        """Return (header length, payload length) from the first 12 bytes of a frame.

        Lengths beyond the limits are refused before anything is allocated.
        """
        if len(prefix) != PREFIX.size:
            raise WireError(
                "bad_length", f"a frame begins with {PREFIX.size} bytes, got {len(prefix)}"
            )
        magic, header, payload = PREFIX.unpack(prefix)
        if magic != MAGIC:
            raise WireError(
                "bad_magic", f"expected {MAGIC!r} (protocol version {VERSION}), got {magic!r}"
            )
        if not 0 < header <= MAX_HEADER:
            raise WireError("bad_length", f"header of {header} bytes; at most {MAX_HEADER}")
        if not 2 <= payload <= self._limit:
            raise WireError("bad_length", f"payload of {payload} bytes; at most {self._limit}")
        return header, payload

    def decode(self, frame: Frame) -> Message:
        """Return the message in `frame`.

        The result is kept with the frame, since frames are immutable. So is the checksum of the
        payload, from when the frame was encoded.

        Raises:
            WireError: the frame is not what this run agreed on; its `reason` says why.
        """
        if frame.message is None:
            frame.message = self.parse(frame.head, frame.payload, frame.crc32)
        return frame.message

    def epoch(self, frame: Frame) -> int:
        """Return the epoch that a frame has; 0 if it has none, or would be refused."""
        if not self._standbys:
            return 0
        try:
            return self.decode(frame).epoch
        except WireError:
            return 0

    def receive(self, frame: Frame) -> Received:
        """Return the event that `frame` arrived, with its message.

        All receivers of a frame share one event.
        """
        if frame.received is None:
            frame.received = Received(self.decode(frame))
        return frame.received

    def parse(self, head: bytes, payload: memoryview, crc: int | None = None) -> Message:
        """Return the message whose bytes are `head` + `payload`.

        `crc` is the checksum of the payload, where it is known.
        """
        fields = self._known.read(head, len(payload))
        if fields is not None:
            return self._message(fields, payload, crc)
        header_length, payload_length = self.lengths(head[:LEAD])
        end = LEAD + header_length
        if len(head) + len(payload) != end + payload_length:
            raise WireError(
                "bad_length", f"{len(head) + len(payload)} bytes do not match the announced lengths"
            )
        return self._first(head, end, payload, crc)

    def open(self, head: bytes, end: int, payload: memoryview, known: int | None = None) -> Message:
        """Return the message whose bytes are `head` + `payload`.

        Args:
            head: everything before the numbers; its lengths have been checked.
            end: where the header ends in it.
            payload: the numbers.
            known: their checksum, where the frame was made in this process; None: it is computed.

        Raises:
            WireError: as in `decode`.
        """
        fields = self._known.read(head, len(payload))
        if fields is not None:
            return self._message(fields, payload, known)
        return self._first(head, end, payload, known)

    def _first(self, head: bytes, end: int, payload: memoryview, known: int | None) -> Message:
        """Return what `open` returns, for a head that has none of the known forms."""
        fields = self._unpack(head[LEAD:end])
        if head[end:] != bin_prefix(len(payload)):
            raise WireError(
                "malformed", "the payload is not one msgpack bin of the announced length"
            )
        message = self._message(fields, payload, known)
        is_raw = message.encoding == "raw" and message.kind in self._forms
        self._known.learn(head, end, len(payload), fields, is_raw=is_raw)
        return message

    def _message(self, fields: Fields, payload: memoryview, known: int | None) -> Message:
        """Return the message with these fields, after checking its payload."""
        (
            kind,
            sender,
            incarnation,
            sequence,
            round,
            weight,
            score,
            encoding,
            parts,
            crc,
            epoch,
            is_raw,
        ) = fields
        if known is None or known != crc:
            self._verify(payload, crc)
        if is_raw:
            numbers = np.frombuffer(payload.toreadonly(), self._dtype)
            self._search(numbers)
        else:
            numbers = self._numbers(kind, encoding, parts, payload)
        return Message(
            kind,
            sender,
            incarnation,
            sequence,
            round,
            weight,
            encoding,
            parts,
            crc,
            numbers,
            score,
            epoch,
        )

    def _verify(self, payload: memoryview, crc: int) -> None:
        if crc32(payload) != crc:
            raise WireError("corrupt", "the checksum of the payload does not match")

    def _unpack(self, raw: bytes) -> Fields:
        """Return what a header says, after checking it; nothing is known of the payload."""
        try:
            header = msgpack.unpackb(
                raw,
                max_map_len=16,
                max_array_len=64,
                max_str_len=256,
                max_ext_len=0,
                max_bin_len=0,
                ext_hook=_refuse_extension,
            )
        except (ValueError, msgpack.UnpackException, RecursionError) as error:
            raise WireError("malformed", f"the header is not msgpack: {error}") from error
        epoch = self._taken_epoch(header) if self._standbys and raw[0] == _MAP + 1 else 0
        if raw[0] != _MAP + bool(epoch) or (
            tuple(header) != NAMES and header.keys() != FIELDS.keys()
        ):
            raise WireError("malformed", "the header is not a map of exactly the agreed keys")
        values = _in_order(header)
        if tuple(map(type, values)) != _TYPES:
            for name, value in zip(FIELDS, values, strict=True):
                if type(value) is not FIELDS[name]:
                    expected, got = FIELDS[name].__name__, type(value).__name__
                    raise WireError("bad_field", f"{name}: expected {expected}, got {got}")
        run, kind, sender, incarnation, sequence, round, weight, score, encoding, parts, crc = (
            values
        )
        if run != self._run:
            raise WireError("wrong_run", f"expected run {self._run!r}, got {run!r}")
        if kind not in self._kinds:
            raise WireError("bad_field", f"kind: expected one of {self._kinds}, got {kind!r}")
        if not (self._lowest <= sender < self._agents or sender in self._standbys):
            raise WireError(
                "unknown_sender", f"expected an agent below {self._agents}, got {sender}"
            )
        limit = MAX_COUNT
        if not (
            0 <= incarnation < limit
            and 0 <= sequence < limit
            and 0 <= round < limit
            and 0 <= crc < limit
        ):
            counts = {
                "incarnation": incarnation,
                "sequence": sequence,
                "round": round,
                "crc32": crc,
            }
            name, count = next(item for item in counts.items() if not 0 <= item[1] < limit)
            raise WireError("bad_field", f"{name}: expected 0 to 2^62, got {count}")
        if not 0.0 <= weight <= MAX_WEIGHT:
            raise WireError("bad_field", f"weight: expected 0 to 2^53, got {weight}")
        if not math.isfinite(score):
            raise WireError("bad_field", f"score: expected a finite number, got {score}")
        may = (
            (UPDATE, SKIP, REPLY)
            if sender > COORDINATOR
            else _OF_VOTERS
            if self._standbys
            else _OF_EDGES
            if sender < COORDINATOR
            else (MODEL, FINAL)
        )
        if kind not in may and kind not in self._of_sums:
            raise WireError("bad_field", f"kind: {kind!r} is not for {sender} to send")
        return (
            kind,
            sender,
            incarnation,
            sequence,
            round,
            weight,
            score,
            encoding,
            tuple(parts),
            crc,
            epoch,
            False,
        )

    @staticmethod
    def _taken_epoch(header: dict[str, object]) -> int:
        """Take the epoch out of a header, and return it.

        Raises:
            WireError: there is none, or it is no epoch.
        """
        epoch = header.pop(EPOCH, None)
        if type(epoch) is not int or not 0 < epoch < MAX_COUNT:
            raise WireError("bad_field", f"{EPOCH}: expected 1 to 2^62, got {epoch!r}")
        return epoch

    def _numbers(
        self, kind: str, encoding: str, names: tuple[str, ...], payload: memoryview
    ) -> Vector:
        codec = self._codec
        if encoding != "raw" and (codec is None or encoding != codec.encoding):
            known = "'raw'" if codec is None else f"'raw' or {codec.encoding!r}"
            raise WireError("bad_field", f"encoding: expected {known}, got {encoding!r}")
        if kind in _BARE:
            if names:
                raise WireError("bad_field", f"parts: a {kind} has none, got {list(names)}")
            if len(payload):
                raise WireError(
                    "bad_length", f"a {kind} carries no payload, got {len(payload)} bytes"
                )
            return np.empty(0, dtype=self._dtype)
        if kind in NOTICES:
            return self._state_in(kind, encoding, names, payload)
        if kind in self._of_sums:
            return self._bytes(encoding, names, payload)
        masked = self._masked
        if masked is not None and (kind == UPDATE) != (encoding == masked.encoding):
            expected = masked.encoding if kind == UPDATE else "raw"
            raise WireError("bad_field", f"encoding: expected {expected!r}, got {encoding!r}")
        parts, size = self._forms[kind]
        if names != parts:
            if not all(type(name) is str for name in names):
                raise WireError("bad_field", f"parts: expected names, got {list(names)}")
            raise WireError("wrong_layout", f"expected parts {list(parts)}, got {list(names)}")
        if encoding != "raw" and codec is not None:
            assert size is not None, "payloads of any number travel as they are"
            vector = codec.decode(payload.toreadonly(), size, self._dtype)
            vector.flags.writeable = False
        else:
            if len(payload) % self._itemsize or (
                size is not None and len(payload) != size * self._itemsize
            ):
                raise WireError(
                    "wrong_layout",
                    f"expected {size} numbers of {self._dtype}, got {len(payload)} bytes",
                )
            vector = np.frombuffer(payload.toreadonly(), self._dtype)
        self._search(vector)
        return vector

    def _state_in(
        self, kind: str, encoding: str, names: tuple[str, ...], payload: memoryview
    ) -> Vector:
        """Return the bytes of the state in a notice, `(k,)`; empty where it has none."""
        if names or encoding != "raw":
            raise WireError("bad_field", f"expected a {kind} without parts, as it is")
        most = self._state if kind in (STORE, PROMISE) else 0
        if len(payload) > most or (kind == STORE and not len(payload)):
            raise WireError(
                "bad_length", f"a {kind} carries at most {most} bytes, got {len(payload)}"
            )
        data: Vector = np.frombuffer(payload.toreadonly(), np.uint8)
        return data

    def _bytes(self, encoding: str, names: tuple[str, ...], payload: memoryview) -> Vector:
        """Return the content of a message of a secure sum, which is no vector, byte by byte."""
        if encoding != "raw" or names:
            raise WireError("bad_field", f"a message of bytes has no parts, got {list(names)}")
        if len(payload) > self._longest:
            raise WireError("bad_length", f"{len(payload)} bytes; at most {self._longest}")
        content: Vector = np.frombuffer(payload.toreadonly(), np.uint8)
        return content

    def _search(self, vector: Vector) -> None:
        if 0 in np.isfinite(vector).tobytes():  # the fastest way to ask whether all are
            raise WireError("not_finite", "the payload holds NaN or infinity")
