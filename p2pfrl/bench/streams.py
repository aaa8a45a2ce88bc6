"""Streams of messages to another process on loopback: over a link, and over a blocking socket."""

from __future__ import annotations

import asyncio
import contextlib
import multiprocessing
import socket
import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import uvloop

from p2pfrl.core.parameters import Vector
from p2pfrl.core.types import UPDATE, Frame
from p2pfrl.core.wire import Decoder, Encoder
from p2pfrl.net.listener import listen
from p2pfrl.net.records import Identity, envelope
from p2pfrl.net.session import Closed, Control, Delivered, Event, Opened, Session
from p2pfrl.net.tcp import Link
from p2pfrl.net.tls import contexts

WAIT = 120.0
HERE, THERE = 0, 1
Trust = tuple[Path, Path, Path]
"""Files of the authority's certificate, of a certificate, and of its key."""

_COUNT = struct.Struct("<qq")
_TIMEOUT = struct.pack("ll", int(WAIT), 0)


class Stream(Protocol):
    """A stream from this process to another.

    Attributes:
        nbytes: bytes of one message on the stream.
    """

    nbytes: int

    def prepare(self, count: int) -> None:
        """Make `count` messages. This call is not timed."""

    def run(self) -> None:
        """Send them, and wait until the other side reports that it has received all."""


class Unread(Decoder):
    """Decoder without the checks that read every number."""

    def _verify(self, payload: memoryview, crc: int) -> None:
        """Skip the payload's checksum."""

    def _search(self, vector: Vector) -> None:
        """Skip the search for NaN and infinity."""


def decoder_for(size: int, *, is_checked: bool) -> Decoder:
    """Return the decoder of a receiver of `size` numbers."""
    return (Decoder if is_checked else Unread)(
        "run", agents=2, parts=("p",), size=size, dtype="float32"
    )


def encode(encoder: Encoder, vector: Vector) -> Frame:
    """Return the next message of a stream."""
    return encoder.encode(vector, kind=UPDATE, round=encoder.sequence, parts=("p",))


@contextlib.contextmanager
def _process(target: Callable[..., None], *arguments: object) -> Iterator[None]:
    process = multiprocessing.get_context("spawn").Process(
        target=target, args=arguments, daemon=True
    )
    process.start()
    try:
        yield
    finally:
        process.kill()
        process.join(WAIT)


# Sockets.


