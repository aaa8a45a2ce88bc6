"""A process that sends what hypothesis makes to a live peer over TCP.

Usage: `python hostile_feeder.py HOST:PORT FRAMES SEED`.

It sends a batch for every line on stdin, answers each with "sent", and ends with a line of JSON:
the frames that it sent, on how many connections, and how often what should have come of them, by
reason. To know that, it feeds a session in memory with the same bytes: when that one closes its
connection, so must the peer.
"""

from __future__ import annotations

import itertools
import json
import socket
import struct
import sys
import time
from collections import Counter
from dataclasses import dataclass
from typing import Any
from zlib import crc32

import msgpack
import numpy as np
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st
from strings import strings
from test_bad_input import (
    FIELDS,
    HONEST,
    NOBODY,
    SIZE,
    VECTOR,
    VICTIM,
    built,
    decoder,
    framed,
    identity,
    told,
)

from p2pfrl.core.wire import MAGIC
from p2pfrl.net.records import Identity, envelope
from p2pfrl.net.session import Closed, Control, Delivered, Event, Refused, Session

BATCH = 20
WAIT = 20.0
VALID = built()
NUMBERS = VECTOR.tobytes()


@dataclass(frozen=True)
class Attempt:
    """What is sent at once.

    Attributes:
        data: the bytes.
        joins: whether to greet properly before; otherwise it comes first on a connection of its
            own.
        ends: whether nothing more comes after it.
    """

    data: bytes
    joins: bool = True
    ends: bool = False


VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats()
    | strings(8)
    | st.binary(max_size=8)
    | st.builds(msgpack.ExtType, st.integers(0, 127), st.binary(max_size=4)),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(strings(4), inner, max_size=3),
    max_leaves=6,
)
NAMES = st.sampled_from(list(FIELDS))
SPECIAL = st.sampled_from([float("nan"), float("inf"), -float("inf"), -0.0, 1e-45, 3.4e38])
PLACES = st.integers(0, len(VALID) - 1)
HELLO = Session(identity(NOBODY), decoder(), dialer=True, now=0.0).outgoing[0]
HELLO_BODY = msgpack.unpackb(HELLO[12:])


def header(fields: Any) -> bytes:
    return framed(msgpack.packb(fields), NUMBERS)


def poisoned(place: int, value: float, *, honest_sum: bool) -> bytes:
    numbers = VECTOR.copy()
    numbers[place] = value
    return built(numbers.tobytes(), **({} if honest_sum else {"crc32": 1}))


def flipped(places: list[tuple[int, int]]) -> bytes:
    data = bytearray(VALID)
    for place, byte in places:
        data[place] ^= byte
    return bytes(data)


def headed(fields: dict[str, Any], name: str, place: int) -> bytes:
    """Return a frame whose header lacks a field, or has its fields in another order."""
    kept = [item for item in fields.items() if item[0] != name or place % 2]
    kept = kept[place % 9 :] + kept[: place % 9]
    return header(dict(kept))


REFUSED = st.one_of(
    st.builds(lambda name, value: header({**FIELDS, name: value}), NAMES, VALUES),
    st.builds(lambda name, value: header({**FIELDS, name: value}), strings(6), VALUES),
    st.builds(lambda name, place: headed(FIELDS, name, place), NAMES, st.integers(0, 20)),
    st.builds(header, VALUES),
    st.builds(lambda data: framed(data or b"\xc0", NUMBERS), st.binary(max_size=40)),
    st.builds(
        lambda place, value, ok: poisoned(place, value, honest_sum=ok),
        st.integers(0, SIZE - 1),
        SPECIAL,
        st.booleans(),
    ),
    st.builds(lambda size: built(bytes(size)), st.integers(0, 200)),
    st.builds(
        lambda to: framed(msgpack.packb(FIELDS), NUMBERS, tuple(to)),
        st.lists(
            st.integers(-(2**31), 2**31 - 1) | st.sampled_from([VICTIM, HONEST]),
            min_size=1,
            max_size=4,
        ),
    ),
    st.builds(
        lambda number, round: built(sequence=number, round=round),
        st.integers(0, 600),
        st.integers(0, 5),
    ),
    st.builds(lambda number: built(sequence=number) * 2, st.integers(0, 2**40)),
    st.builds(
        lambda number, round: built(b"", kind="skip", parts=[], sequence=number, round=round),
        st.integers(0, 2**62),
        st.integers(0, 2**61),
    ),
    st.builds(
        lambda say, key, value: told(msgpack.packb({"say": say, key: value})),
        strings(8),
        strings(4),
        VALUES,
    ),
)
"""Mostly refused, each by itself: the stream goes on."""

