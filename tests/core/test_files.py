"""Reads of files that somebody else may have made."""

import os

import pytest

from p2pfrl.core.files import open_regular, read_table


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


def test_only_a_regular_file_is_opened(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "zero").symlink_to("/dev/zero")
    for name, error in (("pipe", "a regular file"), ("zero", "a regular file"), (".", "directory")):
        with pytest.raises(OSError, match=error):
            open_regular(tmp_path / name)
    (tmp_path / "file").write_bytes(b"12345")
    with open_regular(tmp_path / "file") as file:
        assert file.read(3) == b"123"
