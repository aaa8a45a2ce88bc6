"""Status of a process: a small file with its round, written every second while it runs."""

from __future__ import annotations

import asyncio
import json
import math
import os
import re
import signal
import socket
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import asdict, dataclass, field
from itertools import chain
from pathlib import Path
from typing import Any, cast

from p2pfrl.core.errors import P2PFRLError
from p2pfrl.core.files import open_regular, read_table
from p2pfrl.core.types import member_id, name_of
from p2pfrl.results.directory import (
    PEER,
    PEERS,
    STATUS,
    SUMMARY,
    Content,
    content_of,
    read_note,
    runs_in,
    user_of,
)
from p2pfrl.results.files import refusing

PERIOD = 1.0
"""Seconds between two writes of the status of a process."""
_MOST = 2**20
_TAIL = 2**16


@dataclass(frozen=True)
class Status:
    """The status of a process.

    Attributes:
        agents: its agents, coordinators and standbys. The file names the latter, here and below.
        round: number of rounds that all of its agents have completed. Without agents, that its
            coordinator knows to have ended: with standbys those that a majority has stored, and of
            a standby those that it has stored.
        rounds: number of rounds of the run; None if it ends otherwise.
        return_mean: mean return of the last training episodes; None without any.
        seconds: seconds since the processes began.
        bytes_sent: frame bytes.
        deadlines_expired: number of waits that ended by a deadline.
        journal_bytes: size of the journal.
        writes_failed: kind of write, such as "checkpoints" -> number of writes that failed, as on a
            full disk.
        time: when this was written, in seconds since 1970.
        progress: agent -> rounds completed, last mean return, staleness of what it last mixed, and
            bytes sent; null where it is not known. Of many agents those that are behind.
        updates: agent -> rounds that it has ended itself since this start of its process.
        waits: agent -> what it waits for, in words.
        awaited: agent -> the agents and coordinators whose messages it waits for, if any.
        heard: agent of another process -> round of the newest message from it.
        down: agents of other processes to which no link is up.
        opted_out: agent of another process -> the rounds after which it left for good.
        suspicion: agent -> how far what it sent last was from what robust rules here chose, in
            units of the median distance.
        refusals: reason -> number of connections and messages that were refused.
        latest: the last frames to and from other processes, and the last local updates
            (`Stopwatch.latest`).
        waiting: what the process waits for before its first round, in words; "" if it does not.
    """

    agents: tuple[int, ...]
    round: int
    rounds: int | None
    return_mean: float | None
    seconds: float
    bytes_sent: int
    deadlines_expired: int
    journal_bytes: int
    writes_failed: Mapping[str, int]
    time: float
    progress: Mapping[str, Sequence[float | None]] = field(default_factory=dict)
    updates: Mapping[str, int] = field(default_factory=dict)
    waits: Mapping[str, str] = field(default_factory=dict)
    awaited: Mapping[str, Sequence[int]] = field(default_factory=dict)
    heard: Mapping[str, int] = field(default_factory=dict)
    down: tuple[int, ...] = ()
    opted_out: Mapping[str, int] = field(default_factory=dict)
    suspicion: Mapping[str, float] = field(default_factory=dict)
    refusals: Mapping[str, int] = field(default_factory=dict)
    latest: Mapping[str, Sequence[Sequence[Any]]] = field(default_factory=dict)
    waiting: str = ""

    def write(self, folder: Path) -> None:
        """Write the file, unless the disk is full."""
        temporary = folder / f".{STATUS}.tmp"
        with suppress(OSError):
            temporary.write_text(json.dumps(_named(asdict(self))), encoding="utf-8")
            temporary.replace(folder / STATUS)


_NUMBERS = ("round", "seconds", "bytes_sent", "deadlines_expired", "journal_bytes", "time")
"""Keys of a status with a number."""
_IDS = ("agents", "down")
"""Keys of a status with a list of ids."""
_BY_ID = ("waits", "awaited", "heard", "opted_out")
"""Keys of a status with a table by id."""


