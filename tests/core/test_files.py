"""Reads of files that somebody else may have made, and atomic writes."""

import errno
import os
from pathlib import Path

import pytest

from p2pfrl.core.files import open_regular, read_table, write_atomically


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


def test_a_write_that_fails_at_its_last_step_leaves_the_file_before_it(tmp_path, monkeypatch):
    path, former = tmp_path / "state", tmp_path / "state.previous"
    for content in (b"1", b"2"):
        write_atomically(path, content, keep=former)
    replace = Path.replace

    def full(self, target):
        if self.name.endswith(".tmp"):
            raise OSError(errno.ENOSPC, "No space left on device")
        return replace(self, target)

    monkeypatch.setattr(Path, "replace", full)
    with pytest.raises(OSError, match="No space"):
        write_atomically(path, b"3", keep=former)
    assert path.read_bytes() == former.read_bytes() == b"2"
    monkeypatch.undo()
    write_atomically(path, b"3", keep=former)
    assert (path.read_bytes(), former.read_bytes()) == (b"3", b"2")
    assert sorted(tmp_path.iterdir()) == [path, former]


def test_without_hard_links_the_former_file_is_kept_too(tmp_path, monkeypatch):
    def refuse(*_):
        raise OSError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "link", refuse)
    path, former = tmp_path / "state", tmp_path / "state.previous"
    for content in (b"1", b"2", b"3"):
        write_atomically(path, content, keep=former)
    assert (path.read_bytes(), former.read_bytes()) == (b"3", b"2")
