"""One connection as a state machine: who may join, and what is refused.

No bytes can do more than that.
"""

import itertools
import tracemalloc
from dataclasses import replace
from typing import Any

import msgpack
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2pfrl.core.types import SKIP, UPDATE, Frame
from p2pfrl.core.wire import VERSION, Decoder, Encoder
from p2pfrl.net.records import ENVELOPE, LENGTH, MAGIC, Identity, control, envelope
from p2pfrl.net.session import Closed, Control, Delivered, Event, Opened, Refused, Session
from p2pfrl.net.stream import _Pool

SIZE = 6
LEFT = Identity(
    "run",
    "hash",
    "layout",
    (0, 1),
    0,
    bytes(16),
    ("127.0.0.1", 1),
    {"seed": "1", "stop.rounds": "5"},
)
RIGHT = replace(LEFT, agents=(2,), nonce=bytes(15) + b"\1", address=("127.0.0.1", 2))


def session(own: Identity = LEFT, **options: Any) -> Session:
    decoder = Decoder("run", agents=4, parts=("actor",), size=SIZE, dtype="float32", coordinators=2)
    return Session(own, decoder, **{"dialer": False, "now": 0.0, **options})


def drain(side: Session) -> bytes:
    data = b"".join(side.outgoing)
    side.outgoing.clear()
    return data


def converse(a: Session, b: Session) -> tuple[list[Event], list[Event]]:
    """Carry what both say to each other until they have no more to say."""
    heard: tuple[list[Event], list[Event]] = [], []
    while a.outgoing or b.outgoing:
        heard[1].extend(b.feed(drain(a), 0.0))
        heard[0].extend(a.feed(drain(b), 0.0))
    return heard


def joined(peer: Identity = RIGHT, **options: Any) -> Session:
    """Return a session that has joined with `peer`."""
    side = session(**options)
    converse(side, session(peer, dialer=True))
    assert side.is_open
    return side


def frame(encoder: Encoder, round: int = 0, value: float = 1.0) -> Frame:
    return encoder.encode(np.full(SIZE, value, "<f4"), kind=UPDATE, round=round, parts=("actor",))


def raw(frame: Frame, to: tuple[int, ...] = (0,)) -> bytes:
    return envelope(to) + frame.head + bytes(frame.payload)


def reasons(events: list[Event]) -> list[str]:
    return [e.reason if isinstance(e, Refused | Closed) else type(e).__name__ for e in events]


def records(data: bytes) -> list[bytes]:
    """Return the control records in `data`."""
    found = []
    while data:
        size = ENVELOPE.size + LENGTH.size + LENGTH.unpack_from(data, ENVELOPE.size)[0]
        found.append(data[:size])
        data = data[size:]
    return found


def greeting(peer: Identity = RIGHT) -> tuple[Session, list[bytes]]:
    """Return a fresh session, and the three records with which `peer` would join it."""
    mine, other = session(), session(peer, dialer=True)
    said = [drain(other)]
    hello = drain(mine)
    other.feed(hello, 0.0)
    said.append(drain(other))
    mine.feed(said[0], 0.0)
    other.feed(drain(mine), 0.0)
    mine.feed(said[1], 0.0)
    said.append(drain(other))
    fresh = session()
    assert drain(fresh) == hello
    return fresh, said


def test_both_join_and_know_each_other():
    left, right = session(secret=b"s"), session(RIGHT, dialer=True, secret=b"s")
    heard = converse(left, right)
    assert heard == ([Opened(RIGHT)], [Opened(LEFT)])


@pytest.mark.parametrize("order", list(itertools.permutations(range(3))))
def test_a_greeting_in_any_other_order_is_refused(order):
    side, said = greeting()
    events = [e for i in order for e in side.feed(said[i], 0.0)]
    assert side.is_open is (order == (0, 1, 2))
    assert reasons(events) == (["Opened"] if side.is_open else ["malformed"])


@pytest.mark.parametrize("twice", range(3))
def test_no_step_of_the_greeting_comes_twice(twice):
    side, said = greeting()
    events = [
        e
        for i, record in enumerate(said)
        for e in side.feed(record * (2 if i == twice else 1), 0.0)
    ]
    assert side.is_closed
    assert reasons(events)[-1] == "malformed"


