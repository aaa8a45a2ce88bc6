"""Session: one connection between two processes, as a state machine without I/O.

    bytes in    buffer() is where the next bytes go, filled(k) reports them; feed(bytes) does both
    events out  Opened, Delivered, Control, Refused, Closed
    bytes out   outgoing: control messages, in order; the transport sends frames, after `envelope`

The greeting is a state machine of its own (handshake.py), and so is the separation of the stream
into records (stream.py). Both sides learn the reason of a refusal.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from p2pfrl.core.errors import WireError
from p2pfrl.core.types import NOTICES, OPTED_OUT, Message, called
from p2pfrl.core.wire import Decoder
from p2pfrl.net.handshake import STEPS, Handshake, UnwelcomeError
from p2pfrl.net.records import Identity, control, plain_text, printable
from p2pfrl.net.stream import RawFrame, Reader


@dataclass(frozen=True, slots=True)
class Opened:
    """Both sides have joined."""

    peer: Identity


@dataclass(slots=True)
class Delivered:
    """A frame arrived, decoded and checked."""

    to: tuple[int, ...]
    message: Message


@dataclass(frozen=True, slots=True)
class Control:
    """A control message of the application."""

    say: str
    body: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Refused:
    """Something was refused; the connection stays open. `reason` is one of a small fixed set."""

    reason: str
    detail: str
    agents: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Closed:
    """The connection is closed, or must be.

    Attributes:
        rounds: that the agents of the other side had ended, where they have opted out.
    """

    reason: str
    detail: str
    rounds: int = 0


Event = Opened | Delivered | Control | Refused | Closed


__all__ = ["Closed", "Control", "Delivered", "Event", "Opened", "Refused", "Session"]

_WINDOW = 256
_ROUNDS = 8
_MOST_ROUNDS = 2**62
_FLOOR = 1024.0
"""Minimum rate of a record in bytes per second, that of a 9600 baud line.

