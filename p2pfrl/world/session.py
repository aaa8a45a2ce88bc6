"""One connection between two processes, as a state machine without I/O: greeting, heartbeats, frames, refusals.

    bytes in    buffer() says where the next bytes belong, filled(k) that k of them are there; feed(bytes) does both
    events out  Opened, Delivered, Told, Refused, Closed
    bytes out   outgoing: control messages, in order; frames are sent by the transport itself, after `envelope`

Greeting: both say hello (versions, run, scenario hash, layout, agents, incarnation, nonce), then prove that they know
the shared secret by an HMAC over both nonces, then say joined: only who has heard "joined" has joined. Where no secret
is set the proof shows only that both are alive now. What a refusal names, both sides hear. The records of the stream
are in greeting.py.
"""

from __future__ import annotations

import hmac
import struct
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from p2pfrl.core.errors import WireError
from p2pfrl.core.types import Message
from p2pfrl.core.wire import VERSION, Decoder, Frame
from p2pfrl.world.greeting import (
    CONTROL,
    DATA,
    ENVELOPE,
    LENGTH,
    MAGIC,
    MAX_CONTROL,
    Identity,
    control,
    differences,
    open_envelope,
    parse_control,
    parse_hello,
    plain_text,
    printable,
)  # fmt: skip

_PREFIX = 12
_NOTHING = memoryview(bytearray())
_WINDOW = 256
_ROUNDS = 8
_FLOOR = 1024.0
"""Bytes per second below which a record is given up: a 9600 baud line; no LAN is slower, and a dripping sender is."""


@dataclass(frozen=True, slots=True)
class Opened:
    """Both sides have joined."""

    peer: Identity


@dataclass(slots=True)
class Delivered:
    """A frame arrived, decoded and checked."""

    to: tuple[int, ...]
    message: Message
    frame: Frame


@dataclass(frozen=True, slots=True)
class Told:
    """A control message of the application."""

    say: str
    body: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Refused:
    """Something was refused; the connection lives on. `reason` is one of a small fixed set."""

    reason: str
    detail: str
    agents: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Closed:
    """The connection must be closed, or is."""

    reason: str
    detail: str


Event = Opened | Delivered | Told | Refused | Closed


@dataclass(slots=True)
class _Reading:
    """What is being received: the step and its buffer."""

    step: Callable[[], list[Event]]
    buffer: memoryview
    have: int = 0


def _bin_prefix(payload: int) -> int:
    """Return the bytes of the `bin` prefix; the numbers behind it go straight into a buffer of their own."""
    return 2 if payload - 2 < 2**8 else 3 if payload - 3 < 2**16 else 5


