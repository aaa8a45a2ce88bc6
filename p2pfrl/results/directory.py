"""Run directories: what is in one, and who may write there.

Nothing that is not ours is ever replaced or deleted. A run reserves its directory, so that two
processes never write to the same one, and replaces a record only if it is told to.
"""

from __future__ import annotations

import fcntl
import os
import re
import shutil
import socket
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from enum import Enum
from itertools import chain
from pathlib import Path

from p2pfrl.core.errors import RecordError, ScenarioError
from p2pfrl.core.files import open_regular, read_table

RUNS = Path("runs")
"""Where runs and series have their directories if nothing else is said."""
FORMAT = "p2pfrl-record-1"
SUMMARY = "summary.json"
STATUS, PEER = "status.json", "peer.json"
"""What a process of a deployment writes while it runs, and at its end."""
FILES = (
    "scenario.toml",
    "metrics.csv",
    "agents.csv",
    "newcomers.csv",
    "parameters.safetensors",
    "problem.safetensors",
    "graph.json",
    "staleness.csv",
    "timeline.csv",
    "events.jsonl",
    "trace.json",
)
"""The files of a record, without its summary."""
CHECKPOINTS, DEPLOYED, PEERS, REPORT, FIGURES = (
    "checkpoints",
    "deployed.toml",
    "peers",
    "report.html",
    "figures",
)
LIVE = "live.json"
"""What a simulated run looks like, while it runs (experiment/live.py)."""
_LOCK = ".lock"
_NOTE, _NOTE_SIZE = "failure.txt", 2048
_KNOWN = re.compile(
    r"(adaptation|beside|modes|settings|profile|target|return|problem|consensus|fairness|graph|agents|physics|epsilon|suspicion"
    r"|staleness|timeline)(_\d+_\w+)?\.(svg|png|pdf|csv)"
)
"""Names of the package's own figures, and of their data."""
_DRAWN = re.compile(r"[a-z][a-z0-9]*(_\d+_\w+)?\.(svg|png|pdf|csv)")
"""Names of all figures, of other parts too; ours have our name at their beginning or end."""
_SERIES = ("sweep.csv", "comparison.json")
"""Tables of several runs."""
_MARK, _HEAD = b"p2pfrl", 4096
_MOST_SUMMARY = 2**26


class Content(Enum):
    """What is in a directory."""

    NOTHING = "nothing"
    RECORD = "a finished run"
    UNFINISHED = "an unfinished run"
    OTHER = "files that are not of a run"


def content_of(folder: Path) -> Content:
    """Return what is in a directory, or in the place where it would be.

    Raises:
        RecordError: it cannot be read, or it is a file.
    """
    names = _names(folder)
    if not names:
        return Content.NOTHING
    has_checkpoints = (folder / CHECKPOINTS / "scenario.toml").is_file()
    if has_checkpoints or ({DEPLOYED, PEERS} <= names and SUMMARY not in names):
        return Content.UNFINISHED
    is_damaged = {"graph.json", "parameters.safetensors"} <= names
    summary = read_table(folder / SUMMARY, _MOST_SUMMARY) or {}
    is_record = is_damaged or summary.get("format") == FORMAT
    return Content.RECORD if is_record else Content.OTHER


def is_process(folder: Path) -> bool:
    """Whether a directory is that of one process of a deployment."""
    return (folder / STATUS).is_file() or (folder / CHECKPOINTS / "process.json").is_file()


@contextmanager
def reserved(folder: Path, *, overwrite: bool = False, resuming: bool = False) -> Iterator[None]:
    """Reserve a run directory for this process in the block. If it is empty then, it is removed.

    Args:
        folder: the directory; it is made if there is none.
        overwrite: whether it may have a run, which `clear` removes.
        resuming: whether it may have an unfinished run.

    Raises:
        ScenarioError: it has something else, or another process uses it.
        RecordError: it cannot be written.
    """

    def check(*, has_lock: bool = False) -> None:
        found = content_of(folder)
        if found is Content.UNFINISHED and not has_lock and (user := user_of(folder)):
            raise ScenarioError([_in_use(folder, user)])
        if found is Content.OTHER:
            raise ScenarioError([f"{folder}: {_foreign(_names(folder))}"])
        if found is Content.NOTHING or overwrite or (resuming and found is Content.UNFINISHED):
            return
        fix = "--overwrite replaces it, or give another --out"
        if found is Content.UNFINISHED:
            fix = f"`{going_on(folder)}` continues it, {fix}"
        raise ScenarioError([f"{folder}: expected an empty directory, got {found.value}; {fix}"])

    check()
    with _locked(folder):
        check(has_lock=True)
        yield


