"""Files: atomic writes, and reads that neither hang nor fill the memory."""

from __future__ import annotations

import contextlib
import json
import os
import stat
from collections.abc import Iterable
from hashlib import blake2b
from pathlib import Path
from typing import Any, BinaryIO

from p2pfrl.core.errors import P2PFRLError, RecordError


class OversizeError(OSError):
    """A file has more bytes than its reader takes."""


def open_regular(path: Path) -> BinaryIO:
    """Open a regular file to read it.

    Pipes and devices are refused before anything is read from them.

    Raises:
        OSError: it is missing, is no regular file, or cannot be read.
    """
    flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
    try:
        descriptor = os.open(path, flags)
    except ValueError as error:  # a NUL in its name
        raise FileNotFoundError(2, "no file can have this name") from error
    mode = os.fstat(descriptor).st_mode
    if stat.S_ISREG(mode):
        return os.fdopen(descriptor, "rb")
    os.close(descriptor)
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(21, "Is a directory")
    raise OSError(22, "expected a regular file, got a pipe, device or socket")


def read_regular(path: Path, limit: int) -> bytes:
    """Return the content of a regular file of at most `limit` bytes.

    Raises:
        OversizeError: it has more bytes.
        OSError: it is missing, is no regular file, or cannot be read.
    """
    with open_regular(path) as file:
        found = os.fstat(file.fileno())
        content = b"" if found.st_size > limit else file.read(limit + 1)
        if found.st_size > limit or len(content) > limit:
            size = max(found.st_size, len(content))
            raise OversizeError(27, f"it has {size:,} bytes, the limit is {limit:,}")
        return content


def checksum(content: bytes) -> str:
    """Return the blake2b checksum of a file's content as 32 hexadecimal digits."""
    return blake2b(content, digest_size=16).hexdigest()


def read_table(path: Path, limit: int) -> dict[str, Any] | None:
    """Return the table of a JSON file of at most `limit` bytes; None if there is no such table."""
    try:
        found = json.loads(read_regular(path, limit))
    except (OSError, ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None


def unreadable(error: Exception) -> str:
    """Return what is wrong with a JSON file whose reading raised `error`, in words.

    >>> unreadable(KeyError("agents")), unreadable(RecursionError())
    ("'agents' is missing", 'it is nested too deeply')
    """
    if isinstance(error, json.JSONDecodeError):
        return f"it is not JSON in line {error.lineno}, column {error.colno}"
    if isinstance(error, UnicodeDecodeError):
        return "it is not text in UTF-8"
    if isinstance(error, RecursionError):
        return "it is nested too deeply"
    if isinstance(error, KeyError):
        return f"{error.args[0]!r} is missing"
    if isinstance(error, P2PFRLError):
        return str(error)
    return "a value in it is of another kind"


def write_atomically(
    path: Path,
    content: bytes | Iterable[bytes | memoryview],
    *,
    mode: int = 0o666,
    keep: Path | None = None,
) -> None:
    """Write `content` beside `path`, sync it, rename it to `path`, and sync the directory.

    At every moment, and so after a crash at any, there is a whole file at `path` if there was one
    before: the former content or the new one. Where a file system has no hard links and the former
    file is kept, it has only its new name for a moment.

    Args:
        path: of the file; what was there before is replaced.
        content: of the file, or its pieces one after the other.
        mode: permissions of a new file, from its first moment.
        keep: a name for the file that was there before.

    Raises:
        OSError: the disk is full, or the like; what was there before is intact.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        temporary.unlink(missing_ok=True)
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL
        with os.fdopen(os.open(temporary, flags, mode), "wb") as file:
            file.writelines((content,) if isinstance(content, bytes) else content)
            file.flush()
            os.fsync(file.fileno())
        if keep is not None and path.exists():
            _keep(path, keep)
        temporary.replace(path)
        directory = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)


def _keep(path: Path, name: Path) -> None:
    """Give a file a second name, in place of the file that has this name."""
    try:
        name.unlink(missing_ok=True)
        os.link(path, name)
    except OSError:  # a file system without hard links: for a moment nothing is at `path`
        path.replace(name)


def write_file(
    path: Path, content: bytes | Iterable[bytes | memoryview], *, keep: Path | None = None
) -> None:
    """Write a file of a run directory atomically; arguments as of `write_atomically`.

    Raises:
        RecordError: the disk is full, or the like; what was there before is intact.
    """
    try:
        write_atomically(path, content, keep=keep)
    except OSError as error:
        raise RecordError(f"{path}: cannot be written: {error.strerror or error}") from error
