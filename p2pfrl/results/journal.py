"""What one process of a deployment writes down, round by round, so that one record can be made of all.

An append-only file of msgpack maps, each behind its length; a file that ends inside an entry is read up to there.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Protocol

import msgpack
import numpy as np

from p2pfrl.core.errors import RecordError
from p2pfrl.core.parameters import Vector
from p2pfrl.core.types import Update

_LENGTH = struct.Struct("<I")
_LIMIT = 2**30


class Traffic(Protocol):
    """A process's totals."""

    messages_dropped: int
    bytes_sent: int
    bytes_by: dict[int, int]


@dataclass(frozen=True, slots=True)
class Entry:
    """One agent at the end of one of its rounds.

    Attributes:
        round: counted from 0.
        time: nanoseconds since the process began.
        updates: local updates since the previous entry: environment steps, loss, returns, measures.
        staleness: by sender.
        bytes_sent: by this agent, so far.
        before: the shared vector before mixing, raw bytes; empty where the agent sat out.
        shared: the shared vector after mixing.
        parameters: all parameters after mixing, raw bytes.
    """

    agent: int
    round: int
    time: int
    updates: Sequence[Update]
    staleness: Mapping[int, int]
    bytes_sent: int
    before: bytes
    shared: bytes
    parameters: bytes


class Journal:
    """Writes entries. It is the observer of its agents and the witness of a coordinator.

    Args:
        path: of the file; appended to.
        model: agent -> all its parameters without padding.
        now: nanoseconds.
        every: rounds between checkpoints.
        save: called with (agent, round) when a checkpoint is due.
    """

    def __init__(self, path: Path, *, model: Any, now: Any, every: int, save: Any) -> None:
        self.traffic: Traffic | None = None
        self.rounds: dict[int, int] = {}
        self.returns: dict[int, list[float]] = {}
        self._file: BinaryIO = path.open("ab")
        self._model = model
        self._now = now
        self._every = every
        self._save = save
        self._updates: dict[int, list[Update]] = {}

    def trained(self, agent: int, update: Update) -> None:
        """A local update ended."""
        self._updates.setdefault(agent, []).append(update)
        self.returns[agent] = [*self.returns.get(agent, []), *update.returns][-20:]

    def mixed(self, agent: int, round: int, staleness: Mapping[int, int], before: Vector, after: Vector) -> None:
        """A round of `agent` ended."""
        self._write(agent, round, staleness, before.tobytes(), after.tobytes())

    def sat_out(self, agent: int, round: int) -> None:
        """A round of `agent` ended in which it took no part."""
        self._write(agent, round, {}, b"", b"")

    def excused(self, round: int, participants: Sequence[int]) -> None:
        """A coordinator's model went out."""
        self._append({"excused": round, "participants": list(participants)})

    def applied(self, agent: int, tau: int) -> None:
        """The coordinator applied an update."""
        self._append({"applied": agent, "tau": tau})

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def _write(self, agent: int, round: int, staleness: Mapping[int, int], before: bytes, after: bytes) -> None:
        assert self.traffic is not None
        updates = [[u.env_steps, u.loss, list(u.returns), dict(u.measures)] for u in self._updates.pop(agent, [])]
        self.rounds[agent] = round + 1
        self._append({
            "agent": agent, "round": round, "time": self._now(), "updates": updates,
            "staleness": {str(j): tau for j, tau in staleness.items()},
            "bytes_sent": self.traffic.bytes_by.get(agent, 0), "before": before, "shared": after,
            "parameters": self._model(agent).tobytes(),
        })  # fmt: skip
        if (round + 1) % self._every == 0:
            self._save(agent, round)

    def _append(self, entry: dict[str, Any]) -> None:
        packed = msgpack.packb(entry)
        self._file.write(_LENGTH.pack(len(packed)) + packed)
        self._file.flush()


def read(path: Path) -> Iterator[Entry | dict[str, Any]]:
    """Yield what a journal holds: entries, and a coordinator's notes as maps.

    Raises:
        RecordError: it is not a journal.
    """
    try:
        with path.open("rb") as file:
            while prefix := file.read(_LENGTH.size):
                if len(prefix) < _LENGTH.size:
                    return
                (size,) = _LENGTH.unpack(prefix)
                if size > _LIMIT:
                    raise RecordError(f"{path}: an entry of {size} bytes; the file is damaged")
                raw = file.read(size)
                if len(raw) < size:
                    return
                found = msgpack.unpackb(raw, max_ext_len=0, max_bin_len=_LIMIT)
                yield _entry(found) if "agent" in found else found
    except (OSError, ValueError, KeyError, TypeError, msgpack.UnpackException) as error:
        raise RecordError(f"{path}: not a journal: {error}") from error


def _entry(found: dict[str, Any]) -> Entry:
    updates = [
        Update(found["agent"], steps, loss, returns, measures) for steps, loss, returns, measures in found["updates"]
    ]
    staleness = {int(j): tau for j, tau in found["staleness"].items()}
    return Entry(
        found["agent"], found["round"], found["time"], updates, staleness, found["bytes_sent"], found["before"],
        found["shared"], found["parameters"],
    )  # fmt: skip


def vector(raw: bytes, dtype: str) -> Vector:
    """Return the numbers of a raw vector."""
    return np.frombuffer(raw, dtype=dtype)
