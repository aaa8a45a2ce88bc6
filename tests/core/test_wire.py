"""Frames are read as they were written; everything else is refused with its reason.

No other exception is raised.
"""

import struct
import tracemalloc
from collections.abc import Callable
from typing import Any
from zlib import crc32

import msgpack
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2pfrl.core.errors import WireError
from p2pfrl.core.types import COORDINATOR, FINAL, MODEL, SKIP, TRANSITIONS, UPDATE, Frame, Message
from p2pfrl.core.wire import MAGIC, MAX_HEADER, MAX_PAYLOAD, Decoder, Encoder

REASONS = {
    "bad_magic",
    "bad_length",
    "malformed",
    "bad_field",
    "corrupt",
    "wrong_run",
    "unknown_sender",
    "wrong_layout",
    "not_finite",
}
VECTOR = np.arange(6, dtype="<f4")
PARTS = ("actor", "critic")


def decoder(**changes: Any) -> Decoder:
    options: dict[str, Any] = {"agents": 4, "parts": PARTS, "size": 6, "dtype": "float32"}
    return Decoder("run", **{**options, **changes})


def encode(vector: np.ndarray | None = VECTOR, **changes: Any) -> Frame:
    options: dict[str, Any] = {
        "kind": UPDATE,
        "round": 3,
        "weight": 64.0,
        "parts": () if vector is None else PARTS,
    }
    sender = changes.pop("sender", 2)
    return Encoder(changes.pop("run", "run"), sender, 1).encode(vector, **{**options, **changes})


def raw(frame: Frame) -> bytes:
    return frame.head + bytes(frame.payload)


def parse(data: bytes, into: Decoder | None = None, split: int | None = None) -> Message:
    """Parse bytes as a receiver has them.

    The head ends where the payload's numbers begin, and the numbers are in a buffer.
    """
    if split is None:
        header, payload = struct.unpack_from("<II", data, 4) if len(data) >= 12 else (0, 0)
        split = 12 + header + (2 if payload < 2**8 + 2 else 3 if payload < 2**16 + 3 else 5)
    return (into or decoder()).parse(data[:split], memoryview(data[split:]))


def rebuilt(
    change: Callable[[dict[str, Any]], object] | None = None, *, header: bytes | None = None
) -> bytes:
    """Return the bytes of a good frame whose header was changed, or replaced by other bytes."""
    frame = encode()
    length = struct.unpack_from("<I", frame.head, 4)[0]
    fields = msgpack.unpackb(frame.head[12 : 12 + length])
    if change is not None:
        change(fields)
    packed = msgpack.packb(fields) if header is None else header
    rest = frame.head[12 + length :] + bytes(frame.payload)
    return struct.pack("<4sII", MAGIC, len(packed), len(rest)) + packed + rest


def refused(data: bytes, into: Decoder | None = None) -> str:
    with pytest.raises(WireError) as error:
        parse(data, into)
    assert error.value.reason in REASONS
    return error.value.reason


@given(
    numbers=st.lists(st.floats(width=32, allow_nan=False, allow_infinity=False), max_size=70),
    kind=st.sampled_from([UPDATE, MODEL, FINAL]),
    round=st.integers(0, 2**62 - 1),
    weight=st.integers(0, 2**53),
    incarnation=st.integers(0, 2**31),
)
def test_what_is_encoded_is_decoded(numbers, kind, round, weight, incarnation):
    sender = 3 if kind == UPDATE else COORDINATOR
    vector = np.array(numbers, dtype="<f4")
    frame = Encoder("run", sender, incarnation).encode(
        vector, kind=kind, round=round, weight=float(weight), parts=("a",)
    )
    for into in (decoder(parts=("a",), size=len(numbers)), decoder(parts=("a",), size=None)):
        message = parse(raw(frame), into)
        assert (message.kind, message.sender, message.incarnation, message.sequence) == (
            kind,
            sender,
            incarnation,
            1,
        )
        assert (message.round, message.weight, message.encoding, message.parts) == (
            round,
            weight,
            "raw",
            ("a",),
        )
        assert message.crc32 == crc32(vector.tobytes())
        assert np.array_equal(message.payload, vector)
        assert message.payload.dtype == np.dtype("<f4")
    assert frame.nbytes == len(raw(frame))


