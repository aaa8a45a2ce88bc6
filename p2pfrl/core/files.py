"""Atomic writes: a file appears complete or not at all, whatever happens meanwhile."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

from p2pfrl.core.errors import RecordError


def write_atomically(
    path: Path, content: bytes, *, mode: int = 0o666, keep: Path | None = None
) -> None:
    """Write `content` beside `path`, sync it, rename it to `path`, and sync the directory.

    Args:
        path: of the file; what was there before is replaced.
        content: of the file.
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
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        if keep is not None and path.exists():
            path.replace(keep)
        temporary.replace(path)
        directory = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)


def write_file(path: Path, content: bytes, *, keep: Path | None = None) -> None:
    """Write a file of a run directory atomically; arguments as of `write_atomically`.

    Raises:
        RecordError: the disk is full, or the like; what was there before is intact.
    """
    try:
        write_atomically(path, content, keep=keep)
    except OSError as error:
        raise RecordError(f"{path}: cannot be written: {error.strerror or error}") from error
