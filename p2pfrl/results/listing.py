"""Runs below a folder, newest first."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from p2pfrl.core.errors import RecordError
from p2pfrl.core.files import read_table
from p2pfrl.results.directory import (
    PEER,
    STATUS,
    SUMMARY,
    Content,
    content_of,
    is_process,
    user_of,
)
from p2pfrl.results.record import load_summary

_MOST = 2**26
"""Most bytes of a file that a process writes about itself."""
_DEEPEST = 5
"""Levels of folders below the first in which runs are searched."""


@dataclass(frozen=True)
class Listed:
    """A run that was found.

    Attributes:
        directory: its directory.
        written: when it was last written, seconds since 1970.
        state: why it stopped; "running", "unfinished", "killed" or "damaged".
        summary: its summary; None if it has none.
        process: the agents of one process of a deployment; None of a whole run.
    """

    directory: Path
    written: float
    state: str
    summary: dict[str, Any] | None
    process: tuple[int, ...] | None = None

    def to_json(self) -> dict[str, Any]:
        """Return it as a JSON object."""
        summary = self.summary or {}
        final = summary.get("final_return") or {}
        return {
            "directory": str(self.directory),
            "written": f"{datetime.fromtimestamp(self.written, UTC):%Y-%m-%dT%H:%M:%SZ}",
            "state": self.state,
            "name": summary.get("name"),
            "mode": summary.get("mode"),
            "seed": summary.get("seed"),
            "agents": summary.get("agents") if self.process is None else len(self.process),
            "process": None if self.process is None else list(self.process),
            "rounds": summary.get("rounds"),
            "final_return": final.get("mean"),
            "final_error": summary.get("final_error"),
            "digest": summary.get("digest"),
        }


def runs_below(folder: Path) -> list[Listed]:
    """Return the runs in a folder and in those below it, the one that was written last first.

    A process of a deployment that has its own directory is one of them.
    """
    found = [
        _listed_process(where) if content is Content.OTHER else _listed(where, content)
        for where, content in _walk(folder, 0)
    ]
    return sorted(found, key=lambda run: (-run.written, str(run.directory)))


def _walk(folder: Path, depth: int) -> Iterator[tuple[Path, Content]]:
    try:
        content = content_of(folder)
        if content in (Content.RECORD, Content.UNFINISHED) or is_process(folder):
            yield folder, content
            return
        below = (
            sorted(path for path in folder.iterdir() if path.is_dir()) if depth < _DEEPEST else []
        )
    except (RecordError, OSError):
        return
    for path in below:
        yield from _walk(path, depth + 1)


def _listed(folder: Path, content: Content) -> Listed:
    latest = folder / SUMMARY if content is Content.RECORD else folder / "metrics.csv"
    try:
        written = os.stat(latest).st_mtime
    except OSError:
        written = os.stat(folder).st_mtime
    if content is Content.UNFINISHED:
        return Listed(folder, written, "running" if user_of(folder) else "unfinished", None)
    try:
        summary = load_summary(folder)
    except RecordError:
        summary = {}
    if "name" not in summary:
        return Listed(folder, written, "damaged", None)
    return Listed(folder, written, str(summary.get("stopped_by", "-")).replace("_", " "), summary)


def _listed_process(folder: Path) -> Listed:
    """Return one process of a deployment, from its summary or, before its end, its status."""
    status = read_table(folder / STATUS, _MOST) or {}
    summary = read_table(folder / PEER, _MOST) or {}
    files = [path for path in (folder / PEER, folder / STATUS) if path.is_file()]
    written = max(os.stat(path).st_mtime for path in files or [folder])
    found = summary.get("agents") or status.get("agents")
    agents = tuple(id for id in found if isinstance(id, int)) if isinstance(found, list) else ()
    known: dict[str, Any] | None = None
    if "stopped_by" in summary:
        known = {key: summary.get(key) for key in ("name", "mode", "rounds")}
    state = "killed" if known is None else str(summary["stopped_by"]).replace("_", " ")
    if user_of(folder) is not None:
        state, known = "running", None
    elif not agents:
        state, known = "damaged", None
    return Listed(folder, written, state, known, agents)
