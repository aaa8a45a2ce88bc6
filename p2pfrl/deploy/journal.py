"""Journal of one process: an append-only file of its rounds, from which the record is made.

    file     magic, then entries
    entry    u32 length, u32 crc32 of the map, u32 crc32 of these eight bytes, then a msgpack map

A process that is started again in its directory appends to the same file. If a crash left an
incomplete entry at the end, the file is read up to it, and the next start cuts it off. Damage
before the end is refused. The journal has the parameters of every round or, above 16,384 numbers,
their projections (projection.py); the final parameters are always complete. Of a long run, not
every round has an entry (thinning.py): the next entry then begins with the totals of the rounds
before.
"""

from __future__ import annotations

import math
import struct
import time
import zlib
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, suppress
from io import FileIO
from pathlib import Path
from typing import Any, BinaryIO

import msgpack
import numpy as np

from p2pfrl.core.errors import RecordError
from p2pfrl.core.files import open_regular
from p2pfrl.core.parameters import Layout, Vector
from p2pfrl.core.traffic import Traffic
from p2pfrl.core.types import COORDINATOR, Scores, Update
from p2pfrl.core.writes import strictly
from p2pfrl.deploy.entries import Item, parse
from p2pfrl.deploy.projection import LARGE, Projection

MAGIC = b"p2pfrl-journal-2"
_HEAD, _CHECK = struct.Struct("<II"), struct.Struct("<I")
_PREFIX = _HEAD.size + _CHECK.size
_MOST_BLANK = 2**28
"""Most zero bytes at the end of a file that a crash of the machine may have left."""
_LATEST = 20
_KIND = "entries of the journal"
_PLAIN = 5
"""Length of a local update in an entry; the totals of rounds without entries are longer."""


