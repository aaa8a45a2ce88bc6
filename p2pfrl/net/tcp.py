"""Links: TCP connections that carry one session each.

Waiting frames have one slot per (sender, kind), and the newest replaces an older one. So a slow
reader costs memory for the bytes in transit and one frame per slot, never a growing queue. Frames
are sent in pieces of 256 KB, so that control messages and heartbeats can pass between them.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
import sys
from collections import deque
from collections.abc import Callable, Sequence
from typing import cast

from p2pfrl.core.types import Frame
from p2pfrl.net.allowance import Allowance
from p2pfrl.net.records import envelope
from p2pfrl.net.session import Event, Session
from p2pfrl.net.tls import refusal

PIECE = 256 * 1024
STAGE = 256 * 1024
_DIRECT = 32 * 1024
"""Size in bytes from which (the rest of) a payload is received into its final buffer, uncopied."""

_GLANCE = 512
"""Bytes received after a large payload: the next header, and few bytes that must be copied."""

_GULP = 16 * 1024
"""Bytes received at once from a sender that has used its allowance."""

_MIN_RTT = 148
_KEEPALIVE = {"TCP_KEEPIDLE": 1, "TCP_KEEPINTVL": 1, "TCP_KEEPCNT": 2}


class Link(asyncio.BufferedProtocol):
    """One connection.

    Attributes:
        session: the state machine.
        closed: whether the connection is closed.
        frames_replaced: number of frames replaced by a newer one of the same sender and kind before
            they were sent.
        bytes_sent: bytes given to the transport.
        round_trip: smallest round trip, in seconds, that the kernel had measured at the last query.

    Args:
        session: (link, transport) -> its session, made with the connection, because it needs the
            peer's certificate.
        on_events: called with (link, events) in order.
        clock: monotonic seconds.
        timeout: seconds after which the kernel stops repeating an unacknowledged segment.
    """

    def __init__(
        self,
        session: Callable[[Link, asyncio.Transport], Session],
        on_events: Callable[[Link, list[Event]], None],
        clock: Callable[[], float],
        timeout: float,
    ) -> None:
        self.session: Session
        self.closed = asyncio.Event()
        self.frames_replaced = 0
        self.round_trip: float | None = None
        self.bytes_sent = 0
        self._make = session
        self._on_events = on_events
        self._clock = clock
        self._timeout = timeout
        self._transport: asyncio.Transport
        self._paused = False
        self._progress = asyncio.Event()  # set where a queue was sent, and where the link closes
        self._cut: asyncio.TimerHandle | None = None
        self._stuck: tuple[float, int] | None = None
        self._allowance = Allowance(clock())
        self._rest: asyncio.TimerHandle | None = None
        self._stage = memoryview(bytearray(STAGE))
        self._direct: memoryview | None = None
        self._is_large = self._is_fast = False
        self._control: deque[bytes] = deque()
        self._slots: dict[tuple[int, str, tuple[int, ...]], tuple[tuple[int, ...], Frame]] = {}
        self._sending: deque[memoryview | bytes] = deque()
        self._to: tuple[int, ...] = ()
        self._envelope = envelope(())

    @property
    def transport(self) -> asyncio.Transport:
        """The connection below."""
        return self._transport

    @property
    def pending(self) -> int:
        """Number of frames and pieces that the transport has not taken yet."""
        return len(self._slots) + len(self._sending)

    @property
    def is_sending(self) -> bool:
        """Whether the link is open and the transport has not taken everything yet."""
        return self.session.is_open and self.pending > 0

    async def sent(self) -> None:
        """Wait until the transport has taken everything, or the link is not open any more."""
        while self.is_sending:
            self._progress.clear()
            await self._progress.wait()

    def tls(self) -> ssl.SSLObject | None:
        """Return the connection's TLS object; None over plain TCP."""
        return cast("ssl.SSLObject | None", self._transport.get_extra_info("ssl_object"))

    def peer_host(self) -> str:
        """Return the host at the other end, or "" if the connection has already closed."""
        name = self._transport.get_extra_info("peername")
        return str(name[0]) if name else ""

    def local_host(self) -> str:
        """Return the host at this end, or "" if the connection has already closed."""
        name = self._transport.get_extra_info("sockname")
        return str(name[0]) if name else ""

    def where(self) -> str:
        """Return host and port at the other end, for the log."""
        return ":".join(map(str, (self._transport.get_extra_info("peername") or ("gone",))[:2]))

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Set the socket's options and send the greeting."""
        self._transport = cast(asyncio.Transport, transport)  # uvloop's own class is not a subclass
        self._transport.set_write_buffer_limits(high=2 * PIECE, low=PIECE // 2)
        _tune(self._transport.get_extra_info("socket"), self._timeout)
        self.session = self._make(self, self._transport)
        self.flush()

    def get_buffer(self, sizehint: int) -> memoryview:
        """Return the buffer for the next bytes. A large payload has its own and is never copied."""
        self._direct = self.session.buffer()
        if len(self._direct) >= _DIRECT:
            self._is_large = len(self._direct) >= STAGE
            return self._direct
        self._direct = None
        if self._is_fast:
            return self._stage[:_GULP]
        return self._stage[:_GLANCE] if self._is_large else self._stage

    def buffer_updated(self, nbytes: int) -> None:
        """Process `nbytes` received bytes."""
        if self._direct is None:
            self._is_large = False
            events = self.session.feed(self._stage[:nbytes], self._clock())
        else:
            events = self.session.filled(nbytes, self._clock())
        self._handle(events)
        self._limit(len(events))

    def _limit(self, messages: int) -> None:
        """Stop reading for a while if the other side sends faster than its allowance."""
        peer, now = self.session.peer, self._clock()
        seconds = self._allowance.spend(messages, len(peer.agents) if peer else 0, now)
        self._is_fast = seconds > 0
        if not seconds or self._rest is not None or self._transport.is_closing():
            return
        self._transport.pause_reading()
        self.session.excuse(seconds)  # it is we who do not listen
        self._rest = asyncio.get_running_loop().call_later(seconds, self._read_on)

    def _read_on(self) -> None:
        self._rest = None
        if not self._transport.is_closing():
            self._transport.resume_reading()

    def eof_received(self) -> bool:
        """Close the connection."""
        self.measure()
        self._handle(self.session.ended())
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        """Inform the session and release everything that the connection held."""
        self.closed.set()
        if self._rest is not None:
            self._rest.cancel()
        if self._cut is not None:
            self._cut.cancel()
        if self._paused and isinstance(exc, TimeoutError):
            self._handle(self.session.give_up("slow_reader", f"the kernel gave up sending: {exc}"))
        else:
            self._handle(
                self.session.ended(refusal(exc) if isinstance(exc, ssl.SSLError) else None)
            )
        self._progress.set()

    def pause_writing(self) -> None:
        """Stop sending pieces."""
        self._paused = True

    def resume_writing(self) -> None:
        """Go on sending pieces."""
        self._paused = False
        self.flush()

    def tick(self) -> None:
        """Let the session check the time. Close if the reader took nothing for one timeout."""
        now = self._clock()
        self.measure()
        self._handle(self.session.tick(now))
        waiting = self._transport.get_write_buffer_size() if self._paused else 0
        taken = self.bytes_sent - waiting
        if not waiting:
            self._stuck = None
        elif self._stuck is None or taken > self._stuck[1]:
            self._stuck = now, taken
        elif now - self._stuck[0] > self._timeout:
            self._handle(
                self.session.give_up(
                    "slow_reader", f"{waiting} bytes not read for {self._timeout} s"
                )
            )

    def excuse(self, seconds: float) -> None:
        """Extend all deadlines by `seconds` during which this process itself did not run."""
        self.session.excuse(seconds)
        if self._stuck is not None:
            self._stuck = self._stuck[0] + seconds, self._stuck[1]

    def send(self, to: Sequence[int], frame: Frame, sender: int) -> None:
        """Send a frame. It replaces a waiting frame of the same sender and kind.

        Frames that go to one agent alone replace those to the same agent: they may differ.
        """
        session, transport = self.session, self._transport
        waits = self._paused or self._slots or self._sending or self._control or session.outgoing
        if (
            not waits
            and 0 < len(frame.payload) <= PIECE
            and session.is_open
            and not transport.is_closing()
        ):
            begin = self._begin(tuple(to), frame)
            self.bytes_sent += len(begin) + len(frame.payload)
            transport.writelines((begin, frame.payload))
            session.spoke(self._clock())
            return
        slot = (sender, frame.kind, tuple(to) if len(to) == 1 else ())
        if slot in self._slots:
            self.frames_replaced += 1
        self._slots[slot] = tuple(to), frame
        self.flush()

    def close(self, say: str | None = None, **body: object) -> None:
        """Close the connection once everything queued has been sent."""
        if say is not None and self.session.is_open:
            self.session.say(say, **body)
        self.flush()
        self.shut()

    def shut(self) -> None:
        """Close after pending data is sent.

        A reader that takes nothing for one timeout is cut off.
        """
        if not self._transport.is_closing():
            self._transport.close()
            if not self.closed.is_set():
                self._cut = asyncio.get_running_loop().call_later(self._timeout, self.abort)

    def abort(self) -> None:
        """Close the connection at once."""
        self._transport.abort()

    def measure(self) -> None:
        """Read the smallest round trip that the kernel has measured, if it reports one.

        It is `tcpi_min_rtt` of Linux's `struct tcp_info`: microseconds, at offset 148.
        """
        sock = self._transport.get_extra_info("socket")
        if sock is None or not hasattr(socket, "TCP_INFO"):
            return
        with contextlib.suppress(
            OSError, ValueError
        ):  # ValueError: uvloop's, of a socket that has just been closed
            info = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 256)
            microseconds = int.from_bytes(info[_MIN_RTT : _MIN_RTT + 4], sys.byteorder)
            if 0 < microseconds < 2**32 - 1:
                self.round_trip = microseconds / 1e6

    def flush(self) -> None:
        """Send control messages, then pieces of frames, as long as the transport accepts them."""
        session, transport = self.session, self._transport
        if session.outgoing:
            self._control.extend(session.outgoing)
            session.outgoing.clear()
        if transport.is_closing():
            return
        before = self.bytes_sent
        while not self._paused and not transport.is_closing():
            if self._control and not self._sending:
                piece: memoryview | bytes = self._control.popleft()
            elif self._sending:
                piece = self._sending.popleft()
            elif self._slots and session.is_open:
                self._load(*self._slots.pop(next(iter(self._slots))))
                continue
            else:
                break
            self.bytes_sent += len(piece)
            transport.write(piece)
        if self.bytes_sent > before:
            session.spoke(self._clock())
        if not self.is_sending:
            self._progress.set()

    def _load(self, to: tuple[int, ...], frame: Frame) -> None:
        """Split a frame into pieces."""
        self._sending.append(self._begin(to, frame))
        payload = frame.payload
        self._sending.extend(payload[i : i + PIECE] for i in range(0, len(payload), PIECE))

    def _begin(self, to: tuple[int, ...], frame: Frame) -> bytes:
        """Return the bytes that precede a frame's payload."""
        if to != self._to:
            self._to, self._envelope = to, envelope(to)
        return self._envelope + frame.head

    def _handle(self, events: list[Event]) -> None:
        if self.session.outgoing:
            self.flush()
        if events:
            self._on_events(self, events)


def _tune(sock: socket.socket | None, timeout: float) -> None:
    """Disable Nagle's delay and let the kernel find dead links (keepalive, TCP_USER_TIMEOUT)."""
    if sock is None or sock.family not in (socket.AF_INET, socket.AF_INET6):
        return
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in _KEEPALIVE.items():
        if hasattr(socket, name):
            sock.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)
    if hasattr(socket, "TCP_USER_TIMEOUT"):
        with contextlib.suppress(OSError):
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, round(timeout * 1000))
