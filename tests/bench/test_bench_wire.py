"""The benchmarks of links run, move every byte they count, and check what they say they check."""

import numpy as np
import pytest

from p2pfrl.bench.streams import HERE, THERE, Unread, decoder_for, encode, links, sockets
from p2pfrl.core.errors import WireError
from p2pfrl.core.types import SKIP, UPDATE
from p2pfrl.core.wire import Encoder
from p2pfrl.net.records import Identity, envelope
from p2pfrl.net.session import Delivered, Session


@pytest.mark.slow
def test_a_link_and_a_socket_move_the_same_number_of_bytes() -> None:
    size, count = 1000, 20
    with (
        sockets(size) as plain,
        links(size, is_checked=True) as checked,
        links(size, is_checked=False) as unread,
    ):
        assert plain.nbytes == checked.nbytes == unread.nbytes
        for stream in (plain, checked, unread):
            for _ in range(2):
                stream.prepare(count)
                stream.run()
        link = checked.link  # type: ignore[attr-defined]
        assert link.bytes_sent >= 2 * count * checked.nbytes
        assert not link.pending
        assert link.frames_replaced == 0


def test_only_the_checked_receiver_reads_the_numbers() -> None:
    frame = encode(Encoder("run", HERE), np.full(10, np.nan, "<f4"))
    with pytest.raises(WireError, match="NaN"):
        decoder_for(10, is_checked=True).parse(frame.head, frame.payload)
    unread = decoder_for(10, is_checked=False)
    assert isinstance(unread, Unread)
    assert unread.parse(frame.head, frame.payload).sequence == 1
    with pytest.raises(WireError, match="run"):
        unread.parse(encode(Encoder("other", HERE), np.ones(10, "<f4")).head, frame.payload)


def test_the_first_bytes_of_a_message_name_its_one_recipient() -> None:
    assert envelope([THERE]).endswith(THERE.to_bytes(4, "little"))


def test_a_frame_without_numbers_is_read_whole_and_byte_by_byte_alike() -> None:
    heard: list[list[tuple[str, int]]] = []
    for step in (10**6, 40, 1):
        sessions = []
        for agent in (HERE, THERE):
            own = Identity(
                "run", "hash", "layout", (agent,), 0, bytes([agent] * 16), ("127.0.0.1", 1)
            )
            sessions.append(
                Session(own, decoder_for(3, is_checked=True), dialer=agent == THERE, now=0.0)
            )
        for _ in range(3):
            for one, other in (sessions, sessions[::-1]):
                said = b"".join(one.outgoing)
                one.outgoing.clear()
                other.feed(said, 0.0)
        encoder = Encoder("run", HERE)
        frames = [encode(encoder, np.ones(3, "<f4")), encoder.encode(None, kind=SKIP, round=2)]
        frames += [encode(encoder, np.ones(3, "<f4")), encoder.encode(None, kind=SKIP, round=4)]
        raw = b"".join(envelope([THERE]) + frame.head + bytes(frame.payload) for frame in frames)
        events = [
            e for i in range(0, len(raw), step) for e in sessions[1].feed(raw[i : i + step], 0.0)
        ]
        assert all(isinstance(event, Delivered) for event in events)
        heard.append(
            [(e.message.kind, e.message.payload.size) for e in events if isinstance(e, Delivered)]
        )
    assert heard[0] == heard[1] == heard[2] == [(UPDATE, 3), (SKIP, 0)] * 2