class Journal:
    """Writer of entries: observer of a process's agents, and witness of a single coordinator.

    Attributes:
        traffic: the process's totals; set before any event.
        rounds: agent -> rounds completed. An asynchronous agent takes over the round of what it
            receives.
        ended: agent -> rounds that it has ended itself since this start of the process.
        returns: agent -> returns of its last 20 training episodes.
        staleness: agent -> mean staleness of what it mixed last, if it mixed anything.
        scores: agent or coordinator -> how its robust rule met what it received last.

    Args:
        path: the file, to which entries are appended.
        agents: ids of the process's agents; those below 0 are coordinators.
        incarnation: how many times the process was started before.
        seed: seed of the run; identifies the projection.
        layout: names and shapes of the parameters.
        model: agent -> all its parameters without padding.
        now: nanoseconds of the process's clock.
        every: rounds between checkpoints.
        save: called with (agent, round) when a checkpoint is due.
        keeps: round or number of a coordinator's model -> whether it has an entry.
        writes: (kind, write) -> whether the write has worked (core/writes.py). A round whose entry
            could not be written is as one without an entry.

    Raises:
        RecordError: the file is not a journal, or is damaged.
    """

    def __init__(
        self,
        path: Path,
        *,
        agents: Sequence[int],
        incarnation: int,
        seed: int,
        layout: Layout,
        model: Callable[[int], Vector],
        now: Callable[[], int],
        every: int,
        save: Callable[[int, int], None],
        keeps: Callable[[int], bool] = lambda round: True,
        writes: Callable[[str, Callable[[], object]], bool] = strictly,
    ) -> None:
        self.traffic: Traffic | None = None
        self.rounds: dict[int, int] = {}
        self.ended: Counter[int] = Counter()
        self.returns: dict[int, list[float]] = {}
        self.staleness: dict[int, float] = {}
        self.scores: dict[int, Scores] = {}
        self._agents = tuple(agents)
        self._incarnation = incarnation
        self._projection = Projection(seed, layout) if layout.size > LARGE else None
        self._model = model
        self._now = now
        self._every = every
        self._save = save
        self._keeps = keeps
        self._writes = writes
        self._path = path
        self._models: dict[int, int] = {}
        self._lags: dict[int, Counter[int]] = {}
        self._updates: dict[int, list[list[Any]]] = {}
        self._answers: dict[int, Vector] = {}
        self._found: Scores = {}  # of the agent whose round ends next
        self._has_begun = False
        self._first: dict[str, Any] | None = None
        self._file, self._end = _reopen(path)

    def begin(self) -> None:
        """Record the time at which the agents begin. Later calls do nothing."""
        if not self._has_begun:
            self._has_begun = True
            self._first = {
                "begin": self._incarnation,
                "agents": list(self._agents),
                "time": self._now(),
                "wall": time.time_ns(),
                "projected": self._projection is not None,
            }
            self._append()

    def trained(self, agent: int, update: Update) -> None:
        """Record the end of a local update."""
        row = [
            update.env_steps,
            update.loss,
            list(update.returns),
            dict(update.measures),
            self._now(),
        ]
        self._updates.setdefault(agent, []).append(row)
        self.returns[agent] = [*self.returns.get(agent, []), *update.returns][-_LATEST:]

    def mixed(
        self, agent: int, round: int, staleness: Mapping[int, int], before: Vector, after: Vector
    ) -> None:
        """Record the end of a round of `agent`, with its answers to neighbors in the round."""
        if staleness:
            self.staleness[agent] = sum(staleness.values()) / len(staleness)
        scores, self._found = self._found, {}
        if scores:
            self.scores[agent] = scores
        model = self._model(agent)
        if agent in self._answers:
            before = before - self._answers.pop(agent)
        if not self._keeps(round):
            self._answers[agent] = after - before  # the next entry has this move too
            self._pass(agent, round, staleness)
            return
        if self._projection is not None:
            change = self._projection.change(before, after).tobytes()
            projected = self._projection.parameters(model).tobytes()
            self._write(agent, round, staleness, b"", change, projected, scores)
            return
        shared, parameters = after.tobytes(), model.tobytes()
        self._write(
            agent,
            round,
            staleness,
            before.tobytes(),
            b"" if shared == parameters else shared,
            parameters,
            scores,
        )

    def sending(self, agent: int, round: int) -> None:
        """The messages of a round are about to leave.

        A process that is killed sends them again.
        """
        if self._every == 1:
            self._save(agent, round - 1)

    def updates(self, agent: int) -> list[list[Any]]:
        """Return the local updates of `agent` in the round that goes on, for its checkpoint."""
        return self._updates.get(agent, [])

    def resume(self, agent: int, updates: Sequence[list[Any]]) -> None:
        """Take over the local updates that belong to the round in which `agent` goes on."""
        self._updates[agent] = list(updates)

    def answered(self, agent: int, before: Vector, after: Vector) -> None:
        """Record that an answer to a neighbor moved the agent.

        It is written when the round ends.
        """
        move = after - before
        self._answers[agent] = self._answers[agent] + move if agent in self._answers else move

    def sat_out(self, agent: int, round: int) -> None:
        """Record the end of a round in which `agent` took no part."""
        if not self._keeps(round):
            self._pass(agent, round, {})
            return
        model = self._model(agent)
        row = model if self._projection is None else self._projection.parameters(model)
        self._write(agent, round, None, b"", b"", row.tobytes())

    def judged(self, round: int, scores: Scores) -> None:
        """Keep how a robust rule of an agent met what it received: its round ends right after."""
        self._found = scores

    def aggregated(self, round: int, scores: Scores, by: int) -> None:
        """Record how the robust aggregator of coordinator `by` met what it received."""
        self.scores[by] = scores
        if self._keeps(round):
            self._append({"judged": round, "scores": _rows(scores), "time": self._now(), "by": by})

    def suspicion(self) -> dict[int, float]:
        """Return agent -> distance of what it sent last, the median over those here who met it.

        In units of the median distance of all that they received (consensus/suspicion.py).
        """
        found: dict[int, list[float]] = {}
        for scores in self.scores.values():
            for sender, (distance, _) in scores.items():
                found.setdefault(sender, []).append(distance)
        return {sender: float(np.median(values)) for sender, values in sorted(found.items())}

    def excused(self, round: int, participants: Sequence[int], by: int = COORDINATOR) -> None:
        """Record that coordinator `by` sent its model."""
        is_first = by not in self._models
        self._models[by] = round
        # A round has its updates between its model and the next, whose traffic ends with another.
        if is_first or any(self._keeps(r) for r in (round, round - 1, round - 2)):
            lags = sorted(self._lags.pop(by, {}).items())
            entry = {"excused": round, "time": self._now(), "totals": self._totals(), "by": by}
            self._append({**entry, "passed": lags} if lags else entry)

    def applied(self, agent: int, tau: int, by: int = COORDINATOR) -> None:
        """Record that coordinator `by` applied an update."""
        if self._keeps(self._models.get(by, 0)):
            self._append({"applied": agent, "tau": tau, "time": self._now(), "by": by})
        else:
            self._lags.setdefault(by, Counter())[tau] += 1

    def close(self) -> None:
        """Write the final parameters and close the file. Later calls do nothing.

        Raises:
            RecordError: they cannot be written.
        """
        if self._file.closed:
            return
        with closing(self._file):
            if self._has_begun:
                for agent in self._agents:
                    if agent >= 0:
                        self._append({"final": agent, "parameters": self._model(agent).tobytes()})
                self._append({"end": self._now(), "totals": self._totals()})

    def _write(
        self,
        agent: int,
        round: int,
        staleness: Mapping[int, int] | None,
        before: bytes,
        shared: bytes,
        parameters: bytes,
        scores: Scores | None = None,
    ) -> None:
        assert self.traffic is not None
        has_entry = self._append(
            {
                "agent": agent,
                "round": round,
                "time": self._now(),
                "updates": self._updates.get(agent, []),
                "active": staleness is not None,
                "staleness": list((staleness or {}).items()),
                "bytes_sent": self.traffic.bytes_by.get(agent, 0),
                "totals": self._totals(),
                "before": before,
                "shared": shared,
                "parameters": parameters,
                **({"scores": _rows(scores)} if scores else {}),
            }
        )
        if has_entry:
            self._updates.pop(agent, None)
            self._completed(agent, round)
        else:
            self._pass(agent, round, staleness or {})

    def _pass(self, agent: int, round: int, staleness: Mapping[int, int]) -> None:
        """Add a round without an entry to the totals with which the next entry begins."""
        updates = self._updates.get(agent, [])
        self._updates[agent] = [_added(updates, staleness, self._now())]
        self._completed(agent, round)

    def _completed(self, agent: int, round: int) -> None:
        self.rounds[agent] = round + 1
        self.ended[agent] += 1
        if (round + 1) % self._every == 0:
            self._save(agent, round)

    def _totals(self) -> list[int]:
        traffic = self.traffic
        assert traffic is not None
        return [
            traffic.messages_sent,
            traffic.messages_delivered,
            traffic.messages_dropped,
            traffic.bytes_sent,
        ]

    def _append(self, entry: dict[str, Any] | None = None) -> bool:
        """Write an entry, after that of the beginning; return whether it is in the file."""
        if self._first is not None:
            first = framed(msgpack.packb(self._first))
            if not self._writes(_KIND, lambda: self._put(first)):
                return False
            self._first = None
        if entry is None:
            return True
        data = framed(msgpack.packb(entry))
        return self._writes(_KIND, lambda: self._put(data))

    def _put(self, data: bytes) -> None:
        """Write the bytes of an entry, all or none.

        Raises:
            RecordError: the disk is full, or the like.
        """
        try:
            self._file.seek(self._end)
            left = memoryview(data)
            while left:
                left = left[self._file.write(left) :]
        except OSError as error:
            with suppress(OSError):
                self._file.truncate(self._end)  # which needs no space
            raise RecordError(
                f"{self._path}: an entry of the journal cannot be written: {error.strerror}"
            ) from error
        self._end += len(data)