def _named(status: Mapping[str, Any]) -> dict[str, Any]:
    """Return a status with the names of coordinators and standbys in place of their ids."""
    return _renamed(status, lambda id: name_of(int(id)))


def by_id(status: Mapping[str, Any]) -> dict[str, Any]:
    """Return a status with the ids of coordinators and standbys in place of their names.

    Raises:
        ValueError: it names somebody who cannot be.
    """
    return _renamed(status, member_id)


def _renamed(status: Mapping[str, Any], name: Callable[[int | str], int | str]) -> dict[str, Any]:
    found = dict(status)
    for key in _IDS:
        if found.get(key):
            found[key] = [name(id) for id in found[key]]
    for key in _BY_ID:
        if found.get(key):
            found[key] = {str(name(id)): value for id, value in found[key].items()}
    if found.get("awaited"):
        found["awaited"] = {id: [name(i) for i in ids] for id, ids in found["awaited"].items()}
    if found.get("latest"):
        latest = {key: list(rows) for key, rows in found["latest"].items()}
        latest["arrived"] = [[name(to), name(by), *more] for to, by, *more in latest["arrived"]]
        latest["sent"] = [[name(by), [*map(name, to)], *more] for by, to, *more in latest["sent"]]
        found["latest"] = latest
    return found


@asynccontextmanager
async def waiting_status(
    folder: Path, agents: Sequence[int], rounds: int | None, waits_for: Callable[[], str]
) -> AsyncIterator[None]:
    """Write the status of a process that waits for others, every second while it is in the block.

    If the block ends by an error or an interrupt, the status has it.

    Args:
        folder: its directory.
        agents: those that it wants.
        rounds: as of `Status`.
        waits_for: returns what it waits for, in words.
    """

    async def write() -> None:
        while True:
            at, words = time.time(), waits_for()
            Status(tuple(agents), 0, rounds, None, 0.0, 0, 0, 0, {}, at, waiting=words).write(
                folder
            )
            await asyncio.sleep(PERIOD)

    writing = asyncio.get_running_loop().create_task(write())
    try:
        yield
    except asyncio.CancelledError:
        _add(folder, stopped_by="interrupt")
        raise
    except P2PFRLError as error:
        write_failure(folder, str(error))
        raise
    finally:
        writing.cancel()


def write_failure(folder: Path, reason: str) -> None:
    """Add why a process has failed to its status."""
    _add(folder, failure=reason[:1000])


def _is_number(value: object) -> bool:
    return type(value) in (int, float) and math.isfinite(cast(float, value))


def _is_status(found: Mapping[str, Any]) -> bool:
    """Return whether a table is the status of a process."""
    optional = [found.get(name) for name in ("rounds", "return_mean")]
    return (
        all(_is_number(found.get(name)) for name in _NUMBERS)
        and all(value is None or _is_number(value) for value in optional)
        and isinstance(found.get("agents"), list)
        and isinstance(found.get("writes_failed"), dict)
    )


def _add(folder: Path, **more: str) -> None:
    """Add keys to the status of a process, in place: a full disk has no other space."""
    found = read_table(folder / STATUS, _MOST)
    with suppress(OSError):
        if found is not None:
            content = json.dumps({**found, **more}).encode()
            with (folder / STATUS).open("r+b") as file:
                file.write(content)


def read_status(folder: Path) -> dict[str, Any] | None:
    """Return what a process wrote last, with ids in place of names, or None."""
    found = read_table(folder / STATUS, _MOST)
    with suppress(ValueError, TypeError, KeyError, AttributeError):
        return None if found is None or not _is_status(found) else by_id(found)
    return None


def row_of(folders: Sequence[Path]) -> dict[str, float] | None:
    """Return the progress of all processes of a run as a row of metrics; None before they begin.

    Columns that no process knows are nan.
    """
    known = [status for folder in folders if (status := read_status(folder)) is not None]
    found = [status for status in known if status["seconds"] > 0]
    rounds = [int(status["round"]) for status in found if max(status["agents"], default=-1) >= 0]
    if not rounds:
        return None
    returns = [status["return_mean"] for status in found if status["return_mean"] is not None]
    return {
        "round": min(rounds),
        "return_mean": sum(returns) / len(returns) if returns else math.nan,
        "error": math.nan,
        "consensus_distance": math.nan,
        "virtual_seconds": max(float(status["seconds"]) for status in found),
        "env_steps": math.nan,
        "bytes_sent": sum(int(status["bytes_sent"]) for status in found),
    }