def test_the_greeting_may_be_split_at_every_byte():
    stream = b"".join(greeting()[1])
    for cut in range(len(stream) + 1):
        side = session()
        assert reasons([*side.feed(stream[:cut], 0.0), *side.feed(stream[cut:], 0.0)]) == ["Opened"]


@pytest.mark.parametrize(
    ("change", "reason", "shown"),
    [
        ({"run": "other"}, "wrong_run", "expected 'run', got 'other'"),
        (
            {"scenario": "h2", "settings": {"seed": "2", "stop.rounds": "5"}},
            "wrong_scenario",
            "seed: expected 1, got 2",
        ),
        (
            {"scenario": "h2", "settings": {"seed": "1"}},
            "wrong_scenario",
            "stop.rounds: expected 5, got none",
        ),
        ({"layout": "l2"}, "wrong_layout", "expected 'layout', got 'l2'"),
        ({"nonce": LEFT.nonce}, "self_connection", "our own hello"),
    ],
)
def test_who_is_not_of_this_run_is_refused_and_told_why(change, reason, shown):
    left, right = session(), session(replace(RIGHT, **change), dialer=True)
    stale = drain(right)
    events = left.feed(stale, 0.0)
    assert reasons(events) == [reason]
    assert shown in events[0].detail
    (told,) = right.feed(drain(left), 0.0)[-1:]
    assert not left.is_open
    assert not right.is_open
    assert told.reason in (reason, "refused_by_peer")


def test_another_version_is_refused():
    hello = drain(session(RIGHT))
    assert reasons(
        session().feed(hello.replace(b"\xa7version" + bytes([VERSION]), b"\xa7version\x07"), 0.0)
    ) == ["wrong_version"]
    assert reasons(session().feed(MAGIC + bytes([VERSION + 1]) + hello[4:], 0.0)) == [
        "wrong_version"
    ]


def test_only_who_knows_the_secret_joins_and_a_reflected_proof_is_none():
    left, right = session(secret=b"a"), session(RIGHT, dialer=True, secret=b"b")
    heard = converse(left, right)
    assert "wrong_secret" in reasons(heard[0])
    assert "Opened" not in reasons(heard[0]) + reasons(heard[1])
    side = session(secret=b"a")
    side.feed(drain(session(RIGHT, dialer=True)), 0.0)
    proof = records(drain(side))[-1]
    assert reasons(side.feed(proof, 0.0)) == ["wrong_secret"]


@pytest.mark.parametrize("claimed", [(2,), (0,)])
def test_agents_that_the_certificate_does_not_name_are_refused(claimed):
    side = session(allowed=(2, 3))
    events = side.feed(drain(session(replace(RIGHT, agents=claimed), dialer=True)), 0.0)
    assert reasons(events) == ([] if claimed == (2,) else ["wrong_certificate"])


def test_nothing_is_taken_before_both_have_joined():
    encoder = Encoder("run", 2)
    assert reasons(session().feed(raw(frame(encoder)), 0.0)) == ["not_joined"]
    assert reasons(session().feed(control("join", agents=[]), 0.0)) == ["not_joined"]
    assert reasons(session().feed(control("alive"), 0.0)) == ["not_joined"]


NESTED = b"\x91" * 900 + b"\xc0"


@pytest.mark.parametrize(
    ("name", "value", "reason"),
    [
        ("run", "\0" * 60_000, "wrong_run"),
        ("run", "\x1b[2J", "wrong_run"),
        ("agents", list(range(10_000)), "refused"),
        ("agents", [3, 3], "bad_field"),
        ("agents", [-(2**31) - 1], "bad_field"),
        ("agents", [True], "bad_field"),
        ("incarnation", 2**62, "bad_field"),
        ("nonce", b"short", "bad_field"),
        ("port", -1, "bad_field"),
        ("port", 1.0, "bad_field"),
        ("settings", {"a": 1}, "bad_field"),
        ("settings", {"a": msgpack.unpackb(b"\x91" * 400 + b"\xc0")}, "bad_field"),
    ],
)
def test_a_hello_with_odd_values_is_refused_in_few_words_that_can_be_printed(name, value, reason):
    body = msgpack.unpackb(drain(session(RIGHT))[ENVELOPE.size + LENGTH.size :])
    side = session(check=lambda peer: ("refused", f"{peer.agents}"))
    (event,) = side.feed(control(body.pop("say"), **{**body, name: value}), 0.0)
    assert event.reason == reason
    assert len(event.detail) <= 1000
    assert event.detail.isprintable()
    assert len(drain(side)) < 5000