def _added(updates: Sequence[list[Any]], staleness: Mapping[int, int], time: int) -> list[Any]:
    """Return the totals of rounds, in the place of a local update.

    They are environment steps, loss and measures of the last update, the last returns, then the
    numbers of rounds, updates and older episodes and how often each staleness was applied; and the
    time.
    """
    has_totals = bool(updates) and len(updates[0]) > _PLAIN
    rounds, count, older, lags = updates[0][4] if has_totals else (0, 0, 0, ())
    counted = Counter({int(tau): int(times) for tau, times in lags})
    counted.update(staleness.values())
    returns = [r for row in updates for r in row[2]]
    last = updates[-1] if updates else [0, math.nan, [], {}]
    passed = [
        rounds + 1,
        count + len(updates) - has_totals,
        older + max(0, len(returns) - _LATEST),
        sorted(counted.items()),
    ]
    steps = sum(row[0] for row in updates)
    return [steps, last[1], returns[-_LATEST:], last[3], passed, time]


def _rows(scores: Scores) -> list[tuple[int, float, float]]:
    """Return scores as an entry has them."""
    return [(sender, distance, cosine) for sender, (distance, cosine) in scores.items()]


def framed(packed: bytes) -> bytes:
    """Return an entry's bytes in the file."""
    head = _HEAD.pack(len(packed), zlib.crc32(packed))
    return head + _CHECK.pack(zlib.crc32(head)) + packed


