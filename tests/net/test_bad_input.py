"""Hostile input against live links on loopback, while an honest pair goes on exchanging rounds."""

import asyncio
import contextlib
import socket
import statistics
import struct
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from dataclasses import dataclass, field, replace
from typing import Any
from zlib import crc32

import msgpack
import numpy as np
import pytest

from p2pfrl.build.assembly import Assembly
from p2pfrl.core.types import UPDATE, Frame
from p2pfrl.core.wire import MAGIC, VERSION, Decoder, Encoder, bin_prefix
from p2pfrl.net import tcp
from p2pfrl.net.fleet import Fleet
from p2pfrl.net.listener import Listener, listen
from p2pfrl.net.mesh import Mesh, Security, Timing
from p2pfrl.net.node import Node
from p2pfrl.net.records import ENVELOPE, LENGTH, Identity, control, envelope
from p2pfrl.net.session import Delivered, Opened, Session
from p2pfrl.scenario import loads

SIZE = 1000
RUN = "run"
NOBODY, HONEST, VICTIM = 0, 1, 2
"""Agents; the lower id dials, so that the victim waits for both others."""
WAIT = 120.0
VECTOR = np.arange(SIZE, dtype="<f4")


@dataclass
class Log:
    lines: list[dict[str, Any]] = field(default_factory=list)

    def note(self, what: str, **details: object) -> None:
        self.lines.append({"what": what, **details})


def decoder(size: int = SIZE) -> Decoder:
    return Decoder(RUN, agents=3, parts=("actor",), size=size, dtype="float32")


def identity(agent: int, **changes: Any) -> Identity:
    own = Identity(RUN, "hash", "layout", (agent,), 0, bytes(16), ("127.0.0.1", 1), {"seed": "1"})
    return replace(own, **changes).fresh()


@dataclass
class House:
    """The victim and its honest neighbor, both alive."""

    victim: Mesh
    honest: Mesh
    address: tuple[str, int]
    log: Log
    applied: list[Delivered]
    answered: asyncio.Event
    size: int
    door: Listener
    encoder: Encoder = field(default_factory=lambda: Encoder(RUN, HONEST))
    round: int = 0

    async def rounds(self, count: int) -> list[float]:
        """Let the honest pair exchange; return the seconds of every round."""
        seconds = []
        vector = np.ones(self.size, "<f4")
        for _ in range(count):
            began = time.perf_counter()
            self.answered.clear()
            frame = self.encoder.encode(vector, kind=UPDATE, round=self.round, parts=("actor",))
            self.round += 1
            assert self.honest.send(self.address, [VICTIM], frame, HONEST), self.log.lines[-5:]
            await asyncio.wait_for(self.answered.wait(), WAIT)
            seconds.append(time.perf_counter() - began)
        return seconds

    async def until(self, condition: Callable[[], object]) -> None:
        """Let rounds go by until a condition holds."""
        async with asyncio.timeout(WAIT):
            while not condition():
                await self.rounds(1)

    async def refused(self, reason: str, count: int = 1) -> None:
        try:
            await self.until(lambda: self.victim.refusals.get(reason, 0) >= count)
        except TimeoutError:
            pytest.fail(f"not refused as {reason}: {self.victim.refusals}, {self.log.lines[-3:]}")