def test_a_setting_that_is_nested_deeper_than_python_prints_is_refused():
    body = msgpack.unpackb(drain(session(RIGHT))[ENVELOPE.size + LENGTH.size :])
    packed = msgpack.packb({**body, "settings": {"a": "HERE"}}).replace(b"\xa4HERE", NESTED)
    record = ENVELOPE.pack(MAGIC, VERSION, 0, 0) + LENGTH.pack(len(packed)) + packed
    (event,) = session().feed(record, 0.0)
    assert event.reason in ("bad_field", "malformed")


def test_whoever_says_nothing_hears_something_within_a_heartbeat_and_is_dead_after_the_timeout():
    side = joined()
    assert side.tick(0.9) == []
    assert not side.outgoing
    assert side.tick(1.1) == []
    assert records(drain(side)) == [control("alive")]
    side.feed(control("alive"), 2.0)
    assert side.tick(4.9) == []
    assert reasons(side.tick(5.1)) == ["silent"]
    assert side.is_closed
    assert side.tick(9.0) == []


def test_a_greeting_that_takes_too_long_is_given_up_however_busy_it_is():
    side = session()
    hello = drain(session(RIGHT))
    for i in range(20):
        assert not side.feed(hello[i : i + 1], i / 10)
        side.tick(i / 10)
    assert reasons(side.tick(3.1)) == ["greeting_timeout"]


def test_a_record_that_drips_in_is_given_up_though_the_other_side_is_never_silent():
    side, data = joined(), raw(frame(Encoder("run", 2)))
    events: list[Event] = []
    for second in range(len(data)):
        events += side.feed(data[second : second + 1], float(second)) + side.tick(float(second))
        if events:
            break
    assert reasons(events) == ["too_slow"]
    assert second <= 4


def test_a_record_at_the_slowest_speed_of_a_line_is_waited_for():
    decoder = Decoder("run", agents=4, parts=("actor",), size=10_000, dtype="float32")
    side = Session(LEFT, decoder, dialer=False, now=0.0)
    converse(side, session(RIGHT, dialer=True))
    big = Encoder("run", 2).encode(np.ones(10_000, "<f4"), kind=UPDATE, round=0, parts=("actor",))
    data = raw(big)
    events: list[Event] = []
    for second in range(41):
        events += side.feed(data[second * 1024 : (second + 1) * 1024], float(second)) + side.tick(
            float(second)
        )
    assert reasons(events) == ["Delivered"]


def test_time_in_which_we_did_not_run_ourselves_is_excused():
    side = joined()
    side.excuse(10.0)
    assert side.tick(12.9) == []
    assert reasons(side.tick(13.1)) == ["silent"]


def test_bye_and_a_stream_that_ends_are_told_apart():
    assert reasons(joined().feed(control("bye"), 0.0)) == ["bye"]
    assert reasons(joined().ended()) == ["closed"]
    side = joined()
    side.feed(raw(frame(Encoder("run", 2)))[:-1], 0.0)
    assert reasons(side.ended()) == ["truncated"]
    assert side.ended() == []
    side.say("table")
    assert not side.outgoing


def test_a_sequence_number_counts_once_in_any_order_within_the_window():
    encoder, side = Encoder("run", 2), joined()
    frames = [raw(frame(encoder, round=i)) for i in range(600)]
    order = [*range(0, 300, 2), *range(1, 300, 2)]
    # The even places come first; of the odd ones those within 256 of the highest number, 299, are
    # still taken.
    assert (
        reasons([e for i in order for e in side.feed(frames[i], 0.0)]).count("Delivered")
        == 150 + 129
    )
    assert reasons([e for i in order for e in side.feed(frames[i], 0.0)]) == ["replay"] * 300
    assert reasons(side.feed(frames[599], 0.0)) == ["Delivered"]
    assert reasons(side.feed(frames[300], 0.0)) == ["replay"]
    assert side.is_open


