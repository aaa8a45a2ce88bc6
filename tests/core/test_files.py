"""Reads of files that somebody else may have made."""

import os

import pytest

from p2pfrl.core.files import read_table


@pytest.mark.parametrize(
    "content", [b"[1]", b"{", b"\xff{}", b"[" * 100_000, b'{"a": "' + b"x" * 100 + b'"}']
)
def test_what_is_no_table_of_the_size_is_none(tmp_path, content):
    path = tmp_path / "status.json"
    path.write_bytes(content)
    assert read_table(path, 90 if len(content) < 1000 else 10**6) is None


def test_a_table_is_read_and_a_pipe_is_not_waited_for(tmp_path):
    path = tmp_path / "status.json"
    assert read_table(path, 90) is None
    path.write_text('{"round": 3}')
    assert read_table(path, 90) == {"round": 3}
    os.mkfifo(tmp_path / "pipe")
    assert read_table(tmp_path / "pipe", 90) is None