BROKEN = st.one_of(
    st.builds(
        Attempt,
        st.builds(
            flipped, st.lists(st.tuples(PLACES, st.integers(1, 255)), min_size=1, max_size=4)
        ),
        ends=st.just(True),
    ),
    st.builds(Attempt, st.builds(lambda place: VALID[:place], PLACES), ends=st.just(True)),
    st.builds(
        Attempt, st.builds(lambda a, b: VALID[:a] + VALID[b:], PLACES, PLACES), ends=st.just(True)
    ),
    st.builds(
        Attempt,
        st.builds(
            lambda a, b: envelope((VICTIM,)) + struct.pack("<4sII", MAGIC, a, b),
            st.integers(0, 2**32 - 1),
            st.integers(0, 2**32 - 1),
        ),
        ends=st.just(True),
    ),
    st.builds(Attempt, st.builds(told, st.binary(max_size=60)), ends=st.just(True)),
    st.builds(Attempt, st.binary(min_size=1, max_size=80), st.booleans(), ends=st.just(True)),
    st.builds(
        Attempt,
        st.builds(lambda data: HELLO + data, st.binary(max_size=80)),
        st.just(False),
        st.just(True),
    ),
    st.builds(
        Attempt,
        st.builds(lambda place: HELLO[:place], st.integers(1, len(HELLO) - 1)),
        st.just(False),
        st.just(True),
    ),
    st.builds(
        Attempt,
        st.builds(
            lambda name, value: told(msgpack.packb({"say": "hello", **HELLO_BODY, name: value})),
            st.sampled_from([n for n in HELLO_BODY if n != "say"]),
            VALUES,
        ),
        st.just(False),
        st.just(True),
    ),
)
"""Mostly the end of their connection."""

ATTEMPTS = st.integers(0, 9).flatmap(lambda n: BROKEN if n == 0 else REFUSED.map(Attempt))


def check(peer: Identity) -> tuple[str, str] | None:
    """Return what a mesh says of a process that is not its neighbor."""
    if VICTIM in peer.agents:
        return "self_connection", ""
    return None if peer.agents in ((NOBODY,), (HONEST,)) else ("unknown_peer", "")


class Feeder:
    """One connection after the other."""

    def __init__(self, address: tuple[str, int]) -> None:
        self.frames = self.connections = 0
        self.outcomes: Counter[str] = Counter()
        self._address = address
        self._sock: socket.socket | None = None
        self._shadow: Session

    def send(self, attempt: Attempt) -> None:
        if self._sock is not None and not attempt.joins:
            self.leave()
        if self._sock is None:
            self._connect(joins=attempt.joins)
        assert self._sock is not None
        self.frames += 1
        self._count(self._shadow.feed(attempt.data, 0.0))
        try:
            self._sock.sendall(attempt.data)
        except ConnectionError:
            assert self._shadow.is_closed, f"closed, though it should not be: {attempt}"
        if attempt.ends or self._shadow.is_closed:
            self.leave()

    def leave(self) -> None:
        """End the connection, and wait until the peer has, too."""
        sock = self._sock
        if sock is None:
            return
        self._sock = None
        self._count(self._shadow.ended())
        try:
            sock.shutdown(socket.SHUT_WR)
            while sock.recv(65536):
                pass
        except OSError:
            pass  # it closed with some of it unread
        # No port waits for stragglers: there are tens of thousands of connections.
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        sock.close()

    def _connect(self, *, joins: bool) -> None:
        self._sock = socket.create_connection(self._address, timeout=WAIT)
        self.connections += 1
        own = identity(NOBODY)
        self._shadow = Session(identity(VICTIM), decoder(), dialer=False, now=0.0, check=check)
        if not joins:
            return
        mine = Session(own, decoder(), dialer=True, now=0.0)
        while mine.outgoing or not mine.is_open:
            self._sock.sendall(b"".join(mine.outgoing))
            mine.outgoing.clear()
            if not mine.is_open:
                mine.feed(self._sock.recv(65536), 0.0)
        dialer = Session(own, decoder(), dialer=True, now=0.0)
        while dialer.outgoing or self._shadow.outgoing:
            for one, other in itertools.permutations((dialer, self._shadow)):
                data = b"".join(one.outgoing)
                one.outgoing.clear()
                other.feed(data, 0.0)
        assert self._shadow.is_open

    def _count(self, events: list[Event]) -> None:
        for event in events:
            if isinstance(event, Refused) or (
                isinstance(event, Closed) and event.reason not in ("closed", "bye")
            ):
                self.outcomes[event.reason] += 1
            elif isinstance(event, Control):
                self.outcomes["unexpected"] += 1
            elif isinstance(event, Delivered):
                self.outcomes["delivered"] += 1


def main() -> None:
    host, _, port = sys.argv[1].rpartition(":")
    frames, rate = int(sys.argv[2]), float(sys.argv[4])
    feeder = Feeder((host, int(port)))

    @seed(int(sys.argv[3]))
    @settings(
        max_examples=-(-frames // BATCH),
        database=None,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(st.lists(ATTEMPTS, min_size=BATCH, max_size=BATCH))
    def feed(attempts: list[Attempt]) -> None:
        sys.stdin.readline()
        due = time.perf_counter()
        for attempt in attempts:
            feeder.send(attempt)
            due += 1.0 / rate
            time.sleep(max(0.0, due - time.perf_counter()))
        print("sent", flush=True)

    print("ready", flush=True)
    feed()
    feeder.leave()
    print(
        json.dumps({"frames": feeder.frames, "connections": feeder.connections, **feeder.outcomes}),
        flush=True,
    )


if __name__ == "__main__":
    assert crc32(NUMBERS) == FIELDS["crc32"]
    assert np.isfinite(VECTOR).all()
    main()