def statuses(folder: Path) -> list[dict[str, Any]]:
    """Return the status of a run directory, or of all processes or runs in it.

    Every status has `directory`, `state`, `process`, `round`, `rounds` and `age` (seconds since the
    last sign of life); a process of a deployment has those of `Status` as well. The state is
    "running", "ended by" and why, "failed: " and the reason, "killed", or "no run".

    Raises:
        RecordError: the status of a process is a table that none wrote.
    """
    peers = sorted((folder / PEERS).iterdir()) if (folder / PEERS).is_dir() else []
    runs = sorted(chain(*runs_in(folder)))
    return [_status(path) for path in peers or runs or [folder]]


RUNNING = "running"
MISSING = "no run"
"""State of a directory that has no run, and result of `stop` where there is no directory."""
STOPPED = ("stopped", "not running")
"""Results of `stop` after which no process runs."""


def stop(folder: Path, patience: float = 60.0) -> str:
    """Interrupt the process of a run directory, or all in it, and wait for their end.

    Returns:
        One of `STOPPED`, `MISSING`, or why a process still runs.
    """
    if not folder.is_dir():
        return MISSING
    peers = sorted((folder / PEERS).iterdir()) if (folder / PEERS).is_dir() else []
    places = [folder] if user_of(folder) is not None else peers
    running = {place: user for place in places if (user := user_of(place)) is not None}
    for place, user in running.items():
        match = re.fullmatch(r"process (\d+) on (.+)", user)
        if match is None or match[2] != socket.gethostname():
            return f"{place} is in use by {user}: stop it there"
        try:
            os.kill(int(match[1]), signal.SIGTERM)
        except ProcessLookupError:
            continue
        except PermissionError:
            return f"{place} is in use by {user}, of another user"
    deadline = time.monotonic() + patience
    while any(user_of(place) == user for place, user in running.items()):
        if time.monotonic() > deadline:
            return f"did not end within {patience:g} s"
        time.sleep(0.1)
    return "stopped" if running else "not running"


def _status(folder: Path) -> dict[str, Any]:
    own = read_table(folder / STATUS, _MOST) or {}
    with refusing(folder):
        if own and not _is_status(own):
            raise ValueError(f"{STATUS} has a table that no process wrote")
    summary = read_table(folder / PEER, _MOST) or read_table(folder / SUMMARY, _MOST) or {}
    user = user_of(folder)
    is_known = (folder / STATUS).is_file() or content_of(folder) is Content.UNFINISHED
    state = "killed" if is_known else MISSING
    if (stopped_by := (summary or own).get("stopped_by")) is not None:
        state = f"ended by {stopped_by}"
    failure = summary.get("failure") if summary else own.get("failure") or read_note(folder)
    if failure:
        state = f"failed: {failure}"
    if user is not None:
        state = RUNNING
    last = _last_round(folder / "metrics.csv")
    done = own.get("round", last if last is not None else summary.get("rounds"))
    written = own.get("time") or _changed(folder / "metrics.csv")
    return {
        **own,
        "directory": str(folder),
        "state": state,
        "process": user,
        "round": done,
        "rounds": own.get("rounds"),
        "age": None if written is None else max(0.0, time.time() - written),
    }


def _last_round(path: Path) -> int | None:
    """Return the round of the last complete line of a table of metrics."""
    try:
        with open_regular(path) as file:
            file.seek(max(0, path.stat().st_size - _TAIL))
            lines = file.read(_TAIL).split(b"\n")[:-1]
        return int(float(lines[-1].split(b",")[0]))
    except (OSError, ValueError, IndexError):
        return None


def _changed(path: Path) -> float | None:
    try:
        return path.stat().st_mtime
    except OSError:
        return None