@pytest.mark.parametrize("size", [0, 1, 63, 64, 65, 16383, 16384, 20000])
def test_every_length_of_the_bin_prefix_is_read_back(size):
    vector = np.arange(size, dtype="<f4")
    frame = encode(vector)
    assert np.array_equal(parse(raw(frame), decoder(size=size)).payload, vector)


def test_a_skip_has_no_payload_and_no_parts():
    message = parse(raw(encode(None, kind=SKIP)))
    assert message.kind == SKIP
    assert message.payload.size == 0
    assert message.parts == ()
    assert refused(raw(encode(VECTOR, kind=SKIP, parts=()))) == "bad_length"
    assert refused(raw(encode(None, kind=SKIP, parts=PARTS))) == "bad_field"


def test_frames_of_one_sender_are_numbered_from_one():
    encoder = Encoder("run", 0)
    assert [encoder.encode(None, kind=SKIP, round=0).sequence for _ in range(3)] == [1, 2, 3]


def test_any_msgpack_library_reads_both_objects():
    frame = encode()
    header, payload = struct.unpack_from("<II", frame.head, 4)
    data = raw(frame)
    assert data[:4] == b"p2p\x02"
    fields = msgpack.unpackb(data[12 : 12 + header])
    assert fields == {
        "run": "run",
        "kind": "update",
        "from": 2,
        "incarnation": 1,
        "sequence": 1,
        "round": 3,
        "weight": 64.0,
        "score": 0.0,
        "encoding": "raw",
        "parts": list(PARTS),
        "crc32": crc32(VECTOR.tobytes()),
    }
    numbers = msgpack.unpackb(data[12 + header :])
    assert len(data) == 12 + header + payload
    assert np.array_equal(np.frombuffer(numbers, dtype="<f4"), VECTOR)


def test_a_frame_is_decoded_once_and_shared_read_only():
    frame, into = encode(), decoder()
    message = into.decode(frame)
    assert into.decode(frame) is message
    assert np.shares_memory(message.payload, VECTOR)
    with pytest.raises(ValueError, match="read-only"):
        message.payload[0] = 1.0


def test_a_checksum_that_is_known_must_be_that_of_the_header():
    frame, into = encode(), decoder()
    damaged = memoryview(np.roll(VECTOR, 1)).cast("B")
    with pytest.raises(WireError, match="checksum"):
        into.parse(frame.head, damaged)
    with pytest.raises(WireError, match="checksum"):
        into.parse(frame.head, damaged, frame.crc32 ^ 1)
    assert np.array_equal(into.parse(frame.head, frame.payload, frame.crc32).payload, VECTOR)


def test_agents_may_upload_transitions_while_models_keep_their_layout():
    into = decoder(size=None, model=len(VECTOR), names=(TRANSITIONS,))
    for size in (0, 1, 1000):
        vector = np.ones(size, dtype="<f4")
        assert parse(raw(encode(vector, parts=(TRANSITIONS,))), into).payload.size == size
    assert parse(raw(encode(sender=COORDINATOR, kind=MODEL)), into).parts == PARTS
    assert (
        refused(raw(encode(np.ones(7, dtype="<f4"), sender=COORDINATOR, kind=MODEL)), into)
        == "wrong_layout"
    )
    assert refused(raw(encode()), into) == "wrong_layout"
    assert refused(raw(encode(parts=(TRANSITIONS,)))) == "wrong_layout"


@pytest.mark.parametrize(
    "data",
    [
        b"GET / HTTP/1.1\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\x00\x00",
        b"p2p\x01" + bytes(8),
        b"P2P\x02" + bytes(8),
        bytes(12),
    ],
)
def test_other_protocols_and_versions_are_refused(data):
    assert refused(data) == "bad_magic"


@pytest.mark.parametrize("header", [0, MAX_HEADER + 1, 2**31, 2**32 - 1])
@pytest.mark.parametrize("payload", [2, 2**32 - 1])
def test_wrong_header_lengths_are_refused(header, payload):
    assert refused(struct.pack("<4sII", MAGIC, header, payload)) == "bad_length"


