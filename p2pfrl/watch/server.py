"""The server of a page: its files, the newest state as JSON, and changes as server-sent events.

A program that follows the page asks for `/state.json` again and again. When the run has ended, the
page waits a moment until each such program has the last state (`Page.hand_over`).

It answers GET and HEAD only, and changes nothing. Each browser gets the newest state of what has
changed since its last event. Nothing is queued for it, so one that never reads costs one task,
which ends after `_PATIENCE` seconds.
"""

from __future__ import annotations

import asyncio
import hmac
import time
from collections.abc import Awaitable, Callable, MutableMapping
from contextlib import suppress
from importlib.resources import files
from typing import Any, Protocol
from urllib.parse import urlsplit

from starlette.requests import Request
from starlette.responses import PlainTextResponse, RedirectResponse, Response

from p2pfrl.core.errors import P2PFRLError
from p2pfrl.watch.board import Board

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

PERIOD = 0.5
"""Seconds between two reads of a run that somebody watches."""
UNWATCHED = 2.0
"""Seconds between two reads of pages of other hosts while nobody watches.

Those pages end with their runs. A page that ends waits 4 s for who asked in the last `_FOLLOWING`
seconds, so that asking this often gets its last state.
"""
MOST_BROWSERS = 32
PROGRAMS = ("parts",)
"""Sections for other pages (remote.py), which no browser shows."""
_PATIENCE = 20.0
"""Seconds that a browser has to take an event."""
_QUIET = 15.0
"""Seconds after which an empty event shows a browser that the server is there."""
_FOLLOWING = 5.0
"""Seconds within which a program that follows the page asks for its state again."""
_LOOK = 0.05
_KINDS = {
    "index.html": "text/html; charset=utf-8",
    "watch.js": "text/javascript; charset=utf-8",
    "watch.css": "text/css; charset=utf-8",
    "uPlot.iife.min.js": "text/javascript; charset=utf-8",
    "uPlot.min.css": "text/css; charset=utf-8",
}
_HEADERS = {
    "cache-control": "no-store",
    "content-security-policy": "default-src 'self'; img-src 'self' data:; frame-ancestors 'none'",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
}
LOCAL = ("127.0.0.1", "localhost", "::1")


class Source(Protocol):
    """What reads a run."""

    def read(self) -> dict[str, Any]:
        """Return the sections of the page as they are now."""