@contextmanager
def reserved_for_series(folder: Path) -> Iterator[None]:
    """Reserve a directory of several runs for this process in the block.

    Raises:
        ScenarioError: it has something that is not of a series of runs, or another process uses it.
        RecordError: it cannot be written.
    """
    names = _names(folder)
    others = [name for name in names if _is_foreign(folder / name)]
    if others and not any(_is_table(folder / name) for name in _SERIES):
        raise ScenarioError([f"{folder}: {_foreign(others)}"])
    with _locked(folder):
        yield


@contextmanager
def reserved_for_peer(folder: Path) -> Iterator[None]:
    """Reserve the directory of one process of a deployment for this process in the block.

    Raises:
        ScenarioError: it has files that are not of such a process, or another process uses it.
        RecordError: it cannot be written.
    """
    names = _names(folder) - {"log.jsonl", "log.1.jsonl", "audit.jsonl"}
    if names and not (folder / CHECKPOINTS / "process.json").is_file():
        raise ScenarioError([f"{folder}: {_foreign(names)}"])
    with _locked(folder):
        yield


def user_of(folder: Path) -> str | None:
    """Return which process has reserved a directory, as "process PID on HOST", or None."""
    try:
        lock = os.open(folder / _LOCK, os.O_RDWR)
    except OSError:
        return None
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return _head(folder / _LOCK).decode(errors="replace").strip() or "another process"
    except OSError:
        return None
    finally:
        os.close(lock)
    return None


def going_on(folder: Path) -> str:
    """Return the command that continues the unfinished run in a directory.

    One of processes has no checkpoints of the simulator, and as many processes as before are
    needed.
    """
    if (folder / CHECKPOINTS / "scenario.toml").is_file():
        return f"p2pfrl scenario --resume {folder}"
    homes = [path.name.split("+") for path in (folder / PEERS).iterdir()]
    jobs = sum(any(name[:1].isdigit() for name in names) for names in homes)
    file = folder / DEPLOYED
    return f"p2pfrl scenario {file} --transport tcp --jobs {max(jobs, 1)} --out {folder}"


def reserve_note(folder: Path) -> None:
    """Reserve space in an unfinished run for the reason of its end, which a full disk has not.

    Raises:
        OSError: it cannot be written.
    """
    path = folder / CHECKPOINTS / _NOTE
    path.unlink(missing_ok=True)  # it may be a pipe that nobody reads
    path.write_bytes(b" " * _NOTE_SIZE)


def write_note(folder: Path, reason: str) -> None:
    """Write why an unfinished run has ended into the space that was reserved for it."""
    content = reason.encode()[:_NOTE_SIZE].ljust(_NOTE_SIZE)
    with suppress(OSError), (folder / CHECKPOINTS / _NOTE).open("r+b") as file:
        file.write(content)


def read_note(folder: Path) -> str | None:
    """Return why an unfinished run has ended; None if nothing says so, as after a kill."""
    try:
        with open_regular(folder / CHECKPOINTS / _NOTE) as file:
            return file.read(_NOTE_SIZE).decode(errors="replace").strip() or None
    except OSError:
        return None


def runs_in(folder: Path) -> tuple[list[Path], list[Path]]:
    """Return the finished and the unfinished runs of a directory of several runs, by name.

    Both are empty if it is a run directory itself.
    """
    if not folder.is_dir() or content_of(folder) in (Content.RECORD, Content.UNFINISHED):
        return [], []
    found: dict[Content, list[Path]] = {content: [] for content in Content}
    for path in sorted(folder.iterdir(), key=_natural):
        if path.is_dir():
            found[content_of(path)].append(path)
    return found[Content.RECORD], found[Content.UNFINISHED]