@contextlib.asynccontextmanager
async def house(
    size: int = SIZE,
    timing: Timing | None = None,
    security: Callable[[int], Security] = lambda agent: Security(),
) -> AsyncIterator[House]:
    timing = timing or Timing()
    log, applied, answered = Log(), [], asyncio.Event()
    listeners: list[Listener] = []
    places = []
    terms = {agent: security(agent) for agent in (VICTIM, HONEST)}
    for agent in (VICTIM, HONEST):
        listener, where = await listen(("127.0.0.1", 0), terms[agent].server)
        listeners.append(listener)
        places.append(where)
    back = Encoder(RUN, VICTIM)
    reply = np.ones(size, "<f4")

    def receive(event: Delivered) -> None:
        if event.message.sender != HONEST:
            applied.append(event)
            return
        frame = back.encode(reply, kind=UPDATE, round=event.message.round, parts=("actor",))
        victim.send(places[1], [HONEST], frame, VICTIM)

    common: dict[str, Any] = {
        "decoder": decoder(size),
        "report": lambda agents, up: None,
        "timing": timing,
    }
    victim = Mesh(
        identity(VICTIM),
        {places[1]: (HONEST,), ("127.0.0.1", 9): (NOBODY,)},
        receive=receive,
        log=log,
        security=terms[VICTIM],
        **common,
    )
    honest = Mesh(
        identity(HONEST),
        {places[0]: (VICTIM,)},
        receive=lambda event: answered.set(),
        log=Log(),
        security=terms[HONEST],
        **common,
    )
    for listener, mesh in zip(listeners, (victim, honest), strict=True):
        listener.welcome(mesh.accept, mesh.refuse, 2)
    opening = asyncio.create_task(victim.open())
    try:
        await asyncio.wait_for(honest.open(), WAIT)
        there = House(victim, honest, places[0], log, applied, answered, size, listeners[0])
        await there.rounds(3)
        yield there
        await there.rounds(3)
    finally:
        opening.cancel()
        for listener in listeners:
            listener.server.close()
        await asyncio.gather(victim.close(), honest.close())


