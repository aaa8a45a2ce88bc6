"""The programs around a page: how they end, and a peer with its status port."""

from __future__ import annotations

import json
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from factory import record
from runs import write_scenario

from p2pfrl.results.record import save

pytest.importorskip("starlette")
pytest.importorskip("uvicorn")

pytestmark = pytest.mark.slow


@contextmanager
def program(*words: str) -> Iterator[tuple[str, subprocess.Popen[str]]]:
    """Start a command that serves a page; yield the address of the page and the process."""
    process = subprocess.Popen(
        [sys.executable, "-m", "p2pfrl", *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert process.stdout is not None
    try:
        for line in process.stdout:
            if found := re.search(r"watch: (http://\S+)", line):
                break
        else:
            raise AssertionError("no address")
        yield found[1], process
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


def stuck(url: str) -> socket.socket:
    """Return a connection of a browser that asks for events and never reads them."""
    split = urlsplit(url)
    browser = socket.create_connection((split.hostname, split.port), 10.0)
    browser.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1024)
    browser.sendall(f"GET /events HTTP/1.1\r\nHost: {split.netloc}\r\n\r\n".encode())
    return browser


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_a_page_at_once_also_with_a_browser_that_never_reads(
    tmp_path: Path, number: signal.Signals
) -> None:
    made = record(64, rounds=5)
    save(replace(made, summary={**made.summary, "stopped_by": "rounds"}), tmp_path / "run")
    with program("watch", str(tmp_path / "run"), "--no-open") as (url, process):
        with stuck(url):
            time.sleep(1.0)
            began = time.monotonic()
            process.send_signal(number)
            assert process.wait(20) == 0
            assert time.monotonic() - began < 10.0
        assert process.stdout is not None
        assert "Traceback" not in process.stdout.read()


def test_a_browser_that_never_reads_does_not_stop_a_run(tmp_path: Path) -> None:
    words = ("scenario", str(write_scenario(tmp_path)), "--set", "stop.rounds=200")
    with (
        program(*words, "--out", str(tmp_path / "run"), "--live", "--quiet") as (url, process),
        stuck(url),
    ):
        assert process.wait(120) == 0
    assert (tmp_path / "run/summary.json").is_file()


def test_a_peer_serves_its_status_to_who_has_the_token(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("a-token-of-sixteen\n")
    words = ("peer", str(write_scenario(tmp_path)), "--lead", "--agents", "0-1")
    words += ("--out", str(tmp_path / "peer"), "--status", "127.0.0.1:0")
    words += ("--status-token", str(tmp_path / "token"))
    with program(*words) as (url, process):
        state = url.replace("/?token", "/state.json?token")
        for _ in range(300):
            found = json.load(urllib.request.urlopen(state, timeout=10))
            if found["run"]["state"].startswith("waiting"):
                break
            time.sleep(0.1)
        assert found["run"]["state"] == "waiting for agents 2-3 to join"
        with pytest.raises(urllib.error.HTTPError, match="401"):
            urllib.request.urlopen(url.partition("?")[0], timeout=10)
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 130


def test_a_status_port_that_is_in_use_is_said_before_the_peer_starts(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        where = f"127.0.0.1:{taken.getsockname()[1]}"
        words = ["peer", str(write_scenario(tmp_path)), "--lead", "--agents", "0-1"]
        words += ["--out", str(tmp_path / "peer"), "--status", where]
        done = subprocess.run(
            [sys.executable, "-m", "p2pfrl", *words], capture_output=True, text=True, timeout=120
        )
    assert done.returncode == 1
    assert f"--status {where}: the port is in use" in done.stderr