@contextlib.contextmanager
def sockets(size: int) -> Iterator[Stream]:
    """Yield a stream of messages of `size` numbers over a blocking socket."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(WAIT)
        with _process(_read, server.getsockname()[1]):
            connection, _ = server.accept()
            with connection:
                yield _Blocking(connection, size)


class _Blocking:
    def __init__(self, sock: socket.socket, size: int) -> None:
        frame = encode(Encoder("run", HERE), np.ones(size, "<f4"))
        self._raw = envelope([THERE]) + frame.head + frame.payload
        self.nbytes = len(self._raw)
        self._sock = _still_blocking(sock)
        self._count = 0

    def prepare(self, count: int) -> None:
        self._count = count

    def run(self) -> None:
        self._sock.sendall(_COUNT.pack(self._count, self.nbytes))
        for _ in range(self._count):
            self._sock.sendall(self._raw)
        assert self._sock.recv(1), "the other end is gone"


def _still_blocking(sock: socket.socket) -> socket.socket:
    """Limit each call by the kernel's timeout: Python's own would poll before every call."""
    sock.settimeout(None)
    for option in (socket.SO_RCVTIMEO, socket.SO_SNDTIMEO):
        sock.setsockopt(socket.SOL_SOCKET, option, _TIMEOUT)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return sock


def _read(port: int) -> None:
    buffer = memoryview(b"")
    with _still_blocking(socket.create_connection(("127.0.0.1", port), WAIT)) as sock:
        while start := sock.recv(_COUNT.size, socket.MSG_WAITALL):
            count, nbytes = _COUNT.unpack(start)
            if len(buffer) != nbytes:
                buffer = memoryview(bytearray(nbytes))
            for _ in range(count):
                have = 0
                while have < nbytes:
                    have += sock.recv_into(buffer[have:])
            sock.sendall(b"k")


# Links.


@contextlib.contextmanager
def links(
    size: int, *, is_checked: bool, trust: tuple[Trust, Trust] | None = None
) -> Iterator[Stream]:
    """Yield a stream of messages of `size` numbers over a link.

    Args:
        size: numbers in a message.
        is_checked: whether each message is encoded when it is sent and decoded completely. If not,
            frames are made beforehand and only their headers are checked.
        trust: files for mutual TLS: (ours, the other's); None for plain TCP.
    """
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        server = contexts(*trust[0])[0] if trust else None
        listener, address = runner.run(listen(("127.0.0.1", 0), server))
        stream = _Linked(runner, size, is_checked=is_checked)
        listener.accept = stream.accept
        with _process(_receive, address, size, is_checked, trust[1] if trust else None):
            runner.run(stream.wait())
            yield stream
        runner.run(asyncio.wait_for(stream.link.closed.wait(), WAIT))
        listener.server.close()


class _Sender(Link):
    """Sends the next frame whenever none waits."""

    frames: Iterator[Frame] = iter(())

    def resume_writing(self) -> None:
        super().resume_writing()
        self.pump()

    def pump(self) -> None:
        while not self.pending and (frame := next(self.frames, None)) is not None:
            self.send((THERE,), frame, HERE)


class _Linked:
    def __init__(self, runner: asyncio.Runner, size: int, *, is_checked: bool) -> None:
        self.link: _Sender
        self._runner = runner
        self._encoder = Encoder("run", HERE)
        self._vector = np.ones(size, "<f4")
        self._is_checked = is_checked
        self._done = asyncio.Event()
        frame = encode(self._encoder, self._vector)
        self.nbytes = len(envelope([THERE])) + frame.nbytes

    def accept(self) -> Link:
        self.link = _Sender(
            _session(HERE, decoder_for(1, is_checked=True)), self._on_events, _now, WAIT
        )
        return self.link

    def prepare(self, count: int) -> None:
        self._count = count
        frames: Iterator[Frame] = (encode(self._encoder, self._vector) for _ in range(count))
        self.link.frames = frames if self._is_checked else iter(list(frames))

    def run(self) -> None:
        self._runner.run(self._run())

    async def wait(self) -> None:
        """Wait for the other side."""
        async with asyncio.timeout(WAIT):
            await self._done.wait()

    async def _run(self) -> None:
        self._done.clear()
        self.link.session.say("count", count=self._count)
        self.link.flush()
        self.link.pump()
        await self.wait()

    def _on_events(self, link: Link, events: list[Event]) -> None:
        for event in events:
            assert isinstance(event, (Opened, Control, Closed)), event
            self._done.set()


def _now() -> float:
    return asyncio.get_running_loop().time()


def _session(agent: int, decoder: Decoder) -> Callable[[Link, asyncio.Transport], Session]:
    own = Identity("run", "hash", "layout", (agent,), 0, b"", ("127.0.0.1", 1))
    return lambda link, transport: Session(own.fresh(), decoder, dialer=agent == THERE, now=_now())


def _receive(address: tuple[str, int], size: int, is_checked: bool, trust: Trust | None) -> None:
    left = 0

    def on_events(link: Link, events: list[Any]) -> None:
        nonlocal left
        for event in events:
            if isinstance(event, Delivered):
                left -= 1
                if not left:
                    link.session.say("done")
                    link.flush()
            elif isinstance(event, Control):
                left = event.body["count"]
            else:
                assert isinstance(event, (Opened, Closed)), event

    async def main() -> None:
        context = contexts(*trust)[1] if trust else None
        _, link = await asyncio.get_running_loop().create_connection(
            lambda: Link(
                _session(THERE, decoder_for(size, is_checked=is_checked)), on_events, _now, WAIT
            ),
            *address,
            ssl=context,
            server_hostname="" if context else None,
        )
        await link.closed.wait()

    uvloop.run(main())
