"""Connecting to another process, again and again."""

from __future__ import annotations

import asyncio
import os
import socket
import ssl
from collections.abc import Callable
from contextlib import ExitStack

from p2pfrl.world.fleet import Address
from p2pfrl.world.tcp import Link

BACKOFF = (0.05, 0.4)
CONNECT = 0.5
"""Seconds for a TCP connection: the kernel would repeat its request after 1 s and 3 s only, and a link that works again
is to be found within a second. With the longest pause between two attempts that is 0.9 s."""


async def keep_dialing(
    address: Address,
    link: Callable[[], Link],
    *,
    client: ssl.SSLContext | None,
    timeout: float,
    failed: Callable[[Exception], None],
) -> None:
    """Connect to a process, again and again whenever the connection is lost, with jittered backoff.

    Args:
        address: where it listens.
        link: makes the protocol of a connection.
        client: TLS context; None for plain TCP.
        timeout: seconds for the TLS handshake.
        failed: called with the reason whenever there is no connection.
    """
    backoff = BACKOFF[0]
    while True:
        try:
            found = await _dial(address, link, client, timeout)
            await found.closed.wait()
            backoff = BACKOFF[0] if found.session.was_open else min(2 * backoff, BACKOFF[1])
        except (OSError, TimeoutError, ssl.SSLError) as error:
            failed(error)
            backoff = min(2 * backoff, BACKOFF[1])
        await asyncio.sleep(backoff * _jitter())


def _jitter() -> float:
    """Return a number from 1/2 to 1, from the system: no two processes may draw the same ones, whatever the seed."""
    return 0.5 + 0.5 * int.from_bytes(os.urandom(4)) / 2**32


async def _dial(address: Address, link: Callable[[], Link], client: ssl.SSLContext | None, timeout: float) -> Link:
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
            _, made = await loop.create_connection(link, sock=sock, ssl=client, server_hostname="" if client else None)
        undo.pop_all()
    return made