def left_out(folder: Path, own: Sequence[Path], table: str) -> str | None:
    """Return a sentence that names the runs in the directory of a series that are not its own.

    A series that was resumed with other settings has runs of the earlier ones beside it. None if
    there are no others.

    Args:
        folder: the directory of the series.
        own: run directories of the series.
        table: name of the file with the table of the series.
    """
    names = {path.name for path in own}
    others = [path.name for path in chain(*runs_in(folder)) if path.name not in names]
    if not others:
        return None
    more = f" and {len(others) - 3} more" if len(others) > 3 else ""
    return f"left out: {', '.join(others[:3])}{more}: in {folder}, but not in its {table}"


def _natural(path: Path) -> list[tuple[int, str]]:
    """Return a key for which "s10" comes after "s9"."""
    pieces = re.split(r"(\d+)", path.name)
    return [(int(piece), "") if piece.isdigit() else (-1, piece) for piece in pieces]


def new_directory(base: Path) -> Path:
    """Make a directory that did not exist, `base` or `base-2`, `base-3`, ..., and return it.

    Raises:
        RecordError: it cannot be made.
    """
    path, count = base, 1
    try:
        while True:
            try:
                path.mkdir(parents=True)
            except FileExistsError:
                count += 1
                path = base.with_name(f"{base.name}-{count}")
            else:
                return path
    except OSError as error:
        raise RecordError(f"{path}: cannot be made: {error.strerror}") from error


def new_series(name: str, what: str) -> Path:
    """Make the directory of a new series of runs below `runs`, and return its path.

    Args:
        name: of the scenario.
        what: the kind of the series, such as "sweep".
    """
    return new_directory(RUNS / name / f"{datetime.now(UTC):%Y%m%dT%H%M%SZ}-{what}")


def drop_empty(folder: Path, made: Collection[Path] = ()) -> None:
    """Remove a directory of runs if it is empty, and those above it that are empty then.

    Args:
        folder: the directory.
        made: those above it that were made with it. Those within `runs` go, too.
    """
    with suppress(OSError):
        folder.rmdir()
    above = [path for path in folder.parents if path in made or RUNS in (path, *path.parents)]
    with suppress(OSError):
        for path in above:
            path.rmdir()


@contextmanager
def dropped_if_empty(folder: Path) -> Iterator[None]:
    """Leave no directory without anything in it at the end of the block."""
    try:
        yield
    finally:
        drop_empty(folder)


def clear(folder: Path) -> None:
    """Remove a run from a directory. Files that are not of a run stay.

    Raises:
        RecordError: a file cannot be removed.
    """
    clear_results(folder)
    try:
        for name in FILES:
            (folder / name).unlink(missing_ok=True)
        if (folder / DEPLOYED).is_file():
            shutil.rmtree(folder / PEERS, ignore_errors=True)
            (folder / DEPLOYED).unlink()
        if (folder / CHECKPOINTS / "scenario.toml").is_file():
            shutil.rmtree(folder / CHECKPOINTS)
    except OSError as error:
        raise RecordError(f"{folder}: cannot hold a run: {error.strerror}") from error


def clear_results(folder: Path) -> None:
    """Remove what a record adds to a directory at its end: summary, optional files, figures.

    Raises:
        RecordError: a file cannot be removed.
    """
    optional = (LIVE, "problem.safetensors", "events.jsonl", "trace.json")
    try:
        for name in (SUMMARY, *optional, REPORT):
            (folder / name).unlink(missing_ok=True)
        for path in (folder / FIGURES).glob("*"):
            if _KNOWN.fullmatch(path.name):
                path.unlink()
    except OSError as error:
        raise RecordError(f"{folder}: cannot hold a run: {error.strerror}") from error
    clear_figures(folder / FIGURES, ())


def clear_figures(folder: Path, kept: Sequence[Path]) -> None:
    """Remove figures that this package has drawn for an earlier report, but not those of `kept`.

    Raises:
        RecordError: one cannot be removed.
    """
    names = {path.name for path in kept}
    try:
        for path in folder.glob("*"):
            is_drawn = path.name not in names and _DRAWN.fullmatch(path.name) and path.is_file()
            if is_drawn and (_MARK in _head(path) or _MARK in _end(path)):
                path.unlink()
    except OSError as error:
        raise RecordError(f"{folder}: cannot hold figures: {error.strerror}") from error


