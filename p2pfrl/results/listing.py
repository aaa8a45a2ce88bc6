"""Runs below a folder, newest first."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from p2pfrl.core.errors import RecordError
from p2pfrl.results.directory import SUMMARY, Content, content_of, user_of
from p2pfrl.results.record import load_summary

_DEEPEST = 5
"""Levels of folders below the first in which runs are searched."""


@dataclass(frozen=True)
class Listed:
    """A run that was found.

    Attributes:
        directory: its directory.
        written: when it was last written, seconds since 1970.
        state: why it stopped; "running", "unfinished" or "damaged".
        summary: its summary; None if it has none.
    """

    directory: Path
    written: float
    state: str
    summary: dict[str, Any] | None

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
            "agents": summary.get("agents"),
            "rounds": summary.get("rounds"),
            "final_return": final.get("mean"),
            "final_error": summary.get("final_error"),
            "digest": summary.get("digest"),
        }


def runs_below(folder: Path) -> list[Listed]:
    """Return the runs in a folder and in those below it, the one that was written last first."""
    found = [_listed(*one) for one in _walk(folder, 0)]
    return sorted(found, key=lambda run: (-run.written, str(run.directory)))


def _walk(folder: Path, depth: int) -> Iterator[tuple[Path, Content]]:
    try:
        content = content_of(folder)
        if content in (Content.RECORD, Content.UNFINISHED):
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
