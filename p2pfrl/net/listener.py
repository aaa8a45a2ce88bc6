"""Incoming connections of a process, limited before TLS has authenticated them."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import cast

from p2pfrl.core.errors import P2PFRLError
from p2pfrl.net.admission import Admission
from p2pfrl.net.fleet import Address
from p2pfrl.net.tcp import Link
from p2pfrl.net.tls import was_reported

HANDSHAKE = 5.0
"""Timeout in seconds for the TLS handshake of an incoming connection."""

_BACKLOG = 128
_BROKEN_OFF = (
    "the other side broke off the TLS handshake: it refused our certificate, or was no peer; "
    "issue all certificates from one directory"
)
_PAUSE = 0.1
"""Seconds until the next attempt if the system has no free descriptor for a connection."""

Refused = Callable[[str, str, tuple[int, ...], str], None]


def _nothing(reason: str, detail: str, agents: tuple[int, ...], where: str) -> None:
    """Ignore a refusal, because nothing counts refusals yet."""


@dataclass(eq=False)
class Listener:
    """A listening socket whose `accept` creates the protocol of each connection.

    Attributes:
        accept: makes the protocol of a connection. While it is None, connections are closed.
        refused: receives (reason, detail, no agents, where) of connections without a greeting.
        expected: number of processes that will connect, possibly all at once and from one host.
        server: the socket, to be closed.
    """

    accept: Callable[[], Link] | None = None
    refused: Refused = _nothing
    expected: int = 0
    server: asyncio.Server | TlsListener = field(init=False)

    def welcome(self, accept: Callable[[], Link], refused: Refused, expected: int) -> None:
        """Pass connections to `accept` from now on."""
        self.accept, self.refused, self.expected = accept, refused, expected

    def __call__(self) -> asyncio.BaseProtocol:
        """Return the protocol of a new connection."""
        return _Busy() if self.accept is None else self.accept()


class _Busy(asyncio.Protocol):
    """Closes a connection that arrives before the process is ready. The other side tries again."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        cast(asyncio.Transport, transport).abort()


class TlsListener:
    """A listening socket that counts connections before their TLS handshake.

    A server of asyncio or uvloop reports a connection only after its TLS handshake. Until then it
    does not count a silent connection, which costs a descriptor. Here the limits of `Admission`
    hold.

    Args:
        sock: listening socket.
        context: TLS context.
        listener: makes the protocols.
    """

    def __init__(self, sock: socket.socket, context: ssl.SSLContext, listener: Listener) -> None:
        self._sock = sock
        self._context = context
        self._listener = listener
        self._waiting: Admission[asyncio.Task[None]] = Admission(self._close)
        self._loop = asyncio.get_running_loop()
        self._accepting = self._loop.create_task(self._accept())

    def __len__(self) -> int:
        """Return the number of connections in their TLS handshake."""
        return len(self._waiting)

    @property
    def sockets(self) -> tuple[socket.socket, ...]:
        """The listening socket."""
        return (self._sock,)

    def close(self) -> None:
        """Stop listening. Connections that have finished their handshake stay open."""
        self._accepting.cancel()
        for task in self._waiting:
            task.cancel()
        self._sock.close()

    async def _accept(self) -> None:
        while True:
            try:
                sock, name = await self._loop.sock_accept(self._sock)
            except OSError:
                await asyncio.sleep(_PAUSE)
                continue
            host, where = str(name[0]), f"{name[0]}:{name[1]}"
            task = self._loop.create_task(self._shake_hands(sock, where), name=where)
            self._waiting.admit(task, host, self._listener.expected)
            task.add_done_callback(self._waiting.leave)
            await asyncio.sleep(
                0
            )  # a task that is canceled before it began would leave its socket open

    def _close(self, task: asyncio.Task[None], limit: int) -> None:
        """End a handshake. Its task has the name of the other side."""
        task.cancel()
        reason = f"over {limit} connections without a TLS handshake"
        self._listener.refused("too_many", reason, (), task.get_name())

    async def _shake_hands(self, sock: socket.socket, where: str) -> None:
        try:
            await self._loop.connect_accepted_socket(
                self._listener, sock, ssl=self._context, ssl_handshake_timeout=HANDSHAKE
            )
        except (ConnectionAbortedError, TimeoutError):
            was_reported(self._context)
            self._listener.refused(
                "greeting_timeout", f"no TLS handshake within {HANDSHAKE:g} s", (), where
            )
        except ssl.SSLError:
            was_reported(self._context)
        except OSError:
            if not was_reported(self._context):
                self._listener.refused("broken_off", _BROKEN_OFF, (), where)


async def listen(address: Address, context: ssl.SSLContext | None) -> tuple[Listener, Address]:
    """Listen on `address`; return the listener and its actual address. Port 0 takes a free port.

    Raises:
        P2PFRLError: the port is in use, or the host is not ours.
    """
    listener = Listener()
    try:
        if context is None:
            listener.server = await asyncio.get_running_loop().create_server(listener, *address)
        else:
            listener.server = TlsListener(await _bound(address), context, listener)
    except OSError as error:
        raise P2PFRLError(
            f"cannot listen on {address[0]}:{address[1]}: {error.strerror or error}"
        ) from error
    port: int = listener.server.sockets[0].getsockname()[1]
    return listener, (address[0], port)


def host_of(listener: Listener) -> str:
    """Return the host of a listener as a number: elsewhere its name may mean another host."""
    return str(listener.server.sockets[0].getsockname()[0])


async def _bound(address: Address) -> socket.socket:
    found = await asyncio.get_running_loop().getaddrinfo(
        *address, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
    )
    family, kind, protocol, _, where = found[0]
    with contextlib.ExitStack() as undo:
        sock = socket.socket(family, kind, protocol)
        undo.callback(sock.close)
        sock.setblocking(False)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        sock.bind(where)
        sock.listen(_BACKLOG)
        undo.pop_all()
    return sock
