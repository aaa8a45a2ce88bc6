"""The log of a process is bounded."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from p2pfrl.net.log import RunLog


def test_a_full_log_makes_room_for_a_new_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("p2pfrl.net.log.LIMIT", 1000)
    log = RunLog(tmp_path / "log.jsonl", quiet=True)
    for number in range(100):
        log.note("late", number=number)
    files = sorted(path.name for path in tmp_path.iterdir())
    assert files == ["log.1.jsonl", "log.jsonl"]
    lines = [
        json.loads(line) for name in files for line in (tmp_path / name).read_text().splitlines()
    ]
    assert [line["number"] for line in lines] == list(range(100 - len(lines), 100))
    assert all(path.stat().st_size <= 1100 for path in tmp_path.iterdir())