@pytest.mark.parametrize(
    ("encoder", "to", "reason"),
    [
        (Encoder("run", 1), (0,), "spoofed_sender"),
        (Encoder("run", 3), (0,), "spoofed_sender"),
        (Encoder("run", -2), (0,), "spoofed_sender"),
        (Encoder("run", 4), (0,), "unknown_sender"),
        (Encoder("run", -3), (0,), "unknown_sender"),
        (Encoder("run", 2, 1), (0,), "stale_incarnation"),
        (Encoder("other", 2), (0,), "wrong_run"),
        (Encoder("run", 2), (3,), "unknown_recipient"),
        (Encoder("run", 2), (0, 0), "unknown_recipient"),
        (Encoder("run", 2), tuple([0] * 65535), "unknown_recipient"),
    ],
)
def test_frames_that_are_not_the_peer_s_or_not_for_us_are_refused_and_the_next_is_taken(
    encoder, to, reason
):
    side = joined()
    assert reasons(side.feed(raw(frame(encoder), to), 0.0)) == [reason]
    assert reasons(side.feed(raw(frame(Encoder("run", 2)), (0, 1)), 0.0)) == ["Delivered"]
    assert side.refusals == {reason: 1}


def test_what_is_for_one_agent_alone_may_differ_from_what_the_others_get():
    side, encoder = joined(), Encoder("run", 2)
    said = [
        (frame(encoder, 3, 1.0), (0,)),
        (frame(encoder, 3, 2.0), (1,)),
        (frame(encoder, 3, 3.0), (1,)),
        (frame(encoder, 3, 1.0), (0, 1)),
        (frame(encoder, 3, 2.0), (0, 1)),
    ]
    assert reasons([e for f, to in said for e in side.feed(raw(f, to), 0.0)]) == [
        "Delivered",
        "Delivered",
        "equivocation",
        "Delivered",
        "equivocation",
    ]


def test_the_first_of_two_contents_for_a_round_is_kept_and_a_repetition_is_none():
    side, encoder = joined(), Encoder("run", 2)
    said = [
        frame(encoder, 3, 1.0),
        frame(encoder, 3, 2.0),
        frame(encoder, 3, 1.0),
        frame(encoder, 4, 2.0),
    ]
    assert reasons([e for f in said for e in side.feed(raw(f), 0.0)]) == [
        "Delivered",
        "equivocation",
        "Delivered",
        "Delivered",
    ]


def test_what_is_kept_of_a_peer_does_not_grow_with_the_number_of_its_frames():
    side, encoder = joined(), Encoder("run", 2)
    for i in range(3000):
        side.feed(raw(frame(encoder, round=i * 2**40)), 0.0)
    (seen,) = side._newest.values()
    assert len(seen.numbers) <= 513
    assert max(len(known) for known in side._contents.values()) <= 8


def test_unknown_control_messages_are_handed_on_with_a_short_name():
    (told,) = joined().feed(control("x" * 1000, a=1), 0.0)
    assert told == Control("x" * 50, {"a": 1})


@pytest.mark.parametrize("piece", [1, 7, 10**6], ids=["byte by byte", "seven bytes", "in one step"])
def test_a_frame_without_numbers_is_taken_however_it_comes_between_others(piece: int):
    side, encoder = joined(), Encoder("run", 2)
    empty = [encoder.encode(None, kind=SKIP, round=i) for i in range(2)]
    stream = raw(empty[0]) + raw(frame(encoder, 1)) + raw(empty[1], (0, 1)) + raw(empty[1])
    events = [
        e for i in range(0, len(stream), piece) for e in side.feed(stream[i : i + piece], 0.0)
    ]
    assert reasons(events) == ["Delivered", "Delivered", "Delivered", "replay"]
    messages = [e.message for e in events if isinstance(e, Delivered)]
    assert [(m.kind, m.round, m.payload.size) for m in messages] == [
        (SKIP, 0, 0),
        (UPDATE, 1, SIZE),
        (SKIP, 1, 0),
    ]
    assert len(empty[0].payload) == 0


PEER = Encoder("run", 2)
STREAM = b"".join(
    [
        raw(frame(PEER, 0)),
        control("alive"),
        raw(frame(PEER, 1), (0, 1)),
        control("table", rows=[]),
        raw(frame(Encoder("run", 1))),
        raw(frame(PEER, 2)),
        control("bye"),
    ]
)
WHOLE = ["Delivered", "Delivered", "Control", "spoofed_sender", "Delivered", "bye"]


@given(st.lists(st.integers(0, len(STREAM)), max_size=60))
def test_a_stream_means_the_same_in_whatever_pieces_it_comes(cuts):
    places = [0, *sorted(cuts), len(STREAM)]
    side = joined()
    events = [e for a, b in itertools.pairwise(places) for e in side.feed(STREAM[a:b], 0.0)]
    assert reasons(events) == WHOLE
    assert [e.message.round for e in events if isinstance(e, Delivered)] == [0, 1, 2]