def clear_report(folder: Path) -> None:
    """Remove a page and figures that this package has written, which no longer fit the runs.

    Raises:
        RecordError: one cannot be removed.
    """
    page = folder / REPORT
    try:
        if page.is_file() and (_MARK in _head(page) or _MARK in _end(page)):
            page.unlink()
    except OSError as error:
        raise RecordError(f"{page}: cannot be removed: {error.strerror}") from error
    clear_figures(folder / FIGURES, ())


def refuse_replacing(folder: Path, paths: Sequence[Path]) -> None:
    """Refuse to replace files that this package has not written.

    Args:
        folder: where they will be written. In a run directory they are ours.
        paths: pages and figures that will be written. Ours have our name at their beginning or end.

    Raises:
        ScenarioError: one is not ours.
    """
    existing = [path for path in paths if path.exists()]
    if existing and content_of(folder) in (Content.RECORD, Content.UNFINISHED):
        return
    for path in existing:
        if not (path.is_file() and (_MARK in _head(path) or _MARK in _end(path))):
            raise ScenarioError(
                [
                    f"{path}: expected no file or one that p2pfrl has written, got another; give another --out"
                ]
            )


def _names(folder: Path) -> set[str]:
    try:
        return {path.name for path in folder.iterdir()} - {_LOCK}
    except FileNotFoundError:
        return set()
    except OSError as error:
        raise RecordError(f"{folder}: cannot hold a run: {error.strerror}") from error


def _foreign(names: Sequence[str] | set[str]) -> str:
    """Return the reason to refuse a directory with these files."""
    shown = sorted(names)
    more = f" and {len(shown) - 3} more" if len(shown) > 3 else ""
    return (
        f"expected an empty directory or one of p2pfrl's, got {', '.join(shown[:3])}{more}; "
        "give another --out"
    )


def _is_foreign(path: Path) -> bool:
    """Whether a path in the directory of a series is no run directory."""
    return not path.is_dir() or content_of(path) is Content.OTHER


def _is_table(path: Path) -> bool:
    """Whether a file is the table of a series of runs."""
    marks = (b",state,directory,final_return.mean", b'"modes": [')
    return path.is_file() and any(mark in _head(path) for mark in marks)


def _end(path: Path) -> bytes:
    """Return the last bytes of a file, where a PDF says who wrote it."""
    try:
        with open_regular(path) as file:
            file.seek(max(0, path.stat().st_size - _HEAD))
            return file.read(_HEAD)
    except OSError:
        return b""


def _head(path: Path) -> bytes:
    try:
        with open_regular(path) as file:
            return file.read(_HEAD)
    except OSError:
        return b""


def _in_use(folder: Path, user: str) -> str:
    return f"{folder}: is in use by {user}; wait for its end, or give another --out"


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Hold the lock of a directory in the block. The system releases it if the process dies."""
    path = folder / _LOCK
    made = [above for above in folder.parents if not above.exists()]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = _lock(path)
    except BlockingIOError as error:
        user = _head(path).decode(errors="replace").strip() or "another process"
        raise ScenarioError([_in_use(folder, user)]) from error
    except OSError as error:
        drop_empty(folder, made)
        raise RecordError(f"{folder}: cannot hold a run: {error.strerror}") from error
    try:
        yield
    finally:
        with suppress(OSError):
            path.unlink()
        os.close(lock)
        drop_empty(folder, made)


def _lock(path: Path) -> int:
    """Return the descriptor of a locked file. It is locked as long as it is open.

    Raises:
        BlockingIOError: another process has locked it.
        OSError: it cannot be made.
    """
    while True:
        lock = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(lock)
            raise
        except OSError:
            pass  # a file system without locks
        with suppress(FileNotFoundError):
            # The process that had the lock may have removed the file in the meantime.
            if os.path.samestat(os.fstat(lock), path.stat()):
                os.ftruncate(lock, 0)
                os.pwrite(lock, f"process {os.getpid()} on {socket.gethostname()}\n".encode(), 0)
                return lock
        os.close(lock)
