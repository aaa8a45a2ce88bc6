"""The status of a process is what it wrote, and not what somebody else has put in its place."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import pytest

from p2pfrl.cli import main
from p2pfrl.deploy.status import STATUS, Status, read_status, row_of, statuses

WROTE = Status((0, 1), 7, None, None, 2.0, 900, 0, 80, {}, 5.0)


def test_what_a_process_wrote_is_read(tmp_path: Path) -> None:
    WROTE.write(tmp_path)
    (found,) = statuses(tmp_path)
    assert (found["state"], found["round"], found["journal_bytes"]) == ("killed", 7, 80)
    row = row_of([tmp_path])
    assert row is not None
    assert row["bytes_sent"] == 900


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("journal_bytes", None),
        ("round", "7"),
        ("bytes_sent", [1]),
        ("seconds", float("nan")),
        ("rounds", {}),
        ("agents", 3),
        ("writes_failed", []),
    ],
)
def test_a_table_that_is_no_status_is_none(
    tmp_path: Path, key: str, value: object, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / STATUS).write_text(json.dumps({**asdict(WROTE), key: value}))
    assert read_status(tmp_path) is None
    assert row_of([tmp_path]) is None
    assert main(["status", str(tmp_path)]) == 1
    said = capsys.readouterr().err
    assert f"{tmp_path}: damaged or not a p2pfrl record: {STATUS} has a table" in said
