"""A page beside a run: a child process that reads what the run writes, and ends with it."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from p2pfrl.core.errors import P2PFRLError
from p2pfrl.core.modules import search_path

_START, _END = 60.0, 12.0
"""Seconds that a page has to start, and to end."""


@contextmanager
def page_beside(
    runs: Sequence[Path], say: Callable[[str], None], options: Sequence[str] = ()
) -> Iterator[None]:
    """Serve a page of a run in the block; browsers get the last state at its end.

    Args:
        runs: its directories, which may be empty still.
        say: prints the address of the page.
        options: further words of the command `watch`.

    Raises:
        P2PFRLError: the page did not start.
    """
    words = ["watch", *map(str, runs), "--attached", *options]
    process = subprocess.Popen(
        [sys.executable, "-m", "p2pfrl", *words],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        process_group=0,  # the interrupts of a terminal are for the run
        env={**os.environ, "PYTHONPATH": search_path()},
    )
    try:
        say(_first_line(process))
        yield
    finally:
        _end(process)


def _first_line(process: subprocess.Popen[str]) -> str:
    """Return the line with the address of a page.

    Raises:
        P2PFRLError: the page did not start in time, or says why it cannot.
    """
    found: list[str] = []
    assert process.stdout is not None
    assert process.stderr is not None
    reading = threading.Thread(target=lambda: found.append(process.stdout.readline()), daemon=True)  # type: ignore[union-attr]
    reading.start()
    reading.join(_START)
    if found and found[0].strip():
        threading.Thread(target=_drain, args=(process,), daemon=True).start()
        return found[0].strip()
    if not found:
        raise P2PFRLError(f"the live page did not start within {_START:g} s")
    raise P2PFRLError(process.stderr.read().strip() or "the live page did not start")


def _drain(process: subprocess.Popen[str]) -> None:
    """Read what a page prints about itself: a full pipe would stop it."""
    assert process.stderr is not None
    with suppress(ValueError, OSError):
        for _ in process.stderr:
            pass


def _end(process: subprocess.Popen[str]) -> None:
    """Let a page end; kill it if it does not."""
    assert process.stdin is not None
    with suppress(OSError):
        process.stdin.close()
    try:
        process.wait(_END)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    for pipe in (process.stdout, process.stderr):
        assert pipe is not None
        pipe.close()
