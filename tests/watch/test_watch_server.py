"""The server of a page: what it serves, whom it refuses, and how it ends."""

from __future__ import annotations

import asyncio
import json
import threading
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import pytest
from factory import record
from runs import write_scenario

pytest.importorskip("starlette")
pytest.importorskip("uvicorn")

from p2pfrl.cli import main
from p2pfrl.core.errors import P2PFRLError
from p2pfrl.core.finder import install
from p2pfrl.results.record import save
from p2pfrl.watch import serve as serving
from p2pfrl.watch import server
from p2pfrl.watch.server import MOST_BROWSERS, Page

TOKEN = "correct-horse-battery"


class Count:
    """A source whose only section counts how often it was read."""

    def __init__(self) -> None:
        self.reads = 0

    def read(self) -> dict[str, Any]:
        self.reads += 1
        return {"run": {"reads": self.reads}, "same": 1}


def scope(path: str, host: str = "127.0.0.1:8000", query: str = "", **headers: str) -> Any:
    found = {"host": host, **headers}
    return {
        "type": "http",
        "method": "GET",
        "path": path,
        "query_string": query.encode(),
        "headers": [(k.encode(), v.encode()) for k, v in found.items()],
        "scheme": "http",
        "server": ("127.0.0.1", 8000),
    }


def ask(page: Page, request: Any) -> tuple[int, dict[str, str], bytes]:
    """Return status, headers and body of the answer to a request."""
    sent: list[Any] = []

    async def receive() -> Any:
        await asyncio.Event().wait()

    async def send(message: Any) -> None:
        sent.append(message)

    asyncio.run(page(request, receive, send))
    headers = {k.decode(): v.decode() for k, v in sent[0]["headers"]}
    return sent[0]["status"], headers, b"".join(m.get("body", b"") for m in sent[1:])


def test_the_page_and_its_files_come_from_the_package_and_nothing_from_elsewhere() -> None:
    status, headers, body = ask(Page(Count()), scope("/"))
    assert status == 200
    assert "default-src 'self'" in headers["content-security-policy"]
    text = body.decode()
    assert "http" not in text.replace("http-equiv", "")
    for name in ("watch.js", "watch.css", "uPlot.iife.min.js", "uPlot.min.css"):
        assert f"page/{name}" in text
        assert ask(Page(Count()), scope(f"/page/{name}"))[0] == 200
    assert ask(Page(Count()), scope("/page/../server.py"))[0] == 404
    assert ask(Page(Count()), scope("/watch.js"))[0] == 404


def test_the_state_is_json() -> None:
    _, _, body = ask(Page(Count()), scope("/state.json"))
    assert json.loads(body) == {"run": {"reads": 1}, "same": 1, "problem": ""}


def test_what_cannot_be_read_is_said_on_the_page() -> None:
    class Broken:
        def read(self) -> dict[str, Any]:
            raise P2PFRLError("the disk is gone")

    _, _, body = ask(Page(Broken()), scope("/state.json"))
    assert json.loads(body) == {"problem": "the disk is gone"}


def test_other_methods_and_names_of_other_hosts_are_refused() -> None:
    assert ask(Page(Count()), {**scope("/"), "method": "POST"})[0] == 405
    status, _, body = ask(Page(Count()), scope("/", host="evil.example:8000"))
    assert status == 403
    assert b"expected the host 127.0.0.1 or localhost or ::1, got 'evil.example'" in body
    assert ask(Page(Count()), scope("/", host="[::1]:8000"))[0] == 200


def test_a_page_with_a_token_asks_for_it_and_keeps_it_in_a_cookie() -> None:
    page = Page(Count(), TOKEN, is_local=False)
    for request in (
        scope("/"),
        scope("/events"),
        scope("/", query="token=wrong"),
        scope("/", authorization="Bearer no"),
        scope("/", cookie=f"p2pfrl-1={TOKEN}"),
    ):
        status, _, body = ask(page, request)
        assert status == 401
        assert b"expected the token of this page" in body
        assert TOKEN.encode() not in body
    status, headers, _ = ask(page, scope("/", query=f"token={TOKEN}"))
    assert (status, headers["location"]) == (303, "/")
    cookie = headers["set-cookie"]
    assert "HttpOnly" in cookie
    assert "SameSite=strict" in cookie
    kept = cookie.partition(";")[0]
    assert ask(page, scope("/", host="far.example:8000", cookie=kept))[0] == 200
    assert ask(page, scope("/state.json", authorization=f"Bearer {TOKEN}"))[0] == 200


async def stream(page: Page, until: int, **more: Any) -> list[dict[str, Any]]:
    """Return the first events that a browser gets."""
    events: list[dict[str, Any]] = []
    left = asyncio.Event()

    async def receive() -> Any:
        await left.wait()
        return {"type": "http.disconnect"}

    async def send(message: Any) -> None:
        text = message.get("body", b"").decode()
        if "data: " in text:
            events.append(json.loads(text.partition("data: ")[2]))
        if len(events) == until:
            left.set()
            page.board.put({"end": True})

    await page({**scope("/events"), **more}, receive, send)
    return events


