"""Serving a page until an interrupt, or until the run beside it has ended."""

from __future__ import annotations

import asyncio
import errno
import secrets
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from importlib.util import find_spec
from typing import TYPE_CHECKING

from p2pfrl.core.errors import P2PFRLError
from p2pfrl.core.finder import install
from p2pfrl.core.interrupts import SIGNALS

if TYPE_CHECKING:
    from p2pfrl.watch.server import Source

Address = tuple[str, int]
_GRACE = 2
"""Seconds that open connections have to end."""
_MOST_CONNECTIONS = 128
_LAST = 5.0
"""Seconds in which the last state of a run that has ended is read."""
_HANDING_OVER = 4.0
"""Seconds in which programs that follow the page get that state."""


def require_live() -> None:
    """Refuse to serve a page without the packages that do it.

    Raises:
        P2PFRLError: they are not installed.
    """
    missing = [name for name in ("starlette", "uvicorn") if find_spec(name) is None]
    if missing:
        raise P2PFRLError(
            f"a live page needs {' and '.join(missing)}, not installed: {install('live')}"
        )


def listening(address: Address) -> socket.socket:
    """Return a socket that listens on an address; port 0 takes any free port.

    Raises:
        P2PFRLError: the port is in use, or this machine does not have the address.
    """
    host, port = address
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        return socket.create_server(address, family=family, backlog=64)
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise P2PFRLError(
                f"--bind {host}:{port}: the port is in use: give another, or port 0 for any free one"
            ) from error
        raise P2PFRLError(
            f"--bind {host}:{port}: expected an address of this machine and a free port, got: "
            f"{error.strerror or error}"
        ) from error


def url_of(listener: socket.socket, token: str) -> str:
    """Return the address that a browser opens."""
    host, port = listener.getsockname()[:2]
    if host in ("0.0.0.0", "::"):
        host = socket.gethostname()
    place = f"[{host}]" if ":" in host else host
    return f"http://{place}:{port}/" + (f"?token={token}" if token else "")


def new_token() -> str:
    """Return a token that nobody can guess."""
    return secrets.token_urlsafe(24)


def serve(
    source: Source,
    listener: socket.socket,
    token: str,
    *,
    is_local: bool,
    is_fleeting: bool = False,
    ended: Callable[[], object] | None = None,
) -> None:
    """Serve the page of a run until an interrupt.

    Args:
        source: reads the run.
        listener: a listening socket, which is closed at the end.
        token: what browsers have to know; "" for none.
        is_local: whether only this machine can reach the page.
        is_fleeting: whether the run is read also while nobody watches, to have its last state.
        ended: returns when the run beside it has ended; browsers and programs that follow the page
            then get its last state.
    """
    import uvicorn

    from p2pfrl.watch.server import Page

    class Server(uvicorn.Server):
        """A server that leaves signals to us: it would raise them again at its end."""

        @contextmanager
        def capture_signals(self) -> Iterator[None]:
            """Capture none."""
            yield

    async def run() -> None:
        page = Page(source, token, is_local=is_local, is_fleeting=is_fleeting)
        config = uvicorn.Config(
            page,
            log_level="error",
            access_log=False,
            lifespan="off",
            timeout_graceful_shutdown=_GRACE,
            limit_concurrency=_MOST_CONNECTIONS,
            server_header=False,
        )
        server = Server(config)
        loop, asked, is_over = asyncio.get_running_loop(), asyncio.Event(), asyncio.Event()
        for number in SIGNALS:
            if signal.getsignal(number) is not signal.SIG_IGN:  # as nohup asks
                with suppress(NotImplementedError, RuntimeError, ValueError):  # not the main thread
                    loop.add_signal_handler(number, asked.set)
        if ended is not None:
            _call_when(ended, loop, is_over, asked)
        async with asyncio.TaskGroup() as group:
            serving = group.create_task(server.serve([listener]))
            following = group.create_task(page.follow())
            await _first(asked, serving)
            with suppress(TimeoutError):
                async with asyncio.timeout(_LAST):
                    await page.refresh()
            page.close()
            if is_over.is_set():
                await page.hand_over(_HANDING_OVER)
            following.cancel()
            server.should_exit = True

    with listener:
        asyncio.run(run())


async def _first(asked: asyncio.Event, serving: asyncio.Task[None]) -> None:
    """Wait until the end is asked for, or the server has ended."""
    waiting = asyncio.create_task(asked.wait())
    await asyncio.wait({waiting, serving}, return_when=asyncio.FIRST_COMPLETED)
    waiting.cancel()


def _call_when(
    ended: Callable[[], object], loop: asyncio.AbstractEventLoop, *events: asyncio.Event
) -> None:
    """Set events when `ended` returns in another thread."""

    def watch() -> None:
        ended()
        with suppress(RuntimeError):  # the loop has ended before
            for event in events:
                loop.call_soon_threadsafe(event.set)

    threading.Thread(target=watch, daemon=True, name="run beside").start()