@pytest.mark.parametrize("payload", [0, 1, 30, MAX_PAYLOAD + 1, 2**31, 2**32 - 1])
def test_wrong_payload_lengths_are_refused(payload):
    assert refused(struct.pack("<4sII", MAGIC, 100, payload)) == "bad_length"
    if payload > MAX_PAYLOAD:
        assert (
            refused(struct.pack("<4sII", MAGIC, 100, payload), decoder(size=None)) == "bad_length"
        )


def test_lengths_are_refused_before_anything_is_allocated():
    into = decoder(size=None)
    tracemalloc.start()
    for header, payload in ((2**32 - 1, 2**32 - 1), (100, 2**32 - 1), (2**31, 2)):
        with pytest.raises(WireError):
            into.lengths(struct.pack("<4sII", MAGIC, header, payload))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 20_000


def test_a_stream_that_ends_inside_a_frame_and_trailing_bytes_are_refused():
    data = raw(encode())
    for length in range(len(data)):
        assert refused(data[:length]) == "bad_length"
        for split in (0, 5, 12, length // 2):
            with pytest.raises(WireError):
                parse(data[:length], split=split)
    assert refused(data + b"\x00") == "bad_length"


HUGE = {
    "deep arrays": b"\x91" * 4000 + b"\xc0",
    "deep maps": b"\x81\xa1a" * 1300 + b"\xc0",
    "many empty maps": b"\xdd" + struct.pack(">I", 3000) + b"\x80" * 3000,
    "an array that claims four billion": b"\xdd\xff\xff\xff\xff",
    "a map that claims four billion": b"\xdf\xff\xff\xff\xff",
    "a string that claims four billion": b"\xdb\xff\xff\xff\xff",
    "a bin that claims four billion": b"\xc6\xff\xff\xff\xff",
    "nothing": b"\xc1",
    "a number": b"\x07",
    "two objects": msgpack.packb({"run": "run"}) * 2,
}


@pytest.mark.parametrize("header", HUGE.values(), ids=HUGE)
def test_hostile_msgpack_is_malformed_and_costs_no_memory(header):
    data, into = rebuilt(header=header), decoder()
    tracemalloc.start()
    assert refused(data, into) == "malformed"
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2_000_000


def pairs(
    *changes: tuple[bytes, bytes], drop: str | None = None, count: int | None = None
) -> bytes:
    """Return a header written pair by pair, with raw pairs added and one key dropped."""
    fields = msgpack.unpackb(encode().head[12 : 12 + struct.unpack_from("<I", encode().head, 4)[0]])
    body = [msgpack.packb(k) + msgpack.packb(v) for k, v in fields.items() if k != drop]
    body += [key + value for key, value in changes]
    return bytes([0x80 | (len(body) if count is None else count)]) + b"".join(body)


MALFORMED = {
    "a key twice": pairs((msgpack.packb("round"), b"\x05")),
    "a key twice in place of another": pairs(
        (msgpack.packb("run"), msgpack.packb("run")), drop="round"
    ),
    "a key missing": pairs(drop="weight"),
    "a key too many": pairs((msgpack.packb("extra"), b"\x01")),
    "an integer key": pairs((b"\x01", b"\x01"), drop="round"),
    "a nil key": pairs((b"\xc0", b"\x01"), drop="round"),
    "a bin key": pairs((b"\xc4\x05round", b"\x01"), drop="round"),
    "an array as key": pairs((b"\x91\x01", b"\x01"), drop="round"),
    "an extension": pairs((msgpack.packb("round"), b"\xd4\x05\x00"), drop="round"),
    "an empty extension": pairs((msgpack.packb("round"), b"\xc7\x00\x05"), drop="round"),
    "a timestamp": pairs((msgpack.packb("round"), b"\xd6\xff\x00\x00\x00\x01"), drop="round"),
    "an empty timestamp": pairs((msgpack.packb("round"), b"\xc7\x00\xff"), drop="round"),
    "invalid UTF-8": pairs((msgpack.packb("run"), b"\xa3\xff\xfe\xfd"), drop="run"),
    "a surrogate": pairs((msgpack.packb("run"), b"\xa3\xed\xa0\x80"), drop="run"),
    "a map that ends early": pairs(count=12),
    "a map that goes on": pairs(count=10),
    "a list of pairs": msgpack.packb([["run", "run"]] * 10),
}


@pytest.mark.parametrize("header", MALFORMED.values(), ids=MALFORMED)
def test_headers_that_are_not_one_map_of_the_agreed_keys_are_malformed(header):
    assert refused(rebuilt(header=header)) == "malformed"


BAD_FIELDS = [
    ("round", True),
    ("round", -1),
    ("round", 2**63),
    ("round", 2**62),
    ("round", 1.5),
    ("round", 3.0),
    ("round", None),
    ("round", "3"),
    ("sequence", -1),
    ("sequence", 2**64 - 1),
    ("incarnation", False),
    ("incarnation", -1),
    ("crc32", -1),
    ("crc32", 1.0),
    ("from", True),
    ("from", 2.0),
    ("from", "2"),
    ("weight", 1),
    ("weight", True),
    ("weight", -1.0),
    ("weight", float("nan")),
    ("weight", float("inf")),
    ("weight", 1e300),
    ("score", 1),
    ("score", float("nan")),
    ("score", float("-inf")),
    ("kind", "gossip"),
    ("kind", 1),
    ("kind", ""),
    ("run", 1),
    ("run", None),
    ("encoding", "topk"),
    ("encoding", 7),
    ("parts", "actor"),
    ("parts", {}),
    ("parts", [1, 2]),
    ("parts", [["actor"], ["critic"]]),
    ("parts", [None, True]),
]


@pytest.mark.parametrize(("name", "value"), BAD_FIELDS)
def test_fields_of_a_wrong_type_or_range_are_bad(name, value):
    assert refused(rebuilt(lambda fields: fields.update({name: value}))) == "bad_field"


@pytest.mark.parametrize("parts", [[1], [["actor"]], [{}], ["actor"]])
def test_the_parts_of_a_skip_are_checked_too(parts):
    frame = encode(None, kind=SKIP)
    fields = msgpack.unpackb(frame.head[12:-2])
    packed = msgpack.packb({**fields, "parts": parts})
    assert (
        refused(struct.pack("<4sII", MAGIC, len(packed), 2) + packed + b"\xc4\x00") == "bad_field"
    )


@pytest.mark.parametrize("sender", [4, 2**31, -2, -(2**63)])
def test_unknown_senders_are_refused(sender):
    assert refused(rebuilt(lambda fields: fields.update({"from": sender}))) == "unknown_sender"


@pytest.mark.parametrize(
    ("sender", "kind"), [(2, MODEL), (0, FINAL), (COORDINATOR, UPDATE), (COORDINATOR, SKIP)]
)
def test_agents_send_updates_and_the_coordinator_models(sender, kind):
    assert (
        refused(raw(encode(None if kind == SKIP else VECTOR, sender=sender, kind=kind)))
        == "bad_field"
    )


def test_frames_of_another_run_name_both():
    with pytest.raises(WireError, match="expected run 'run', got 'other'") as error:
        parse(raw(encode(run="other")))
    assert error.value.reason == "wrong_run"


@pytest.mark.parametrize(
    "parts", [["actor"], ["critic", "actor"], ["actor", "critic", "critic"], [], ["actor", "x"]]
)
def test_other_parts_than_those_shared_are_refused(parts):
    assert refused(rebuilt(lambda fields: fields.update({"parts": parts}))) == "wrong_layout"


def test_payloads_of_another_size_or_type_are_refused():
    assert refused(raw(encode(VECTOR[:5]))) == "wrong_layout"
    assert refused(raw(encode(VECTOR.astype("<f2")))) == "wrong_layout"
    assert refused(raw(encode(np.arange(3, dtype=np.uint8)))) == "wrong_layout"
    assert refused(raw(encode(np.arange(7, dtype=np.uint8))), decoder(size=None)) == "wrong_layout"
    assert refused(raw(encode(VECTOR.astype("<f8")))) == "bad_length"
    assert refused(raw(encode(np.empty(0, dtype="<f4")))) == "wrong_layout"


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("place", [0, 3, 5])
def test_a_single_nan_or_infinity_is_refused_and_a_large_number_is_not(value, place):
    vector = VECTOR.copy()
    vector[place] = 1e30
    assert parse(raw(encode(vector))).payload[place] == np.float32(1e30)
    vector[place] = value
    assert refused(raw(encode(vector))) == "not_finite"


def test_a_flipped_bit_of_the_payload_is_corrupt_wherever_it_is():
    data = raw(encode())
    for bit in range((len(data) - 24) * 8, len(data) * 8):
        flipped = bytearray(data)
        flipped[bit // 8] ^= 1 << bit % 8
        assert refused(bytes(flipped)) == "corrupt"


def test_a_payload_that_is_not_one_bin_is_malformed():
    data = bytearray(raw(encode()))
    for prefix in (b"\xd9\x18", b"\xc4\x17", b"\xc4\x19", b"\xc5\x18", b"\x92\x01"):
        data[-26:-24] = prefix
        assert refused(bytes(data)) == "malformed"


def fuzz(data: st.DataObject, seeds: list[bytes]) -> bytes:
    base = bytearray(data.draw(st.sampled_from(seeds)))
    for _ in range(data.draw(st.integers(0, 6))):
        place = data.draw(st.integers(0, max(0, len(base) - 1)))
        what = data.draw(st.integers(0, 3))
        if what == 0 and base:
            base[place] = data.draw(st.integers(0, 255))
        elif what == 1:
            base[place:place] = data.draw(st.binary(min_size=1, max_size=9))
        elif what == 2:
            del base[place : place + data.draw(st.integers(1, 9))]
        elif base:
            base[place] ^= 1 << data.draw(st.integers(0, 7))
    if data.draw(st.booleans()) and len(base) >= 12:
        header = struct.unpack_from("<I", encode().head, 4)[0]
        struct.pack_into("<4sII", base, 0, MAGIC, header, max(0, len(base) - 12 - header) % 2**32)
    return bytes(base)


SEEDS = [raw(encode()), raw(encode(None, kind=SKIP)), raw(encode(sender=COORDINATOR, kind=MODEL))]


def outcome(data: bytes, into: Decoder, split: int | None = None) -> Message | str:
    """Return the message, or the reason why it is refused."""
    try:
        return parse(data, into, split)
    except WireError as error:
        return error.reason


def check_fuzzed(data: st.DataObject) -> None:
    candidate = fuzz(data, SEEDS)
    split = data.draw(st.none() | st.integers(0, len(candidate)))
    message = outcome(candidate, decoder(), split)
    if isinstance(message, str):
        assert message in REASONS
    else:
        assert message.payload.size in (0, 6)
        assert np.isfinite(message.payload).all()
        assert COORDINATOR <= message.sender < 4
        assert message.parts in ((), PARTS)


@given(st.data())
def test_mutated_frames_are_decoded_or_refused_and_nothing_else(data):
    check_fuzzed(data)


@given(st.binary(max_size=200), st.integers(0, 200))
def test_random_bytes_are_refused(data, split):
    for candidate in (data, MAGIC + data, rebuilt(header=data[:100])):
        with pytest.raises(WireError) as error:
            parse(candidate, split=split)
        assert error.value.reason in REASONS


@pytest.mark.slow
def test_a_hundred_thousand_mutated_frames_are_decoded_or_refused_and_nothing_else():
    rng = np.random.default_rng(0)
    into = decoder()
    for _ in range(120_000):
        base = bytearray(SEEDS[rng.integers(len(SEEDS))])
        for _ in range(rng.integers(1, 5)):
            base[rng.integers(len(base))] = rng.integers(256)
        if rng.random() < 0.2:
            del base[rng.integers(len(base)) :]
        message = outcome(bytes(base), into)
        assert message in REASONS if isinstance(message, str) else message.payload.size in (0, 6)