def test_a_browser_gets_everything_first_and_then_what_changes() -> None:
    async def run() -> list[dict[str, Any]]:
        page = Page(Count())
        following = asyncio.create_task(page.follow())
        events = await stream(page, 3)
        following.cancel()
        return events

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(server, "PERIOD", 0.005)
        first, *others = asyncio.run(run())
    assert set(first) == {"run", "same", "problem"}
    assert all(set(event) <= {"run", "end"} for event in others)
    assert others[0]["run"]["reads"] > first["run"]["reads"]


def test_nothing_is_read_while_nobody_watches() -> None:
    async def run() -> int:
        source = Count()
        page = Page(source)
        following = asyncio.create_task(page.follow())
        await asyncio.sleep(0.03)
        following.cancel()
        return source.reads

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(server, "PERIOD", 0.002)
        assert asyncio.run(run()) == 0


def test_pages_that_end_with_their_runs_are_read_while_nobody_watches() -> None:
    async def run() -> int:
        source = Count()
        page = Page(source, is_fleeting=True)
        following = asyncio.create_task(page.follow())
        async with asyncio.timeout(5.0):
            while source.reads < 3:
                await asyncio.sleep(0.002)
        following.cancel()
        return source.reads

    assert server.UNWATCHED + server.PERIOD < serving._HANDING_OVER < server._FOLLOWING
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(server, "PERIOD", 0.002)
        patch.setattr(server, "UNWATCHED", 0.004)
        assert asyncio.run(run()) >= 3


def test_a_browser_that_never_reads_is_dropped_and_the_others_go_on() -> None:
    async def run() -> list[dict[str, Any]]:
        page = Page(Count())
        never = asyncio.Event()

        async def send(message: Any) -> None:
            if message["type"] == "http.response.body":
                await never.wait()

        stuck = asyncio.create_task(page(scope("/events"), never.wait, send))
        await asyncio.sleep(0)
        following = asyncio.create_task(page.follow())
        events = await stream(page, 2)
        await asyncio.wait_for(stuck, 5.0)
        following.cancel()
        assert page._browsers == 0
        return events

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(server, "PERIOD", 0.005)
        patch.setattr(server, "_PATIENCE", 0.05)
        assert len(asyncio.run(run())) >= 2


def test_too_many_browsers_are_refused() -> None:
    page = Page(Count())
    page._browsers = MOST_BROWSERS
    assert ask(page, scope("/events"))[0] == 503


def test_the_last_state_reaches_a_browser_before_the_page_ends() -> None:
    async def run() -> list[dict[str, Any]]:
        page = Page(Count())
        watching = asyncio.create_task(stream(page, 99))
        await asyncio.sleep(0.02)
        page.close()
        return await watching

    assert asyncio.run(run())[-1] == {"closed": True}


def test_a_page_is_served_until_the_run_beside_it_ends() -> None:
    listener = serving.listening(("127.0.0.1", 0))
    url, over = serving.url_of(listener, ""), threading.Event()
    thread = threading.Thread(
        target=lambda: serving.serve(Count(), listener, "", is_local=True, ended=over.wait)
    )
    thread.start()
    try:
        assert json.load(urllib.request.urlopen(f"{url}state.json", timeout=10))["same"] == 1
        with pytest.raises(urllib.error.HTTPError, match="404"):
            urllib.request.urlopen(f"{url}nothing", timeout=10)
    finally:
        over.set()
        thread.join(10.0)
    assert not thread.is_alive()


def error_of(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str]:
    code = main(["watch", *words, "--no-open"])
    return code, capsys.readouterr().err


def test_errors_say_what_to_do(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = str(tmp_path / "run")
    save(record(4, rounds=2), Path(run))
    code, text = error_of(capsys, str(tmp_path / "none"))
    assert code == 1
    assert "none: expected the directory of a run, got nothing; `p2pfrl runs` lists" in text
    code, text = error_of(capsys, str(tmp_path))
    assert f"expected one run, got 1: name one, such as {run}" in text
    assert error_of(capsys)[0] == 2
    with serving.listening(("127.0.0.1", 0)) as taken:
        where = f"127.0.0.1:{taken.getsockname()[1]}"
        code, text = error_of(capsys, run, "--bind", where)
    assert code == 1
    assert f"--bind {where}: the port is in use: give another, or port 0 for any free one" in text
    (tmp_path / "token").write_text("short\n")
    code, text = error_of(capsys, run, "--token", str(tmp_path / "token"))
    assert code == 2
    assert "expected a token of at least 16 characters without spaces, got 5 characters" in text


def test_without_the_extra_the_error_says_how_to_get_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    write_scenario(tmp_path)
    monkeypatch.setattr(serving, "find_spec", lambda name: None)
    code, text = error_of(capsys, str(tmp_path))
    assert code == 1
    assert f"needs starlette and uvicorn, not installed: {install('live')}" in text