class Attacker:
    """A raw connection, which greets properly when told to."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    async def join(self, own: Identity, **options: Any) -> Session:
        now = asyncio.get_running_loop().time()
        session = Session(own, decoder(), dialer=True, now=now, **options)
        events: list[Any] = []
        async with asyncio.timeout(WAIT):
            while not any(isinstance(event, Opened) for event in events) and not session.is_closed:
                self.writer.write(b"".join(session.outgoing))
                session.outgoing.clear()
                data = await self.reader.read(65536)
                events += session.feed(data, now) if data else session.ended()
        self.writer.write(b"".join(session.outgoing))
        session.outgoing.clear()
        return session

    def send(self, data: bytes) -> None:
        self.writer.write(data)

    async def closed(self) -> bytes:
        """Return what is still said until the victim closes."""
        said = b""
        async with asyncio.timeout(WAIT):
            with contextlib.suppress(ConnectionError):
                while data := await self.reader.read(65536):
                    said += data
        return said


@contextlib.asynccontextmanager
async def attack(
    address: tuple[str, int], *, join: bool = False, own: Identity | None = None
) -> AsyncIterator[Attacker]:
    reader, writer = await asyncio.open_connection(*address)
    try:
        attacker = Attacker(reader, writer)
        if join:
            assert (await attacker.join(own or identity(NOBODY))).is_open
        yield attacker
    finally:
        writer.transport.abort()


def run(main: Coroutine[Any, Any, None]) -> None:
    asyncio.run(asyncio.wait_for(main, 120))


FIELDS: dict[str, Any] = {
    "run": RUN,
    "kind": UPDATE,
    "from": NOBODY,
    "incarnation": 0,
    "sequence": 1,
    "round": 0,
    "weight": 1.0,
    "score": 0.0,
    "encoding": "raw",
    "parts": ["actor"],
    "crc32": crc32(VECTOR.tobytes()),
}


def framed(header: bytes, payload: bytes, to: tuple[int, ...] = (VICTIM,)) -> bytes:
    prefix = bin_prefix(len(payload))
    lengths = struct.pack("<4sII", MAGIC, len(header), len(prefix) + len(payload))
    return envelope(to) + lengths + header + prefix + payload


def built(
    payload: bytes = VECTOR.tobytes(), to: tuple[int, ...] = (VICTIM,), **changes: Any
) -> bytes:
    """Return a frame with other fields than the good ones; `from_` for from."""
    fields = {
        **FIELDS,
        "crc32": crc32(payload),
        **{name.rstrip("_"): value for name, value in changes.items()},
    }
    return framed(msgpack.packb(fields), payload, to)


def lengths(header: int, payload: int) -> bytes:
    return envelope((VICTIM,)) + struct.pack("<4sII", MAGIC, header, payload)


def headed(header: bytes) -> bytes:
    return framed(header, VECTOR.tobytes())


def told(packed: bytes) -> bytes:
    return ENVELOPE.pack(b"p2p", VERSION, 0, 0) + LENGTH.pack(len(packed)) + packed


PAIRS = [(msgpack.packb(name), msgpack.packb(value)) for name, value in FIELDS.items()]
LAST = b"".join(a + b for a, b in PAIRS[:-1])
GOOD = msgpack.packb(FIELDS)
TLS_HELLO = bytes.fromhex("16030100c8010000c40303") + bytes(range(200))

CLOSING: dict[str, tuple[str, bool, bytes]] = {
    "http": ("bad_magic", False, b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"),
    "tls hello": ("bad_magic", False, TLS_HELLO),
    "bad magic after joining": ("bad_magic", True, b"xxxxxxxxxxxxxxxx"),
    "unknown record type": ("bad_magic", True, b"p2p" + bytes([VERSION, 7, 0, 0, 0])),
    "other version": ("wrong_version", False, b"p2p" + bytes([VERSION + 1, 0, 0, 0, 0])),
    "frame magic": ("bad_magic", True, envelope((VICTIM,)) + b"xxxx" + bytes(8)),
    "trailing bytes": ("bad_magic", True, built(round=2**61) + b"rest of it"),
    "no header": ("bad_length", True, lengths(0, 100)),
    "header over the limit": ("bad_length", True, lengths(4097, 100)),
    "header of 4 GiB": ("bad_length", True, lengths(2**32 - 1, 100)),
    "no payload": ("bad_length", True, lengths(100, 0)),
    "payload over the limit": ("bad_length", True, lengths(100, 4 * SIZE + 6)),
    "payload of 4 GiB": ("bad_length", True, lengths(100, 2**32 - 1)),
    "float64 payload": ("bad_length", True, built(VECTOR.astype("<f8").tobytes())),
    "control of 4 GiB": (
        "bad_length",
        False,
        ENVELOPE.pack(b"p2p", VERSION, 0, 0) + LENGTH.pack(2**32 - 1),
    ),
    "control of nothing": (
        "bad_length",
        False,
        ENVELOPE.pack(b"p2p", VERSION, 0, 0) + LENGTH.pack(0),
    ),
    "nested control": ("malformed", False, told(b"\x91" * 60_000)),
    "control of empty maps": ("malformed", False, told(b"\xdd\0\0\xff\0" + b"\x80" * 0xFE00)),
    "control that claims a huge array": ("malformed", False, told(b"\xdd\xff\xff\xff\xff")),
    "control with a timestamp": (
        "malformed",
        False,
        told(msgpack.packb({"say": msgpack.Timestamp(1)})),
    ),
    "control that is no utf-8": ("malformed", False, told(b"\x81\xa3say\xa2\xff\xfe")),
    "frame before joining": ("not_joined", False, built()),
    "control before joining": ("not_joined", False, control("table", rows=[])),
    "a second hello": ("malformed", True, control("hello")),
    "recipients of a control": ("malformed", False, ENVELOPE.pack(b"p2p", VERSION, 0, 3)),
    "no recipients": ("malformed", True, ENVELOPE.pack(b"p2p", VERSION, 1, 0)),
}

REFUSED: dict[str, tuple[str, bytes]] = {
    "nested header": ("malformed", headed(b"\x91" * 4000)),
    "empty maps": ("malformed", headed(b"\xdc\x0f\x00" + b"\x80" * 0xF00)),
    "huge array": ("malformed", headed(b"\xdd\xff\xff\xff\xff")),
    "huge map": ("malformed", headed(b"\xdf\xff\xff\xff\xff")),
    "duplicate key": ("malformed", headed(b"\x8a" + LAST + PAIRS[0][0] + PAIRS[0][1])),
    "missing key": ("malformed", headed(b"\x89" + LAST)),
    "extra key": ("malformed", headed(msgpack.packb({**FIELDS, "more": 1}))),
    "number as key": ("malformed", headed(b"\x8a" + LAST + b"\x01\x01")),
    "bytes as key": ("malformed", headed(b"\x8a" + LAST + b"\xc4\x05crc32\x01")),
    "extension": (
        "malformed",
        headed(msgpack.packb({**FIELDS, "round": msgpack.ExtType(5, b"x")})),
    ),
    "timestamp": ("malformed", headed(msgpack.packb({**FIELDS, "round": msgpack.Timestamp(1)}))),
    "no utf-8": ("malformed", headed(GOOD.replace(b"\xa3raw", b"\xa3r\xff\xfe"))),
    "two objects": ("malformed", headed(GOOD + b"\xc0")),
    "bool for int": ("bad_field", built(round=True)),
    "negative round": ("bad_field", built(round=-1)),
    "round of 2^63": ("bad_field", built(round=2**63)),
    "fractional round": ("bad_field", built(round=1.5)),
    "float16": ("wrong_layout", built(VECTOR.astype("<f2").tobytes())),
    "object encoding": ("bad_field", built(encoding="object")),
    "sparse encoding": ("bad_field", built(encoding="topk")),
    "other parts": ("wrong_layout", built(parts=["critic"])),
    "one number less": ("wrong_layout", built(VECTOR[:-1].tobytes())),
    "nan": ("not_finite", built(np.full(SIZE, np.nan, "<f4").tobytes())),
    "infinity": ("not_finite", built(np.full(SIZE, -np.inf, "<f4").tobytes())),
    # The order of bytes is not on the wire: what is noticed is a number that is none the wrong way
    # round.
    "big-endian": (
        "not_finite",
        built(np.full(SIZE, struct.unpack("<f", b"\x7f\xc0\0\0")[0], ">f4").tobytes()),
    ),
    "checksum": ("corrupt", built(crc32=1)),
    "other run": ("wrong_run", built(run="other")),
    "unknown sender": ("unknown_sender", built(from_=3)),
    "honest neighbor's id": ("spoofed_sender", built(from_=HONEST)),
    "victim's id": ("spoofed_sender", built(from_=VICTIM)),
    "before a restart": ("stale_incarnation", built(incarnation=1)),
    "negative weight": ("bad_field", built(weight=-1.0)),
    "weight nan": ("bad_field", built(weight=float("nan"))),
    "weight 1e300": ("bad_field", built(weight=1e300)),
    "agents elsewhere": ("unknown_recipient", framed(GOOD, VECTOR.tobytes(), (HONEST,))),
    "the same agent 65535 times": (
        "unknown_recipient",
        framed(GOOD, VECTOR.tobytes(), (VICTIM,) * 65535),
    ),
}


@pytest.mark.parametrize("name", CLOSING)
def test_what_is_no_stream_of_ours_is_closed_and_honest_rounds_go_on(name: str) -> None:
    reason, joins, data = CLOSING[name]

    async def main() -> None:
        async with house() as there, attack(there.address, join=joins) as attacker:
            attacker.send(data)
            await there.refused(reason)
            await attacker.closed()
            assert there.victim.refusals == {reason: 1}
            (line,) = [line for line in there.log.lines if line["what"] == "refused"]
            assert line["agents"] == ((NOBODY,) if joins else ())
            assert line["where"].startswith("127.0.0.1:")
            assert len(there.applied) == (name == "trailing bytes")

    run(main())


@pytest.mark.parametrize("name", REFUSED)
def test_a_frame_that_is_not_what_was_agreed_is_refused_and_the_next_is_taken(name: str) -> None:
    reason, data = REFUSED[name]

    async def main() -> None:
        async with house() as there, attack(there.address, join=True) as attacker:
            attacker.send(data)
            await there.refused(reason)
            assert there.applied == []
            assert there.victim.refusals == {reason: 1}
            (line,) = [line for line in there.log.lines if line["what"] == "refused"]
            assert line["agents"] == (NOBODY,)
            attacker.send(built(sequence=9))
            await there.until(lambda: there.applied)
            assert there.victim.refusals == {reason: 1}

    run(main())


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"run": "other"}, "wrong_run"),
        ({"scenario": "h2", "settings": {"seed": "2"}}, "wrong_scenario"),
        ({"layout": "l2"}, "wrong_layout"),
        ({"agents": (7,)}, "unknown_peer"),
        ({"agents": (-9,)}, "unknown_peer"),
        ({"agents": (-9, NOBODY)}, "unknown_peer"),
        ({"agents": (VICTIM,)}, "self_connection"),
    ],
)
def test_a_process_of_something_else_is_refused_and_told_why(
    changes: dict[str, Any], reason: str
) -> None:
    async def main() -> None:
        async with house() as there, attack(there.address) as attacker:
            session = Session(identity(NOBODY, **changes), decoder(), dialer=True, now=0.0)
            attacker.send(b"".join(session.outgoing))
            said = await attacker.closed()
            assert reason.encode() in said
            if reason == "wrong_scenario":
                assert b"seed: expected 1, got 2" in said
            assert there.victim.refusals == {reason: 1}

    run(main())


def test_a_stream_that_ends_inside_a_frame_is_truncated_and_nothing_is_applied() -> None:
    async def main() -> None:
        async with house() as there:
            async with attack(there.address, join=True) as attacker:
                attacker.send(built()[:-1])
                attacker.writer.write_eof()
                await there.refused("truncated")
            assert there.applied == []

    run(main())


def test_large_finite_numbers_are_taken() -> None:
    async def main() -> None:
        async with house() as there, attack(there.address, join=True) as attacker:
            attacker.send(built(np.full(SIZE, 1e30, "<f4").tobytes()))
            await there.until(lambda: there.applied)
            assert there.victim.refusals == {}

    run(main())


def test_replays_and_second_contents_are_applied_once_on_a_live_link() -> None:
    async def main() -> None:
        async with house() as there, attack(there.address, join=True) as attacker:
            attacker.send(built() * 5 + built((VECTOR + 1).tobytes(), sequence=2))
            await there.refused("replay", 4)
            await there.refused("equivocation")
            assert [event.message.sequence for event in there.applied] == [1]
            assert there.applied[0].message.payload[1] == 1.0

    run(main())


def test_of_two_live_connections_of_one_id_the_newest_incarnation_wins() -> None:
    async def main() -> None:
        async with house() as there, attack(there.address, join=True) as old:
            async with attack(there.address, join=True, own=identity(NOBODY, incarnation=2)) as new:
                await old.closed()
                async with attack(there.address) as stale:
                    session = await stale.join(identity(NOBODY, incarnation=1))
                    assert not session.is_open
                await there.refused("stale_incarnation")
                new.send(built(incarnation=2))
                await there.until(lambda: there.applied)
            async with attack(there.address) as stale:
                assert not (await stale.join(identity(NOBODY, incarnation=1))).is_open

    run(main())


FAST = Timing(heartbeat=0.2, timeout=0.6)


def test_one_byte_at_a_time_meets_a_deadline() -> None:
    async def main() -> None:
        async with house(timing=FAST) as there, attack(there.address, join=True) as attacker:
            for byte in built():
                attacker.send(bytes([byte]))
                await there.rounds(20)
                if there.victim.refusals:
                    break
            await attacker.closed()
            assert there.victim.refusals == {"too_slow": 1}
            assert there.applied == []

    run(main())


@pytest.mark.parametrize(
    ("join", "data", "reason"),
    [
        (True, built()[:1000], "silent"),
        pytest.param(True, b"", "silent", marks=pytest.mark.slow),
        pytest.param(False, b"", "greeting_timeout", marks=pytest.mark.slow),
        (False, b"p2p", "greeting_timeout"),
    ],
)
def test_a_stall_meets_a_deadline_wherever_it_is(join: bool, data: bytes, reason: str) -> None:
    async def main() -> None:
        async with house(timing=FAST) as there, attack(there.address, join=join) as attacker:
            attacker.send(data)
            await there.refused(reason)
            await attacker.closed()
            assert there.victim.refusals == {reason: 1}

    run(main())


@pytest.mark.parametrize("kernel", [True, False], ids=["TCP_USER_TIMEOUT", "our own clock"])
def test_a_reader_that_never_reads_costs_a_bounded_buffer_and_is_disconnected_though_it_goes_on_talking(
    kernel: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not kernel:
        monkeypatch.setattr(tcp, "_tune", lambda sock, timeout: None)
    size = 500_000

    async def main() -> None:
        async with house(size, FAST) as there:
            with socket.socket() as sock:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
                sock.setblocking(False)
                await asyncio.get_running_loop().sock_connect(sock, there.address)
                reader, writer = await asyncio.open_connection(sock=sock)
                attacker = Attacker(reader, writer)
                assert (await attacker.join(identity(NOBODY))).is_open
                writer.transport.pause_reading()  # type: ignore[attr-defined]
                address = ("127.0.0.1", 9)
                back = Encoder(RUN, VICTIM)
                await there.until(lambda: address in there.victim._current)
                link = there.victim._current[address]
                for round in range(100):
                    frame: Frame = back.encode(
                        np.ones(size, "<f4"), kind=UPDATE, round=round, parts=("actor",)
                    )
                    if not there.victim.send(address, [NOBODY], frame, VICTIM):
                        break
                    attacker.send(control("alive"))
                    assert link._transport.get_write_buffer_size() <= 2**20
                    assert len(link._slots) <= 1
                    await there.rounds(5)

                def refused() -> bool:
                    with contextlib.suppress(ConnectionError):
                        attacker.send(control("alive"))
                    return bool(there.victim.refusals)

                await there.until(refused)
                assert set(there.victim.refusals) <= {"slow_reader", "truncated"}
                await asyncio.wait_for(link.closed.wait(), WAIT)
                writer.transport.abort()

    run(main())


def test_of_a_thousand_silent_connections_few_are_held_and_an_honest_one_still_joins() -> None:
    async def main() -> None:
        async with house() as there:
            writers = []
            try:
                for _ in range(1000):
                    _, writer = await asyncio.open_connection(*there.address)
                    writers.append(writer)
                    assert len(there.victim._admission) <= 18
                await there.refused("too_many", 900)
                lines = [line for line in there.log.lines if line["what"] == "refused"]
                assert len(lines) <= 20
                async with attack(there.address, join=True) as late:
                    late.send(built())
                    await there.until(lambda: there.applied)
            finally:
                for writer in writers:
                    writer.transport.abort()

    run(main())


def test_a_flood_of_valid_small_frames_and_of_refused_ones_leaves_few_lines_and_bounded_state() -> (
    None
):
    async def main() -> None:
        async with house() as there, attack(there.address, join=True) as attacker:
            for start in range(1, 3001, 100):
                attacker.send(
                    b"".join(built(sequence=i, round=i) for i in range(start, start + 100))
                )
                attacker.send(built(crc32=0, sequence=start) * 10)
                await asyncio.wait_for(attacker.writer.drain(), WAIT)
                await there.rounds(1)
            await there.until(lambda: len(there.applied) == 3000)
            assert there.victim.refusals == {"corrupt": 300}
            assert len([line for line in there.log.lines if line["what"] == "refused"]) <= 20
            session = there.victim._current["127.0.0.1", 9].session
            assert all(len(seen.numbers) <= 513 for seen in session._newest.values())

    run(main())


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["refused frames", "silent connections", "valid frames"])
def test_honest_rounds_take_at_most_a_fifth_longer_under_attack(kind: str) -> None:
    """Medians of interleaved blocks, with and without the attack.

    Other load of the machine therefore affects both.
    """
    size = 250_000

    async def main() -> None:
        async with house(size) as there:
            calm: list[float] = []
            stormy: list[float] = []
            sequence = 0
            for _ in range(12):
                calm += await there.rounds(25)
                async with attack(there.address, join=kind != "silent connections") as attacker:
                    if kind == "silent connections":
                        others = [await asyncio.open_connection(*there.address) for _ in range(100)]
                        stormy += await there.rounds(25)
                        for _, writer in others:
                            writer.transport.abort()
                    for _ in range(0 if kind == "silent connections" else 25):
                        sequence += 1
                        small = built(np.ones(1, "<f4").tobytes(), sequence=sequence)
                        attacker.send(
                            small * 2
                            if kind == "refused frames"
                            else built(b"", kind="skip", parts=[])
                        )
                        stormy += await there.rounds(1)
            assert statistics.median(stormy) <= 1.2 * statistics.median(calm)

    run(main())


RING = """
name = "run"
agents = 4
[stop]
rounds = 12
[learner]
kind = "quadratic"
dimension = 1000
[schedule]
kind = "synchronous"
deadline = "30s"
[topology]
kind = "ring"
"""


class Nothing:
    def trained(self, *args: object) -> None: ...
    def mixed(self, *args: object) -> None: ...
    def sat_out(self, *args: object) -> None: ...


async def two_of_four(flood: list[bytes]) -> tuple[Node, bytes]:
    """Run agents 2 and 3 as one live process, while agents 0 and 1 only send `flood`.

    The result is the node and its parameters.
    """
    assembly = Assembly(loads(RING))
    trainer = assembly.trainer([2, 3])
    listener, where = await listen(("127.0.0.1", 0), None)
    own = identity(2, agents=(2, 3))
    fleet = Fleet({("127.0.0.1", 9): (0, 1), where: (2, 3)})
    node = Node(
        own,
        fleet,
        neighbors=assembly.neighbors(),
        decoder=assembly.decoder,
        trainer=trainer,
        spawn=lambda agent, port: assembly.agent(agent, 0, port, trainer, Nothing()),
        save=lambda id, frame: None,
        security=Security(),
        timing=Timing(start=WAIT, timeout=WAIT),
        log=Log(),
    )
    running = asyncio.create_task(node.run(listener))
    try:
        async with attack(where, join=True, own=identity(0, agents=(0, 1))) as attacker:
            while not node.schedules:
                await asyncio.sleep(0)
            for data in flood:
                attacker.send(data)
                await asyncio.wait_for(attacker.writer.drain(), WAIT)
            await asyncio.wait_for(running, WAIT)
    finally:
        running.cancel()
        listener.server.close()
    return node, b"".join(
        trainer.stack.layout.pack(trainer.read(agent)).tobytes() for agent in (2, 3)
    )


def test_a_live_process_ends_with_the_same_parameters_whatever_its_neighbor_floods_it_with() -> (
    None
):
    """Each of the two agents has a neighbor in the attacker, which ends by being far ahead.

    Neither is waited for then, so that the rounds end without a deadline, and after the flood.
    """
    numbers = VECTOR.astype("<f8").tobytes()  # the quadratic learner's type
    far: dict[str, Any] = {"parts": list(Assembly(loads(RING)).plan.parts), "from_": 1, "to": (2,)}
    last = [
        built(numbers, sequence=1, round=2**61, **far),
        built(numbers, sequence=1, round=2**61, **{**far, "from_": 0, "to": (3,)}),
    ]
    flood = [
        b"".join(built(numbers, sequence=i + 2, round=2**61 - i, **far) for i in range(50)),
        b"".join(
            built(numbers, sequence=i + 100, round=0, **{**far, "from_": 0}) for i in range(50)
        ),
        b"".join(
            built(b"", kind="skip", sequence=i + 1000, round=2**60, **{**far, "parts": []})
            for i in range(9000)
        ),
    ]

    async def main() -> None:
        calm, expected = await two_of_four(last)
        stormy, got = await two_of_four([*flood, last[1]])
        assert got == expected
        assert calm.mesh.refusals == {}
        assert stormy.mesh.refusals.pop("not_a_neighbor") == 50
        assert stormy.mesh.refusals.keys() <= {"flood"}
        assert sum(schedule.messages_late for schedule in stormy.schedules) >= 50
        assert all(schedule._inbox == {} for schedule in stormy.schedules)

    run(main())


def process_of_two(assembly: Assembly, spawn: Callable[..., Any]) -> Node:
    """Return the process of agents 2 and 3 of the ring; it has not begun."""
    return Node(
        identity(2, agents=(2, 3)),
        Fleet({("127.0.0.1", 9): (0, 1), ("127.0.0.1", 8): (2, 3)}),
        neighbors=assembly.neighbors(),
        decoder=assembly.decoder,
        trainer=assembly.trainer([2, 3]),
        spawn=spawn,
        save=lambda id, frame: None,
        security=Security(),
        timing=Timing(),
        log=Log(),
    )


def test_a_mailbox_that_nobody_empties_is_bounded() -> None:
    async def main() -> None:
        assembly = Assembly(loads(RING))
        node = process_of_two(assembly, spawn=lambda agent, port: pytest.fail("no"))
        frame = Encoder(RUN, 1).encode(None, kind="skip", round=0)
        for _ in range(3000):
            node._receive(Delivered((2,), assembly.decoder.decode(frame)))
        assert len(node._ports[2]) == 1024
        assert node.mesh.refusals == {"flood": 3000 - 1024}
        node._finish(2)
        node._receive(Delivered((2,), assembly.decoder.decode(frame)))
        assert len(node._ports[2]) == 0

    run(main())