class Page:
    """The page of one run, as an ASGI application.

    Attributes:
        board: the newest state.

    Args:
        source: reads the run, in a thread.
        token: what a browser has to know; "" if none is needed.
        is_local: whether only this machine can reach the page. Requests for other host names are
            refused then: a foreign web page could use such a name to read it.
        is_fleeting: whether the last state of the run can be read only while it ends: it is read
            every `UNWATCHED` seconds then, also while nobody watches.
    """

    def __init__(
        self,
        source: Source,
        token: str = "",
        *,
        is_local: bool = True,
        is_fleeting: bool = False,
    ) -> None:
        self.board = Board()
        self._source = source
        self._token = token
        self._is_local = is_local
        self._is_fleeting = is_fleeting
        self._browsers = 0
        self._followers: dict[str, tuple[float, bool]] = {}
        self._is_over = False
        self._reading = asyncio.Lock()

    async def refresh(self) -> None:
        """Read the run once. What is wrong with it is a section of its own."""
        async with self._reading:
            try:
                sections = await asyncio.to_thread(self._source.read)
            except P2PFRLError as error:
                sections = {"problem": str(error)}
            else:
                sections.setdefault("problem", "")
            self.board.put(sections)

    async def follow(self) -> None:
        """Read the run again and again until `close`, while a browser watches it.

        One that is fleeting is read, more rarely, also while none does.
        """
        last = time.monotonic()
        while not self._is_over:
            is_due = self._is_fleeting and time.monotonic() - last >= UNWATCHED
            if self._browsers or is_due:
                await self.refresh()
                last = time.monotonic()
            await asyncio.sleep(PERIOD)

    def close(self) -> None:
        """End the events of all browsers."""
        self._is_over = True
        self.board.put({"closed": True})

    async def hand_over(self, patience: float) -> None:
        """Wait until every program that follows the page has its last state, after `close`.

        Args:
            patience: most seconds to wait.
        """
        end = time.monotonic()
        with suppress(TimeoutError):
            async with asyncio.timeout(patience):
                while any(
                    not has_last and end - asked < _FOLLOWING
                    for asked, has_last in self._followers.values()
                ):
                    await asyncio.sleep(_LOOK)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        if scope["type"] != "http":
            return
        request = Request(scope)
        refusal = self._refusal(request)
        if refusal is not None:
            await self._answer(refusal, scope, receive, send)
        elif request.url.path == "/events":
            await self._events(request, receive, send)
        else:
            response = await self._response(request)
            await self._answer(response, scope, receive, send)

    async def _answer(self, response: Response, scope: Scope, receive: Receive, send: Send) -> None:
        for name, value in _HEADERS.items():
            response.headers.setdefault(name, value)
        await response(scope, receive, send)

    def _refusal(self, request: Request) -> Response | None:
        """Return why a request is refused, or None."""
        if request.method not in ("GET", "HEAD"):
            return PlainTextResponse("405: this page only shows a run\n", 405)
        if not self._token:
            host = urlsplit(f"//{request.headers.get('host', '')}").hostname
            if self._is_local and host not in LOCAL:
                names = " or ".join(LOCAL)
                return PlainTextResponse(f"403: expected the host {names}, got {host!r}\n", 403)
            return None
        given = request.query_params.get("token", "")
        bearer = request.headers.get("authorization", "").removeprefix("Bearer ")
        cookie = request.cookies.get(self._cookie(request), "")
        if not any(self._is_token(word) for word in (given, bearer, cookie)):
            what = "a wrong token" if given or bearer else "none"
            text = f"401: expected the token of this page, got {what}: open it as ADDRESS/?token=TOKEN\n"
            return PlainTextResponse(text, 401)
        if given and request.url.path == "/":  # the token leaves the address bar and the history
            response = RedirectResponse("/", 303)
            response.set_cookie(self._cookie(request), given, httponly=True, samesite="strict")
            return response
        return None

    def _is_token(self, word: str) -> bool:
        return hmac.compare_digest(word.encode(), self._token.encode())

    def _cookie(self, request: Request) -> str:
        """Return the name of the cookie: browsers share cookies among the ports of a host."""
        return f"p2pfrl-{request.url.port or 80}"

    async def _response(self, request: Request) -> Response:
        path = request.url.path
        if path == "/state.json":
            await self.refresh()
            self._note_follower(request)
            return Response(self.board.since(0), media_type="application/json")
        name = "index.html" if path == "/" else path.removeprefix("/page/")
        if name not in _KINDS or (path != "/" and not path.startswith("/page/")):
            return PlainTextResponse(f"404: there is no {path} here\n", 404)
        content = files("p2pfrl.watch").joinpath("page", name).read_bytes()
        return Response(content, media_type=_KINDS[name])

    def _note_follower(self, request: Request) -> None:
        """Note who asks for the state, and whether it is the last one."""
        host = request.client.host if request.client is not None else ""
        who = f"{host} {request.headers.get('user-agent', '')[:64]}"
        self._followers.pop(who, None)  # the newest are last
        self._followers[who] = (time.monotonic(), self._is_over)
        if len(self._followers) > MOST_BROWSERS:
            del self._followers[next(iter(self._followers))]

    async def _events(self, request: Request, receive: Receive, send: Send) -> None:
        """Send what changes to one browser until it leaves, or `close`."""
        if self._browsers >= MOST_BROWSERS:
            text = f"503: {MOST_BROWSERS} browsers watch already\n"
            await PlainTextResponse(text, 503)(request.scope, receive, send)
            return
        self._browsers += 1
        gone = asyncio.create_task(_left(receive))
        try:
            with suppress(TimeoutError):
                await self._stream(send, gone)
        finally:
            gone.cancel()
            self._browsers -= 1

    async def _stream(self, send: Send, gone: asyncio.Task[None]) -> None:
        headers = {"content-type": "text/event-stream; charset=utf-8", **_HEADERS}
        raw = [(name.encode(), value.encode()) for name, value in headers.items()]
        await send({"type": "http.response.start", "status": 200, "headers": raw})
        await self.refresh()
        version, is_last = 0, False
        while not gone.done() and not is_last:
            is_last = self._is_over
            text = self.board.since(version, without=PROGRAMS)
            version = self.board.version
            event = f"id: {version}\ndata: {text}\n\n" if text != "{}" else ": here\n\n"
            await self._push(send, event.encode())
            if not is_last and not await self.board.change(version, _QUIET):
                await self._push(send, b": here\n\n")
        await self._push(send, b"", more=False)

    async def _push(self, send: Send, body: bytes, *, more: bool = True) -> None:
        """Send a piece of an answer.

        Raises:
            TimeoutError: the browser does not take it.
        """
        async with asyncio.timeout(_PATIENCE):
            await send({"type": "http.response.body", "body": body, "more_body": more})


async def _left(receive: Receive) -> None:
    """Return when the browser has left."""
    while (await receive())["type"] != "http.disconnect":
        pass