class Session:
    """One connection.

    Attributes:
        outgoing: control records to send, oldest first; the transport empties it.
        peer: who is at the other end, once it has said hello.
        is_open: both have joined.
        was_open: both had joined, at some time.
        is_closed: nothing is read any more.
        refusals: count by reason.

    Args:
        own: what this process says of itself.
        decoder: checks frames; None before the layout is agreed (rendezvous).
        secret: shared secret; empty for none.
        dialer: whether this side opened the connection.
        now: seconds, monotonic.
        heartbeat: seconds of silence after which something is said.
        timeout: seconds of silence after which the other side counts as dead; also for the greeting.
        allowed: agent ids that the other side may claim by its certificate; None: any.
        check: looks at the other side's hello; returns (reason, detail) to refuse it, or None.
    """

    def __init__(
        self,
        own: Identity,
        decoder: Decoder,
        *,
        secret: bytes = b"",
        dialer: bool,
        now: float,
        heartbeat: float = 1.0,
        timeout: float = 3.0,
        allowed: Sequence[int] | None = None,
        check: Callable[[Identity], tuple[str, str] | None] = lambda identity: None,
    ) -> None:
        self.outgoing: list[bytes] = []
        self.peer: Identity | None = None
        self.is_open = False
        self.is_closed = False
        self.was_open = False
        self.refusals: dict[str, int] = {}
        self._own = own
        self._decoder = decoder
        self._secret = secret
        self._role = b"dialer" if dialer else b"acceptor"
        self._other_role = b"acceptor" if dialer else b"dialer"
        self._heartbeat = heartbeat
        self._timeout = timeout
        self._allowed = allowed
        self._check = check
        self._proved = False
        self._joined = False
        self._began = self._heard = self._spoke = now
        self._recipients: tuple[int, ...] = ()
        self._prefix = b""
        self._head = b""
        self._lead = b""
        self._rest = self._size = 0
        self._here = frozenset(own.agents)
        self._start = self._reading = self._expect(self._envelope, ENVELOPE.size)
        self._begun = now
        self._got = 0
        self._newest: dict[int, tuple[int, set[int]]] = {}
        self._contents: dict[tuple[int, str], dict[int, int]] = {}
        self._say(
            "hello", version=VERSION, run=own.run, scenario=own.scenario, layout=own.layout, agents=list(own.agents),
            incarnation=own.incarnation, nonce=own.nonce, host=own.address[0], port=own.address[1],
            settings=dict(own.settings),
        )  # fmt: skip

    # Bytes in.

    def buffer(self) -> memoryview:
        """Return where the next bytes belong."""
        return self._reading.buffer[self._reading.have :]

    def filled(self, count: int, now: float) -> list[Event]:
        """Return what follows from `count` bytes written to `buffer()`."""
        if self.is_closed:
            return []
        self._heard = now
        if not self._got:
            self._begun = now
        self._got += count
        reading = self._reading
        reading.have += count
        events: list[Event] = []
        while reading.have == len(reading.buffer) and not self.is_closed:
            try:
                events += reading.step()
            except WireError as error:
                events += self._close(error.reason, str(error))
            if self._reading is reading:
                break
            reading = self._reading
        return events

    def feed(self, data: bytes | memoryview, now: float) -> list[Event]:
        """Return what follows from `data`."""
        events: list[Event] = []
        view, at = memoryview(data), 0
        while at < len(view) and not self.is_closed:
            if taken := self._leap(view, at, now, events):
                at += taken
                continue
            buffer = self.buffer()
            count = min(len(view) - at, len(buffer))
            buffer[:count] = view[at : at + count]
            at += count
            events += self.filled(count, now)
        return events

    def _leap(self, view: memoryview, at: int, now: float, events: list[Event]) -> int:
        """Read a frame that begins at `at`, with its header complete, in one step; return how many bytes that were.

        Zero where it is anything else, or not as it should be: then step by step, which finds out what it is.
        """
        if self._reading is not self._start or self._start.have or not self.is_open:
            return 0
        lead = self._lead
        if not lead or bytes(view[at : at + len(lead)]) != lead:
            lead = self._lead = self._learn(view[at:])
            if not lead:
                return 0
        begin = at + len(lead)
        stop = begin + self._rest
        if len(view) < stop:
            return 0
        self._heard = self._begun = now
        self._head = bytes(view[begin - _PREFIX : stop])
        buffer = np.empty(self._size, np.uint8).data if self._size else _NOTHING
        end = stop + self._size
        if end <= len(view):
            buffer[:] = view[stop:end]
            events += self._frame(buffer)
            return end - at
        have = len(view) - stop
        buffer[:have] = view[stop:]
        self._reading = _Reading(self._payload, buffer, have)
        self._got = len(view) - at
        return self._got

    def _learn(self, view: memoryview) -> bytes:
        """Note what the envelope, recipients and lengths at the start of `view` say; return them, or nothing.

        The next frame mostly begins with the same bytes, and then nothing about them need be found out again.
        """
        if len(view) < ENVELOPE.size:
            return b""
        magic, version, kind, count = ENVELOPE.unpack_from(view)
        begin = ENVELOPE.size + 4 * count
        lead = bytes(view[: begin + _PREFIX])
        if magic != MAGIC or version != VERSION or kind != DATA or not count or len(lead) < begin + _PREFIX:
            return b""
        try:
            header, payload = self._decoder.lengths(lead[begin:])
        except WireError:
            return b""
        self._recipients = struct.unpack_from(f"<{count}i", lead, ENVELOPE.size)
        prefix = _bin_prefix(payload)
        self._rest, self._size = header + prefix, payload - prefix
        return lead

    def ended(self, refused: tuple[str, str] | None = None) -> list[Event]:
        """Return what follows from the end of the stream; `refused` is (reason, detail) where TLS gave one."""
        if self.is_closed:
            return []
        if refused is not None:
            return self._close(*refused)
        inside = self._reading.have > 0 or self._reading.step != self._envelope
        return self._close("truncated" if inside else "closed", "the other side closed the connection")

    # Time.

    def tick(self, now: float) -> list[Event]:
        """Return what follows from the time: a heartbeat to send, or a peer that is dead."""
        if self.is_closed:
            return []
        if not self.is_open and now - self._began > self._timeout:
            return self._close("greeting_timeout", f"no greeting within {self._timeout} s")
        if now - self._heard > self._timeout:
            return self._close("silent", f"nothing heard for {self._timeout} s")
        if self._got and self._got < _FLOOR * (now - self._begun - self._timeout):
            return self._close("too_slow", f"{self._got} bytes of a record in {now - self._begun:.1f} s")
        if self.is_open and now - self._spoke > self._heartbeat:
            self._say("alive")
            self._spoke = now
        return []

    def excuse(self, seconds: float) -> None:
        """Do not hold time against the other side in which this process did not run itself."""
        self._began += seconds
        self._heard += seconds
        self._begun += seconds

    def give_up(self, reason: str, detail: str) -> list[Event]:
        """Return what follows from the transport's decision to go on no longer."""
        return [] if self.is_closed else self._close(reason, detail)

    def spoke(self, now: float) -> None:
        """Note that something was sent at `now`."""
        self._spoke = now

    def say(self, say: str, **body: Any) -> None:
        """Send a control message of the application; to nobody, where the connection was closed meanwhile."""
        assert self.was_open, "nothing is said before both have joined"
        if self.is_open:
            self._say(say, **body)

    # Steps of reading.

    def _expect(self, step: Callable[[], list[Event]], size: int) -> _Reading:
        return _Reading(step, memoryview(bytearray(size)))

    def _envelope(self) -> list[Event]:
        kind, count = open_envelope(self._reading.buffer)
        if kind == CONTROL:
            self._reading = self._expect(self._control_length, LENGTH.size)
        elif not self.is_open:
            raise WireError("not_joined", "a frame before both have joined")
        else:
            self._reading = self._expect(self._to, 4 * count)
        return []

    def _control_length(self) -> list[Event]:
        (length,) = LENGTH.unpack(self._reading.buffer)
        if not 0 < length <= MAX_CONTROL:
            raise WireError("bad_length", f"a control message of {length} bytes; at most {MAX_CONTROL}")
        self._reading = self._expect(self._control, length)
        return []

    def _control(self) -> list[Event]:
        raw = bytes(self._reading.buffer)
        self._next()
        return self._obey(parse_control(raw))

    def _to(self) -> list[Event]:
        buffer = self._reading.buffer
        self._lead = b""
        self._recipients = struct.unpack(f"<{len(buffer) // 4}i", buffer)
        self._reading = self._expect(self._lengths, _PREFIX)
        return []

    def _lengths(self) -> list[Event]:
        self._prefix = bytes(self._reading.buffer)
        header, payload = self._decoder.lengths(self._prefix)
        prefix = _bin_prefix(payload)
        self._size = payload - prefix
        self._reading = self._expect(self._header, header + prefix)
        return []

    def _header(self) -> list[Event]:
        self._head = self._prefix + bytes(self._reading.buffer)
        if self._size <= 0:
            return self._frame(_NOTHING)
        self._reading = _Reading(self._payload, np.empty(self._size, np.uint8).data)
        return []

    def _payload(self) -> list[Event]:
        return self._frame(self._reading.buffer)

    def _next(self) -> None:
        self._start.have = 0
        self._reading = self._start
        self._got = 0

    def _frame(self, payload: memoryview) -> list[Event]:
        self._next()
        assert self.peer is not None
        try:
            message = self._decoder.parse(self._head, payload)
            if message.sender not in self.peer.agents:
                raise WireError("spoofed_sender", f"agent {message.sender} does not live at the other end")
            if message.incarnation != self.peer.incarnation:
                raise WireError("stale_incarnation", f"{message.incarnation}, joined as {self.peer.incarnation}")
            self._for_us()
            self._once(message)
            self._consistent(message)
        except WireError as error:
            return self._refuse(error.reason, str(error))
        frame = Frame(
            self._head, payload, kind=message.kind, round=message.round, sequence=message.sequence, crc=message.crc32
        )
        frame.message = message
        return [Delivered(self._recipients, message, frame)]

    def _once(self, message: Message) -> None:
        """Refuse a sequence number that was seen before; numbers may come out of order within a window."""
        sender, sequence = message.sender, message.sequence
        highest, seen = self._newest.get(sender) or (0, set())
        if sequence in seen or sequence <= highest - _WINDOW:
            raise WireError("replay", f"sequence {sequence} of agent {sender} was seen before")
        if sequence > highest:
            highest = sequence
        seen.add(sequence)
        if len(seen) > 2 * _WINDOW:
            seen = {s for s in seen if s > highest - _WINDOW}
        self._newest[sender] = highest, seen

    def _for_us(self) -> None:
        """Refuse recipients that do not live here, or that are named twice."""
        to = self._recipients
        if (len(to) > 1 and len(set(to)) != len(to)) or not self._here.issuperset(to):
            raise WireError("unknown_recipient", f"{len(to)} recipients, not all of them different agents of ours")

    def _consistent(self, message: Message) -> None:
        """Refuse a second content for the same round. A new connection may repeat a round with newer parameters."""
        key = message.sender, message.kind
        if (known := self._contents.get(key)) is None:
            known = self._contents[key] = {}
        if known.setdefault(message.round, message.crc32) != message.crc32:
            raise WireError("equivocation", f"agent {message.sender} sent two contents for round {message.round}")
        if len(known) > _ROUNDS:
            del known[next(iter(known))]

    # Control messages.

    def _obey(self, body: dict[str, Any]) -> list[Event]:
        say = body.pop("say")
        steps = {"hello": self._hello, "proof": self._proof, "joined": self._on_joined}
        if say in steps:
            return steps[say](body)
        if say == "refused":
            return self._close("refused_by_peer", plain_text(body.get("detail")))
        if say == "bye":
            return self._close("bye", "the other side left")
        if not self.is_open:
            raise WireError("not_joined", f"{say!r} before both have joined")
        return [] if say == "alive" else [Told(printable(say, 50), body)]

    def _hello(self, body: dict[str, Any]) -> list[Event]:
        if self.peer is not None:
            raise WireError("malformed", "a second hello")
        peer = parse_hello(body)
        own = self._own
        for name in ("run", "scenario", "layout"):
            ours, theirs = getattr(own, name), getattr(peer, name)
            if ours != theirs:
                return self._refuse_peer(
                    f"wrong_{name}", f"{name}: expected {ours!r}, got {theirs!r}{differences(own, peer)}"
                )
        if peer.nonce == own.nonce:
            return self._refuse_peer("self_connection", "this is our own hello")
        if self._allowed is not None and not set(peer.agents) <= set(self._allowed):
            return self._refuse_peer(
                "wrong_certificate", f"the certificate is for agents {sorted(self._allowed)}, hello says {peer.agents}"
            )
        problem = self._check(peer)
        if problem is not None:
            return self._refuse_peer(*problem)
        self.peer = peer
        self._say("proof", mac=self._mac(self._role, own.nonce, peer.nonce))
        return []

    def _proof(self, body: dict[str, Any]) -> list[Event]:
        if self.peer is None or self._proved:
            raise WireError("malformed", "a proof without a hello, or a second one")
        mac = body.get("mac")
        if not isinstance(mac, bytes) or not hmac.compare_digest(
            mac, self._mac(self._other_role, self.peer.nonce, self._own.nonce)
        ):
            return self._refuse_peer("wrong_secret", "the other side does not know the shared secret")
        self._proved = True
        self._say("joined")
        return self._open_if_ready()

    def _on_joined(self, body: dict[str, Any]) -> list[Event]:
        if not self._proved or self._joined:
            raise WireError("malformed", "joined before the proof, or for the second time")
        self._joined = True
        return self._open_if_ready()

    def _open_if_ready(self) -> list[Event]:
        if not (self._proved and self._joined) or self.is_open:
            return []
        self.is_open = self.was_open = True
        assert self.peer is not None
        return [Opened(self.peer)]

    def _mac(self, role: bytes, speaker: bytes, listener: bytes) -> bytes:
        return hmac.digest(self._secret or b"-", role + b"|" + speaker + b"|" + listener, "sha256")

    def _say(self, say: str, **body: Any) -> None:
        self.outgoing.append(control(say, **body))

    def _refuse(self, reason: str, detail: str) -> list[Event]:
        self.refusals[reason] = self.refusals.get(reason, 0) + 1
        return [Refused(reason, detail, self.peer.agents if self.peer else ())]

    def _refuse_peer(self, reason: str, detail: str) -> list[Event]:
        detail = printable(detail, 1000)  # it quotes the other side, which may have said a lot
        self._say("refused", reason=reason, detail=detail)
        return self._close(reason, detail)

    def _close(self, reason: str, detail: str) -> list[Event]:
        self.refusals[reason] = self.refusals.get(reason, 0) + 1
        self.is_closed = True
        self.is_open = False
        # A session refers to itself through its step: without this its buffer would live until the next collection.
        self._start = self._reading = _Reading(list, _NOTHING)
        return [Closed(reason, detail)]