@given(
    st.binary(max_size=300),
    st.booleans(),
    st.sampled_from([b"", envelope((0,)), MAGIC, control("alive")]),
)
def test_any_bytes_are_refused_at_most(data, is_open, start):
    side = joined() if is_open else session()
    side.feed(start + data, 0.0)
    side.tick(10.0)
    side.ended()
    assert side.is_closed
    assert not any(reason.startswith("_") for reason in side.refusals)


def mutated(rng: np.random.Generator, seeds: list[bytes]) -> bytes:
    base = bytearray(seeds[rng.integers(len(seeds))])
    kind = rng.random()
    if kind < 0.1:
        return rng.bytes(int(rng.integers(1, 200)))
    for _ in range(rng.integers(1, 5)):
        base[rng.integers(len(base))] = rng.integers(256)
    if kind < 0.3:
        del base[rng.integers(len(base)) :]
    elif kind < 0.5:
        place = rng.integers(len(base))
        base[place:place] = rng.bytes(int(rng.integers(1, 20)))
    return bytes(base)


def check_mutants(count: int, seed: int) -> dict[str, int]:
    """Feed mutants of valid records to sessions that have joined.

    The result says how often each outcome came.
    """
    rng, encoder = np.random.default_rng(seed), Encoder("run", 2)
    seeds = [raw(frame(encoder, i)) for i in range(4)] + [
        control("alive"),
        control("table", rows=[[1, 2]]),
        STREAM,
    ]
    seeds += records(drain(session(RIGHT)))
    outcomes: dict[str, int] = {}
    for _ in range(count):
        side = joined()
        # Whatever is left unfinished ends with the stream, so that every mutant is judged by
        # itself.
        for reason in reasons(side.feed(mutated(rng, seeds), 0.0) + side.tick(4.0) + side.ended()):
            outcomes[reason] = outcomes.get(reason, 0) + 1
        assert side.is_closed
    return outcomes


def test_thousands_of_mutated_records_crash_no_session():
    assert len(check_mutants(4000, 0)) >= 5


@pytest.mark.slow
def test_a_hundred_thousand_mutated_records_crash_no_session():
    assert sum(check_mutants(110_000, 1).values()) >= 110_000


def test_memory_stays_below_twice_the_frame_limit_whatever_is_announced():
    limit = 4 * 10**6
    decoder = Decoder("run", agents=4, parts=("actor",), size=limit // 4, dtype="float32")
    encoder = Encoder("run", 2)
    big = encoder.encode(np.ones(limit // 4, "<f4"), kind=UPDATE, round=0, parts=("actor",))
    data = memoryview(raw(big))
    hostile = [data[:200_000], data[:-1], envelope((0,)) + b"p2p\1" + b"\xff" * 8]
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        for stream in hostile:
            side = Session(LEFT, decoder, dialer=False, now=0.0)
            converse(side, session(RIGHT, dialer=True))
            side.feed(stream, 0.0)
            assert tracemalloc.get_traced_memory()[1] - before < 2 * limit
            side.ended()
            assert tracemalloc.get_traced_memory()[0] - before < limit / 10
            del side
            tracemalloc.reset_peak()
    finally:
        tracemalloc.stop()


def test_memory_of_a_large_payload_is_used_again_once_nobody_refers_to_it():
    pool, size = _Pool(), 2**20
    first = pool.take(size)
    address = np.frombuffer(first, np.uint8).ctypes.data
    vector = np.frombuffer(first, "<f4")
    del first
    other = pool.take(size)  # a vector still refers to the first
    assert np.frombuffer(other, np.uint8).ctypes.data != address
    del vector
    for _ in range(3):
        assert np.frombuffer(pool.take(size), np.uint8).ctypes.data == address
    assert np.frombuffer(other, np.uint8).ctypes.data != address


def test_memory_that_is_kept_for_payloads_is_two_of_the_last_size():
    pool = _Pool()
    for size in (2**20, 2**21, 2**22, 2**20):
        held = [pool.take(size) for _ in range(5)]
        assert {len(view) for view in held} == {size}
        assert [known.size for known in pool._known] == [size, size]
    pool.clear()
    assert not pool._known
