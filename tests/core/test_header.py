"""Headers of a known form are read faster, with the same result.

The content of a header never depends on the headers before it.
"""

import contextlib

import msgpack
import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from p2pfrl.core.errors import WireError
from p2pfrl.core.header import form_of
from p2pfrl.core.types import UPDATE
from p2pfrl.core.wire import Decoder, Encoder

VECTOR = np.arange(3, dtype="<f4")
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
    crc: int = 2**31,
    sender: int = 2,
    score: float = 1.5,
) -> bytes:
    return msgpack.packb(
        {
            "run": "run",
            "kind": UPDATE,
            "from": sender,
            "incarnation": 1,
            "sequence": sequence,
            "round": round,
            "weight": weight,
            "score": score,
            "encoding": "raw",
            "parts": ["p"],
            "crc32": crc,
        }
    )


def verdict(reader: Decoder, raw: bytes) -> object:
    """Return what a header says, or why it is refused."""
    try:
        return reader._header(raw)
    except WireError as error:
        return error.reason, str(error)


def test_every_byte_that_changes_in_a_known_header_has_the_effect_that_it_has_in_the_first_one():
    raw, refused = header(), 0
    for at in range(len(raw)):
        for change in (1, 2, 4, 8, 16, 32, 64, 128, 255):
            warm, changed = decoder(), bytearray(raw)
            assert warm._header(raw)[3] == 1000
            changed[at] ^= change
            expected = verdict(decoder(), bytes(changed))
            assert verdict(warm, bytes(changed)) == expected
            refused += isinstance(expected[0], str) and len(expected) == 2
    assert refused > len(raw)


@given(
    st.lists(
        st.tuples(COUNTS, COUNTS, WEIGHTS, COUNTS, st.integers(-2, 5), WEIGHTS),
        min_size=2,
        max_size=6,
    )
)
def test_headers_say_the_same_whatever_came_before(rows):
    warm = decoder()
    for row in rows:
        raw = header(*row)
        assert verdict(warm, raw) == verdict(decoder(), raw)


def test_headers_are_of_one_form_until_a_number_needs_more_bytes():
    reader = decoder()
    for sequence in range(300, 400):
        for sender in range(4):
            raw = header(sequence, sequence - 1, sender=sender)
            assert reader._header(raw)[1:5] == (sender, 1, sequence, sequence - 1)
    assert len(reader._known) == 1
    assert reader._known.read(header(500, 400)) is not None
    assert reader._known.read(header(500, 70_000)) is None
    assert reader._known.read(header(500, 400, sender=3)[:-1]) is None
    assert reader._known.read(header(500, 400, sender=4)) is None


def test_a_header_packed_in_another_way_has_no_form():
    fields = decoder()._header(header())
    assert form_of(header(), "run", fields, 4) is not None
    turned = dict(reversed(msgpack.unpackb(header()).items()))
    assert decoder()._header(msgpack.packb(turned)) == fields
    assert form_of(msgpack.packb(turned), "run", fields, 4) is None


def test_headers_of_coordinators_have_no_form():
    raw = header(sender=-1).replace(b"\xa6update", b"\xa5model")
    assert form_of(raw, "run", decoder()._header(raw), 4) is None


def test_a_run_whose_name_is_the_name_of_a_field_is_read_like_any_other():
    for run in ("sequence", "a sequence of runs", "crc32", ""):
        reader, encoder = decoder(run), Encoder(run, 1, 1)
        encoder.sequence = 500
        for round in range(300, 304):
            frame = encoder.encode(VECTOR, kind=UPDATE, round=round, weight=1.0, parts=("p",))
            message = reader.decode(frame)
            assert (message.sequence, message.round, message.sender) == (encoder.sequence, round, 1)


def test_the_number_of_known_forms_is_limited():
    reader = Decoder("run", agents=2000, parts=("p",), size=3, dtype="float32")
    for size in range(1, 3):
        for letter in "abcdefghijklmnopqrst":
            encoder = Encoder("run", 7, 1)
            parts = (letter * size,)
            frame = encoder.encode(VECTOR, kind=UPDATE, round=300, parts=parts)
            with contextlib.suppress(WireError):  # other parts are refused, but later
                reader.decode(frame)
    assert len(reader._known) == 2 * 8
