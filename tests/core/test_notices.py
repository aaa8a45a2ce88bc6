"""Frames between a coordinator and its standbys, and epochs in the frames of agents."""

from __future__ import annotations

from typing import Any

import msgpack
import numpy as np
import pytest

from p2pfrl.core.errors import WireError
from p2pfrl.core.state import decode, encode
from p2pfrl.core.types import (
    ASK,
    FINAL,
    MODEL,
    NOTICES,
    PROMISE,
    SKIP,
    STORE,
    UPDATE,
    VACANT,
    Frame,
    Notice,
    Send,
    standby_id,
)
from p2pfrl.core.wire import MAGIC, PREFIX, Decoder, Encoder, bin_prefix

STANDBY = standby_id(1)
VECTOR = np.arange(4.0)


def decoder(standbys: int = 2) -> Decoder:
    return Decoder(
        "run",
        agents=3,
        parts=("all",),
        size=4,
        dtype="float64",
        standbys=standbys,
        state=100,
    )


def frame(sender: int, epoch: int = 0, **fields: Any) -> Frame:
    encoder = Encoder("run", sender)
    encoder.stamp(epoch)
    return encoder.encode(fields.pop("vector", None), **{"round": 0, **fields})


def refusal(made: Frame, into: Decoder | None = None) -> str:
    with pytest.raises(WireError) as error:
        (into or decoder()).decode(made)
    return error.value.reason


@pytest.mark.parametrize("kind", NOTICES)
@pytest.mark.parametrize("sender", [-1, STANDBY])
def test_a_notice_is_decoded_as_it_was(kind: str, sender: int) -> None:
    value = b"state" if kind in (STORE, PROMISE) else None
    made = Encoder("run", sender).notice(Notice(kind, 7, 3, 5, value))
    message = decoder().decode(made)
    assert (message.kind, message.sender, message.epoch) == (kind, sender, 7)
    assert (message.round, message.weight) == (3, 5.0)
    assert (message.payload.tobytes() or None) == value


def test_models_and_updates_carry_the_epoch_and_other_runs_have_none() -> None:
    for sender, kind in ((STANDBY, MODEL), (-1, FINAL), (2, UPDATE)):
        made, again = (frame(sender, 4, kind=kind, vector=VECTOR, parts=("all",)) for _ in "ab")
        assert decoder().decode(made).epoch == 4
        assert refusal(again, decoder(standbys=0)) == "malformed"
    assert decoder().decode(frame(2, kind=SKIP)).epoch == 0
    assert decoder().decode(frame(-1, 3, kind=VACANT)).kind == VACANT


@pytest.mark.parametrize(
    ("made", "reason"),
    [
        (frame(2, 1, kind=ASK), "bad_field"),  # agents do not vote
        (frame(2, 1, kind=VACANT), "bad_field"),
        (frame(STANDBY, 1, kind=UPDATE, vector=VECTOR, parts=("all",)), "bad_field"),
        (frame(standby_id(2), 1, kind=ASK), "unknown_sender"),
        (frame(-1, 1, kind=STORE), "bad_length"),  # a state of no bytes
        (frame(-1, 1, kind=ASK, vector=VECTOR), "bad_length"),  # a vote with a state
        (frame(-1, 1, kind=STORE, vector=np.zeros(13)), "bad_length"),  # 104 bytes
        (frame(-1, 1, kind=STORE, vector=VECTOR, parts=("all",)), "bad_field"),
        (frame(-1, 1, kind=VACANT, vector=VECTOR), "bad_length"),
    ],
)
def test_what_no_voter_sends_is_refused(made: Frame, reason: str) -> None:
    assert refusal(made) == reason


@pytest.mark.parametrize("epoch", [0, -1, 2**62, 1.5, True, "1", None, [1]])
def test_what_is_no_epoch_is_refused(epoch: object) -> None:
    made = frame(-1, 1, kind=ASK)
    header = msgpack.unpackb(made.head[PREFIX.size : -len(bin_prefix(0))])
    packed = msgpack.packb({**header, "epoch": epoch})
    head = PREFIX.pack(MAGIC, len(packed), 2) + packed + bin_prefix(0)
    with pytest.raises(WireError, match="epoch: expected 1 to"):
        decoder().parse(head, memoryview(b""))


def test_a_state_of_a_coordinator_survives_as_bytes() -> None:
    held = Send((1, 2), 3, MODEL, {1: -1}, None, 4)
    state = {"model": VECTOR, "held": [held], "counts": {1: 2}, "none": None}
    found = decode(encode(state))
    assert np.array_equal(found["model"], VECTOR)
    assert (found["held"][0].to, found["held"][0].epoch) == ((1, 2), 4)
    assert (found["counts"], found["none"]) == ({1: 2}, None)
    assert encode(state) == encode(state)
