"""Frames of a known form are read faster, with the same result.

What a frame says never depends on the frames before it.
"""

import contextlib
from dataclasses import astuple, fields
from zlib import crc32

import msgpack
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2pfrl.core.errors import WireError
from p2pfrl.core.header import Form, form_of
from p2pfrl.core.types import UPDATE, Message
from p2pfrl.core.wire import MAGIC, PREFIX, Decoder, Encoder, bin_prefix

VECTOR = np.arange(3, dtype="<f4")
PAYLOAD = VECTOR.data.cast("B").toreadonly()
CRC = crc32(PAYLOAD)
COUNTS = st.one_of(
    st.integers(0, 2**64 - 1),
    st.sampled_from([0, 127, 128, 255, 256, 2**16, 2**32, 2**62 - 1, 2**62]),
)
WEIGHTS = st.one_of(
    st.floats(), st.sampled_from([0.0, -1.0, 2.0**53, 2.0**54, float("nan"), float("inf")])
)


def decoder(run: str = "run") -> Decoder:
    return Decoder(run, agents=4, parts=("p",), size=3, dtype="float32")


def header(
    sequence: int = 1000,
    round: int = 999,
    weight: float = 64.0,
    crc: int = CRC,
    sender: int = 2,
    score: float = 1.5,
    kind: str = UPDATE,
    parts: tuple[str, ...] = ("p",),
) -> bytes:
    return msgpack.packb(
        {
            "run": "run",
            "kind": kind,
            "from": sender,
            "incarnation": 1,
            "sequence": sequence,
            "round": round,
            "weight": weight,
            "score": score,
            "encoding": "raw",
            "parts": parts,
            "crc32": crc,
        }
    )


def head_of(packed: bytes, size: int = len(PAYLOAD)) -> tuple[bytes, int]:
    """Return what stands before the numbers, and where the header ends in it."""
    prefix = bin_prefix(size)
    lead = PREFIX.pack(MAGIC, len(packed), len(prefix) + size)
    return lead + packed + prefix, len(lead) + len(packed)


def read(reader: Decoder, packed: bytes, crc: int | None = None) -> Message:
    """Return the message with a header; its checksum is taken for true if it is `crc`."""
    return reader.open(*head_of(packed), PAYLOAD, crc)


def said(message: Message) -> tuple[object, ...]:
    return tuple(
        value.tobytes() if isinstance(value, np.ndarray) else value
        for value in (getattr(message, field.name) for field in fields(Message))
    )


def verdict(reader: Decoder, head: bytes, payload: memoryview = PAYLOAD, crc: int = CRC) -> object:
    """Return what a frame says, or why it is refused."""
    try:
        return said(reader.parse(head, payload, crc))
    except WireError as error:
        return error.reason, str(error)


def test_every_byte_that_changes_in_a_known_frame_has_the_effect_that_it_has_in_the_first_one():
    head, refused = head_of(header())[0], 0
    for at in range(len(head)):
        for change in (1, 2, 4, 8, 16, 32, 64, 128, 255):
            warm, changed = decoder(), bytearray(head)
            assert verdict(warm, head)[3] == 1000
            changed[at] ^= change
            expected = verdict(decoder(), bytes(changed))
            assert verdict(warm, bytes(changed)) == expected
            refused += len(expected) == 2
    assert refused > len(head)


@pytest.mark.parametrize("size", [0, 1, 8, 11, 13, 16, 300])
def test_a_known_form_takes_payloads_of_its_size_alone(size):
    warm, payload = decoder(), memoryview(bytes(size))
    assert verdict(warm, head_of(header())[0])[3] == 1000
    crc = crc32(payload)
    for head in (head_of(header())[0], head_of(header(crc=crc), size)[0]):
        expected = verdict(decoder(), head, payload, crc)
        assert verdict(warm, head, payload, crc) == expected
        assert len(expected) == 2


def test_numbers_that_are_not_finite_are_refused_in_known_forms():
    warm = decoder()
    assert verdict(warm, head_of(header())[0])[3] == 1000
    payload = np.array([0, np.nan, 1], "<f4").data.cast("B")
    head = head_of(header(crc=crc32(payload)))[0]
    assert verdict(warm, head, payload, crc32(payload))[0] == "not_finite"
    assert verdict(warm, head_of(header())[0], payload, None)[0] == "corrupt"


@given(
    st.lists(
        st.tuples(COUNTS, COUNTS, WEIGHTS, COUNTS, st.integers(-2, 5), WEIGHTS),
        min_size=2,
        max_size=6,
    )
)
def test_frames_say_the_same_whatever_came_before(rows):
    warm = decoder()
    for row in rows:
        head = head_of(header(*row))[0]
        assert verdict(warm, head, crc=row[3]) == verdict(decoder(), head, crc=row[3])


def test_frames_are_of_one_form_until_a_number_needs_more_bytes():
    reader = decoder()
    for sequence in range(300, 400):
        for sender in range(4):
            message = read(reader, header(sequence, sequence - 1, sender=sender))
            assert astuple(message)[1:5] == (sender, 1, sequence, sequence - 1)
    assert len(reader._known) == 1
    size = len(PAYLOAD)

    def known(packed: bytes, size: int = size) -> bool:
        return reader._known.read(head_of(packed)[0], size) is not None

    assert known(header(500, 400))
    assert not known(header(500, 400), size + 4)
    assert not known(header(500, 70_000))
    assert not known(header(500, 400, sender=3)[:-1])
    assert not known(header(500, 400, sender=4))


def form(packed: bytes) -> Form | None:
    unpacked = decoder()._unpack(packed)
    return form_of(*head_of(packed), len(PAYLOAD), "run", unpacked, 4)


def test_a_header_packed_in_another_way_has_no_form():
    assert form(header()) is not None
    turned = msgpack.packb(dict(reversed(msgpack.unpackb(header()).items())))
    assert said(read(decoder(), turned)) == said(read(decoder(), header()))
    assert form(turned) is None


def test_headers_of_coordinators_have_no_form():
    assert form(header(sender=-1, kind="model")) is None


def test_a_run_whose_name_is_the_name_of_a_field_is_read_like_any_other():
    for run in ("sequence", "a sequence of runs", "crc32", ""):
        reader, encoder = decoder(run), Encoder(run, 1, 1)
        encoder.sequence = 500
        for round in range(300, 304):
            frame = encoder.encode(VECTOR, kind=UPDATE, round=round, weight=1.0, parts=("p",))
            message = reader.decode(frame)
            assert (message.sequence, message.round, message.sender) == (encoder.sequence, round, 1)


def test_the_number_of_known_forms_is_limited_and_what_is_refused_is_not_kept():
    reader = Decoder("run", agents=2000, parts=("p",), size=3, dtype="float32")
    counts = (1, 200, 300, 70_000, 2**33)
    for sequence in counts:
        for round in counts:
            for incarnation in counts:
                for parts in (("p",), ("q",)):
                    encoder = Encoder("run", 7, incarnation)
                    encoder.sequence = sequence
                    frame = encoder.encode(VECTOR, kind=UPDATE, round=round, parts=parts)
                    with contextlib.suppress(WireError):
                        reader.decode(frame)
    known = reader._known._known.values()
    assert max(map(len, known)) == 8
    assert {each._parts for forms in known for each in forms} == {("p",)}
