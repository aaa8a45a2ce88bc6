"""Frames of secure sums on the wire: what is no masked vector, or too long, is refused."""

import numpy as np
import pytest

from p2pfrl.core.errors import WireError
from p2pfrl.core.wire import Decoder, Encoder
from p2pfrl.exchange.secure.ring import Elements


def decoder(masked):
    return Decoder("run", agents=4, parts=("x",), size=3, dtype="float64", masked=masked)


def said(message, *, kind="update", sender=1, encoding="raw", parts=(), masked=None):
    frame = Encoder("run", sender).encode(
        message, kind=kind, round=0, encoding=encoding, parts=parts
    )
    decoder(Elements(longest=100) if masked is None else masked).decode(frame)


RING = {"encoding": "ring", "parts": ("x",)}


@pytest.mark.parametrize("kind", ["keys", "shares", "reveal"])
@pytest.mark.parametrize("sender", [1, -1])
def test_messages_of_bytes_go_both_ways(kind, sender):
    said(np.arange(100, dtype=np.uint8), kind=kind, sender=sender)
    said(np.zeros(0, np.uint8), kind=kind, sender=sender)


def test_masked_vectors_are_as_long_as_vectors_and_their_weight():
    said(np.zeros(3, np.uint64), **RING)
    said(np.zeros(4, np.uint64), **RING, masked=Elements(more=1))
    frame = Encoder("run", 1).encode(
        np.full(3, 2**64 - 1, np.uint64), kind="update", round=0, **RING
    )
    payload = decoder(Elements()).decode(frame).payload
    assert payload.tolist() == [2**64 - 1] * 3
    assert not payload.flags.writeable


@pytest.mark.parametrize(
    ("message", "options", "reason"),
    [
        (np.zeros(101, np.uint8), {"kind": "keys"}, "bad_length"),
        (np.zeros(9, np.uint8), {"kind": "keys", "parts": ("x",)}, "bad_field"),
        (np.zeros(9, np.uint8), {"kind": "keys", "encoding": "ring"}, "bad_field"),
        (np.zeros(9, np.uint8), {"kind": "keys", "masked": Elements()}, "bad_field"),
        (np.zeros(2, np.uint64), RING, "wrong_layout"),
        (np.zeros(4, np.uint64), RING, "wrong_layout"),
        (np.zeros(23, np.uint8), RING, "wrong_layout"),
        (np.zeros(3), {"parts": ("x",)}, "bad_field"),
        (np.zeros(3), {"parts": ("x",), "encoding": "ring", "kind": "reply"}, "bad_field"),
        (np.zeros(3), {"parts": ("x",), "encoding": "ring", "kind": "model", "sender": -1}, "bad_"),
        (np.zeros(9, np.uint8), {"kind": "shares", "sender": 4}, "unknown_sender"),
    ],
)
def test_what_is_no_message_of_a_secure_sum_is_refused(message, options, reason):
    with pytest.raises(WireError, match=reason):
        said(message, **options)