No LAN is slower, but a sender that blocks the connection on purpose is."""


class _Seen:
    """The highest sequence number of a sender, and the earlier ones that arrived."""

    __slots__ = ("highest", "numbers")

    def __init__(self) -> None:
        self.highest = 0
        self.numbers: set[int] = set()


class Session:
    """One connection.

    Attributes:
        outgoing: control records to send, oldest first; the transport empties it.
        peer: the identity of the other side, once its hello has arrived.
        is_open: whether both sides have joined.
        was_open: whether both sides had joined at some time.
        is_closed: whether reading has ended.
        refusals: count by reason.
        certified: agents in the other side's certificate; none where there is no certificate.

    Args:
        own: identity of this process.
        decoder: checks frames; None before the layout is agreed (rendezvous).
        secret: shared secret; empty for none.
        dialer: whether this side opened the connection.
        now: seconds, monotonic.
        heartbeat: seconds without a message after which a heartbeat is sent.
        timeout: seconds of silence after which the other side counts as dead; also the time limit
            of the greeting.
        allowed: agent ids in the other side's certificate; None for any.
        check: checks the other side's hello; returns (reason, detail) to refuse it, or None.
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
        self.certified = tuple(allowed or ())
        self._agents = frozenset(own.agents)
        self._heartbeat = heartbeat
        self._timeout = timeout
        self._began = self._heard = self._spoke = self._begun = now
        self._decoder = decoder
        self._handshake = Handshake(own, secret=secret, dialer=dialer, allowed=allowed, check=check)
        self._reader = Reader(decoder)
        self._newest: dict[int, _Seen] = {}
        self._epoch = 0
        self._contents: dict[tuple[int, str, int, tuple[int, ...]], dict[int, int]] = {}
        self.outgoing.append(self._handshake.hello())

    # Bytes in.

    def buffer(self) -> memoryview:
        """Return the buffer that the next bytes go into."""
        return self._reader.buffer()

    def filled(self, count: int, now: float) -> list[Event]:
        """Return the events that `count` bytes written to `buffer()` cause."""
        if self.is_closed:
            return []
        self._heard = now
        reader = self._reader
        if not reader.got:
            self._begun = now
        try:
            record = reader.filled(count)
            if record is None:
                return []
            return self._frame(record) if isinstance(record, RawFrame) else self._obey(record)
        except WireError as error:
            return self._close(error.reason, str(error))

    def feed(self, data: bytes | memoryview, now: float) -> list[Event]:
        """Return the events that `data` causes."""
        events: list[Event] = []
        view, at, reader = memoryview(data), 0, self._reader
        while at < len(view) and not self.is_closed:
            taken, raw = reader.leap(view, at)
            if taken:
                self._heard = self._begun = now
                at += taken
                if raw is not None:
                    events += self._frame(raw)
                continue
            buffer = reader.buffer()
            count = min(len(view) - at, len(buffer))
            buffer[:count] = view[at : at + count]
            at += count
            events += self.filled(count, now)
        return events

    def ended(self, refused: tuple[str, str] | None = None) -> list[Event]:
        """Return the events at the end of the stream; `refused` is TLS's (reason, detail)."""
        if self.is_closed:
            return []
        if refused is not None:
            return self._close(*refused)
        return self._close(
            "truncated" if self._reader.is_inside else "closed",
            "the other side closed the connection",
        )

    # Time.

    def tick(self, now: float) -> list[Event]:
        """Return the events due at `now`: a heartbeat to send, or a peer that is dead."""
        if self.is_closed:
            return []
        if not self.is_open and now - self._began > self._timeout:
            return self._close("greeting_timeout", f"no greeting within {self._timeout} s")
        if now - self._heard > self._timeout:
            return self._close("silent", f"nothing heard for {self._timeout} s")
        got = self._reader.got
        if got and got < _FLOOR * (now - self._begun - self._timeout):
            return self._close("too_slow", f"{got} bytes of a record in {now - self._begun:.1f} s")
        if self.is_open and now - self._spoke > self._heartbeat:
            self._say("alive")
            self._spoke = now
        return []

    def excuse(self, seconds: float) -> None:
        """Extend all deadlines by `seconds` during which this process itself did not run."""
        self._began += seconds
        self._heard += seconds
        self._begun += seconds

    def silence(self, now: float) -> float:
        """Return the seconds since the last byte arrived."""
        return now - self._heard

    def give_up(self, reason: str, detail: str) -> list[Event]:
        """Close the session because the transport gave up; return the events."""
        return [] if self.is_closed else self._close(reason, detail)

    def expel(self, reason: str, detail: str) -> list[Event]:
        """Close the session and tell the other side why; return the events."""
        return [] if self.is_closed else self._refuse_peer(reason, detail)

    def spoke(self, now: float) -> None:
        """Record that something was sent at `now`."""
        self._spoke = now

    def say(self, say: str, **body: Any) -> None:
        """Send a control message, unless the connection has closed meanwhile."""
        assert self.was_open, "nothing is said before both have joined"
        if self.is_open:
            self._say(say, **body)

    # Frames.

    def _frame(self, raw: RawFrame) -> list[Event]:
        assert self.peer is not None
        try:
            message = self._decoder.open(raw.head, raw.end, raw.payload)
            if message.sender not in self.peer.agents:
                raise WireError(
                    "spoofed_sender", f"{called(message.sender)} does not live at the other end"
                )
            if message.incarnation != self.peer.incarnation:
                raise WireError(
                    "stale_incarnation", f"{message.incarnation}, joined as {self.peer.incarnation}"
                )
            self._for_us(raw.to)
            self._once(message)
            self._consistent(message, raw.to)
        except WireError as error:
            return self._refuse(error.reason, str(error))
        return [Delivered(raw.to, message)]

    def _once(self, message: Message) -> None:
        """Refuse a sequence number that was seen before.

        Within a window numbers may be out of order.
        """
        sequence, known = message.sequence, self._newest.get(message.sender)
        if known is None:
            known = self._newest[message.sender] = _Seen()
        if sequence <= known.highest:
            if sequence in known.numbers or sequence <= known.highest - _WINDOW:
                raise WireError(
                    "replay", f"sequence {sequence} of {called(message.sender)} was seen before"
                )
        else:
            known.highest = sequence
        known.numbers.add(sequence)
        if len(known.numbers) > 2 * _WINDOW:
            known.numbers = {s for s in known.numbers if s > known.highest - _WINDOW}

    def _for_us(self, to: tuple[int, ...]) -> None:
        """Refuse recipients that are not agents of this process, or that occur twice."""
        if (len(to) > 1 and len(set(to)) != len(to)) or not self._agents.issuperset(to):
            raise WireError(
                "unknown_recipient",
                f"{len(to)} recipients, not all of them different agents of ours",
            )

    def _consistent(self, message: Message, to: tuple[int, ...]) -> None:
        """Refuse a second content for the same round.

        A new connection may repeat a round, and so may a new term of office. A voter's answer
        depends on what the other one has. What is sent to one agent alone may differ from what the
        others here are sent.
        """
        if message.kind in NOTICES:
            return
        if message.epoch > self._epoch:  # nothing of earlier ones will come that is not refused
            self._epoch = message.epoch
            self._contents.clear()
        key = message.sender, message.kind, message.epoch, to if len(to) == 1 else ()
        if (known := self._contents.get(key)) is None:
            known = self._contents[key] = {}
        if known.setdefault(message.round, message.crc32) != message.crc32:
            raise WireError(
                "equivocation",
                f"{called(message.sender)} sent two contents for round {message.round}",
            )
        if len(known) > _ROUNDS:
            del known[next(iter(known))]

    # Control messages.

    def _obey(self, body: dict[str, Any]) -> list[Event]:
        say = body.pop("say")
        if say in STEPS:
            return self._greet(say, body)
        if say == "refused":
            return self._close("refused_by_peer", plain_text(body.get("detail")))
        if say == "bye":
            if body.get("done") is True:
                return self._close("done", "the other side has finished")
            rounds = body.get(OPTED_OUT)
            if type(rounds) is int and 0 <= rounds < _MOST_ROUNDS:
                detail = f"the other side has opted out after {rounds} rounds"
                return self._close(OPTED_OUT, detail, rounds)
            why = plain_text(body.get("why", ""))
            return self._close("bye", f"the other side left{f': {why}' if why else ''}")
        if not self.is_open:
            raise WireError("not_joined", f"{say!r} before both have joined")
        return [] if say == "alive" else [Control(printable(say, 50), body)]

    def _greet(self, say: str, body: dict[str, Any]) -> list[Event]:
        try:
            answer = self._handshake.step(say, body)
        except UnwelcomeError as error:
            return self._refuse_peer(error.reason, error.detail)
        self.peer = self._handshake.peer
        if answer:
            self.outgoing.append(answer)
        if not self._handshake.is_done:
            return []
        assert self.peer is not None
        self.is_open = self.was_open = self._reader.may_deliver = True
        return [Opened(self.peer)]

    def _say(self, say: str, **body: Any) -> None:
        self.outgoing.append(control(say, **body))

    def _refuse(self, reason: str, detail: str) -> list[Event]:
        self.refusals[reason] = self.refusals.get(reason, 0) + 1
        return [Refused(reason, detail, self.peer.agents if self.peer else ())]

    def _refuse_peer(self, reason: str, detail: str) -> list[Event]:
        detail = printable(detail, 1000)  # it quotes the other side and may be long
        self._say("refused", reason=reason, detail=detail)
        return self._close(reason, detail)

    def _close(self, reason: str, detail: str, rounds: int = 0) -> list[Event]:
        self.refusals[reason] = self.refusals.get(reason, 0) + 1
        self.is_closed = True
        self.is_open = False
        self._reader.close()
        return [Closed(reason, detail, rounds)]