class Reader:
    """Reader of a journal.

    Args:
        path: the file.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self.end = len(MAGIC)

    def scan(self, start: int = len(MAGIC)) -> Iterator[tuple[int, Item]]:
        """Yield (position, entry) in order from `start` on, up to an incomplete end.

        `end` is the end of complete data, from which a later scan goes on.

        Raises:
            RecordError: it is not a journal, or is damaged before its end.
        """
        try:
            with open_regular(self._path) as file:
                found = file.read(len(MAGIC))
                if found != MAGIC:
                    if MAGIC.startswith(found):
                        return
                    raise RecordError(f"{self._path}: not a journal: it starts with {found!r}")
                size = self._path.stat().st_size
                self.end = file.seek(start)
                while (packed := self._next(file, size)) is not None:
                    position, self.end = self.end, file.tell()
                    yield position, self._parse(packed, position)
        except OSError as error:
            raise RecordError(f"{self._path}: cannot be read: {error.strerror}") from error

    def at(self, position: int) -> Item:
        """Return the entry at a position from `scan`."""
        with self._path.open("rb") as file:
            file.seek(position)
            length, _ = _HEAD.unpack(file.read(_PREFIX)[: _HEAD.size])
            return self._parse(file.read(length), position)

    def _next(self, file: BinaryIO, size: int) -> bytes | None:
        """Return the next entry, or None at the end of the file, complete or incomplete.

        Raises:
            RecordError: the entry is damaged and is not the last one.
        """
        prefix = file.read(_PREFIX)
        if len(prefix) < _PREFIX:
            return None
        head, check = prefix[: _HEAD.size], prefix[_HEAD.size :]
        if _CHECK.unpack(check)[0] != zlib.crc32(head):
            if any(prefix) or size - file.tell() > _MOST_BLANK or not _is_blank(file):
                raise RecordError(
                    f"{self._path}: damaged at byte {self.end}: the checksum of its length differs"
                )
            return None
        length, crc = _HEAD.unpack(head)
        left = size - file.tell()
        if length > left:
            return None
        packed = file.read(length)
        if zlib.crc32(packed) != crc:
            if length == left:
                return None
            raise RecordError(f"{self._path}: damaged at byte {self.end}: its checksum differs")
        return packed

    def _parse(self, packed: bytes, position: int) -> Item:
        try:
            return parse(msgpack.unpackb(packed, max_ext_len=0))
        except (ValueError, KeyError, TypeError, msgpack.UnpackException, RecursionError) as error:
            raise RecordError(
                f"{self._path}: damaged at byte {position}: {type(error).__name__}: {error}"
            ) from error


def _is_blank(file: BinaryIO) -> bool:
    """Return whether only zeros follow: blocks that were unwritten at a power cut."""
    while block := file.read(65_536):
        if any(block):
            return False
    return True


def _reopen(path: Path) -> tuple[FileIO, int]:
    """Open a journal to append after its last complete entry; return the file and its end.

    Raises:
        RecordError: it is damaged, or cannot be written.
    """
    try:
        if not path.exists():
            path.write_bytes(MAGIC)
        reader = Reader(path)
        for _ in reader.scan():
            pass
        file = path.open("r+b", buffering=0)
        file.truncate(reader.end)
        file.seek(0)
        file.write(MAGIC)
    except OSError as error:
        raise RecordError(f"{path}: the journal cannot be written: {error.strerror}") from error
    return file, reader.end


def vector(raw: bytes, dtype: str) -> Vector:
    """Return the numbers of a raw vector."""
    return np.frombuffer(raw, dtype=dtype)


class Notes:
    """Witness of one of several coordinators: it writes entries with the coordinator's id.

    Args:
        journal: of the process.
        id: of the coordinator.
        terms: called with (id, epoch) where a coordinator or standby takes office.
    """

    def __init__(self, journal: Journal, id: int, terms: Callable[[int, int], None]) -> None:
        self._journal = journal
        self._id = id
        self._terms = terms

    def excused(self, round: int, participants: Sequence[int]) -> None:
        """Record that the coordinator sent a model."""
        self._journal.excused(round, participants, self._id)

    def applied(self, agent: int, tau: int) -> None:
        """Record that the coordinator applied an update."""
        self._journal.applied(agent, tau, self._id)

    def took_office(self, id: int, epoch: int) -> None:
        """Tell who takes office."""
        self._terms(id, epoch)

    def judged(self, round: int, scores: Scores) -> None:
        """Record how a robust aggregator met what it received."""
        self._journal.aggregated(round, scores, self._id)
