"""Outgoing connections, made again whenever they are lost."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import ssl
from collections.abc import Callable
from contextlib import ExitStack

from p2pfrl.net.fleet import Address
from p2pfrl.net.tcp import Link

BACKOFF = (0.05, 0.4)
CONNECT = 0.5
"""Timeout in seconds for a TCP connection.

The kernel repeats its request only after 1 s and 3 s. A link that works again must be found within
a second; with the longest pause between two attempts this takes 0.9 s."""


async def keep_dialing(
    address: Address,
    link: Callable[[], Link],
    *,
    client: ssl.SSLContext | None,
    timeout: float,
    patience: float,
    failed: Callable[[Exception], None],
) -> None:
    """Connect to a process and reconnect whenever the connection is lost, with jittered backoff.

    If nothing arrives for `patience`, packets or the connection are lost. The kernel repeats
    packets after 0.2, 0.6, 1.4, 3.0 s and so on (V. Paxson et al., RFC 6298, 2011), so after an
    outage of 1.5 s nothing would arrive for another 1.5 s. Therefore a second connection is made,
    which replaces the first as soon as it has joined.

    Args:
        address: where the process listens.
        link: makes the protocol of a connection.
        client: TLS context; None for plain TCP.
        timeout: seconds for the TLS handshake.
        patience: seconds of silence after which a second connection is tried.
        failed: called with the reason whenever there is no connection.
    """
    backoff = BACKOFF[0]
    links: list[Link] = []
    while True:
        try:
            made = await _dial(address, link, client, timeout)
        except (OSError, TimeoutError, ssl.SSLError) as error:
            failed(error)
            backoff = min(2 * backoff, BACKOFF[1])
        else:
            links = await _while_good([*links, made], patience)
            # A connection that never joined was refused: wait longer before the next attempt.
            backoff = BACKOFF[0] if made.session.was_open else min(2 * backoff, BACKOFF[1])
        await asyncio.sleep(backoff * _jitter())
        links = await _while_good(links, patience)


async def _while_good(links: list[Link], patience: float) -> list[Link]:
    """Wait while any connection is good or greeting; return those that are silent but open.

    The newest that has joined has replaced earlier ones, which stay open for a while.
    """
    clock = asyncio.get_running_loop().time
    while True:
        links = [link for link in links if not link.closed.is_set()]
        joined = [number for number, link in enumerate(links) if link.session.was_open]
        links = links[max(joined, default=0) :]
        rest = [
            patience - link.session.silence(clock()) if link.session.was_open else patience
            for link in links
        ]
        if not links or max(rest) <= 0:
            return links
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(max(rest)):
                await links[rest.index(max(rest))].closed.wait()


def _jitter() -> float:
    """Return a random number in [1/2, 1] from the operating system, different in every process."""
    return 0.5 + 0.5 * int.from_bytes(os.urandom(4)) / 2**32


async def _dial(
    address: Address, link: Callable[[], Link], client: ssl.SSLContext | None, timeout: float
) -> Link:
    loop = asyncio.get_running_loop()
    found = await loop.getaddrinfo(*address, type=socket.SOCK_STREAM)
    family, kind, protocol, _, where = found[0]
    with ExitStack() as undo:
        sock = socket.socket(family, kind, protocol)
        undo.callback(sock.close)
        sock.setblocking(False)
        async with asyncio.timeout(CONNECT):
            await loop.sock_connect(sock, where)
        async with asyncio.timeout(timeout):
            _, made = await loop.create_connection(
                link, sock=sock, ssl=client, server_hostname="" if client else None
            )
        undo.pop_all()
    return made
