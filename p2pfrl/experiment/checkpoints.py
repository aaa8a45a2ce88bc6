"""Checkpoints of a simulated run: its state at intervals, so that an interrupted run can resume.

`checkpoints/` in the run directory has these files:

    scenario.toml   the resolved scenario
    device.json     where minibatch steps are taken, if `compute.device = "auto"` has chosen it
    run.state       the newest state; run.previous is the one before
    rows-K.state    the record's rows between two checkpoints
    events.bin      all events so far, from which the digest is computed again
    failure.txt     why the run has ended without a record, else blank

A checkpoint only reads the run, so results do not depend on it. The folder is removed when the run
has finished.
"""

from __future__ import annotations

import os
import shutil
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

from p2pfrl.build.devices import Choice, keep, kept
from p2pfrl.build.world import World
from p2pfrl.core.errors import RecordError
from p2pfrl.core.state import read, write
from p2pfrl.results.directory import Content, content_of, going_on, reserve_note, write_note
from p2pfrl.results.files import read_bytes
from p2pfrl.results.versions import versions
from p2pfrl.scenario import Scenario, loads
from p2pfrl.scenario.render import hash8, resolved
from p2pfrl.scenario.sources import copy_files, sources

FOLDER = "checkpoints"
PERIOD = 60.0
"""Default seconds of wall time between checkpoints."""
_SCENARIO, _STATE, _PREVIOUS, _EVENTS = "scenario.toml", "run.state", "run.previous", "events.bin"
_KEPT = 2**24
"""Maximum number of bytes of events in memory before they are written."""


@dataclass
class _EventFile:
    """File of events. It writes them when there are many, and at every checkpoint.

    If a write fails, the events are kept and written later.
    """

    file: BinaryIO
    written: int
    waiting: bytearray = field(default_factory=bytearray)

    def write(self, packed: bytes) -> None:
        """Add events."""
        self.waiting += packed
        if len(self.waiting) > _KEPT:
            self.drain()

    def drain(self) -> bool:
        """Write the events in memory; return whether all of them are in the file."""
        try:
            self.file.seek(self.written)
            self.file.write(self.waiting)
            self.file.flush()
        except OSError:
            return False
        self.written += len(self.waiting)
        self.waiting.clear()
        return True


class Checkpoints:
    """Writer of the checkpoints of one run.

    Attributes:
        written: number of written checkpoints.

    Args:
        directory: the run directory.
        scenario: scenario of the run.
        writes: tries a write (core/writes.py). Without it, the last valid checkpoint is kept.
        engine: what computes.
        now: wall clock, seconds.
    """

    def __init__(
        self,
        directory: Path,
        scenario: Scenario,
        writes: Callable[[str, Callable[[], object]], bool],
        engine: str,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self.written = 0
        self._writes = writes
        self._folder = directory / FOLDER
        self._scenario = scenario
        self._every = scenario.checkpoint.every
        self._facts = facts(scenario, engine)
        self._now = now
        self._last = now()
        self._rows = self._agent_rows = self._parts = 0
        self._events: _EventFile | None = None

    def begin(self, world: World) -> None:
        """Prepare the folder for a run that starts.

        Raises:
            RecordError: it cannot be written.
        """
        try:
            shutil.rmtree(self._folder, ignore_errors=True)
            self._folder.mkdir(parents=True)
            text = resolved(self._scenario)
            (self._folder / _SCENARIO).write_text(text, encoding="utf-8")
            copy_files(self._scenario, self._folder)
            keep(world.assembly.device, self._folder)
            reserve_note(self._folder.parent)
            self._follow(world, (self._folder / _EVENTS).open("w+b"), 0)
        except OSError as error:
            raise RecordError(f"{self._folder}: cannot be written: {error.strerror}") from error

    def resume(self, world: World, others: dict[str, object]) -> dict[str, Any]:
        """Restore a new world from the last valid checkpoint; return the `extra` values of `save`.

        Without any checkpoint the run starts from its beginning.

        Raises:
            RecordError: there are checkpoints but none is valid, or they are of another run.
        """
        if not any((self._folder / name).exists() for name in (_STATE, _PREVIOUS)):
            self.begin(world)
            return {}
        state = self._newest()
        with ExitStack() as otherwise:
            try:
                file = (self._folder / _EVENTS).open("r+b")
                otherwise.callback(file.close)
                # earlier versions have no hash
                world.log.replay(file, state["events"], state.get("events_hash"))
                file.truncate(state["events"])
                reserve_note(self._folder.parent)
            except OSError as error:
                place = error.filename or self._folder / _EVENTS
                raise RecordError(f"{place}: {error.strerror or error}") from error
            self._parts = state["parts"]
            for part in range(self._parts):
                rows = self._part(part)
                world.recorder.rows += rows["rows"]
                world.recorder.agent_rows.restore(rows["agents"])
            self._rows, self._agent_rows = state["rows"]
            try:
                world.restore(state["world"], others)
            except RecordError as error:
                raise RecordError(f"{self._folder}: {error}") from error
            otherwise.pop_all()
        self._follow(world, file, state["events"])
        extra: dict[str, Any] = state["extra"]
        return extra

    def is_due(self, row: int) -> bool:
        """Return whether a checkpoint is due after row number `row`."""
        if isinstance(self._every, int):
            return row % self._every == 0
        return self._now() - self._last >= (self._every or PERIOD)

    def save(self, world: World, others: dict[str, object], **extra: Any) -> None:
        """Write a checkpoint between two events.

        Args:
            world: the run.
            others: as in `World.save`.
            extra: values that `resume` returns.

        Raises:
            RecordError: it cannot be written, and the run does not go on without it.
        """
        began = self._now()
        self.written += self._writes("checkpoints", lambda: self._save(world, others, extra))
        # Slow checkpoints are written less often, so that they cost at most a fiftieth of the run.
        self._last = self._now() + 50 * (self._now() - began) * (self._every is None)

    def close(self) -> None:
        """Close the file of events. What does not fit on the disk is of no checkpoint."""
        if self._events is not None:
            with suppress(OSError):
                self._events.file.close()

    def note(self, reason: str) -> None:
        """Keep why the run has ended without a record."""
        write_note(self._folder.parent, reason)

    def end(self) -> None:
        """Remove all files, because the run has finished."""
        shutil.rmtree(self._folder, ignore_errors=True)

    def _save(self, world: World, others: dict[str, object], extra: dict[str, Any]) -> None:
        events, recorder = world.log.flush(), world.recorder
        assert self._events is not None
        if not self._events.drain():
            raise RecordError(f"{self._folder / _EVENTS}: events cannot be written")
        try:
            os.fsync(self._events.file.fileno())
        except OSError as error:
            place = error.filename or self._folder / _EVENTS
            raise RecordError(f"{place}: {error.strerror or error}") from error
        rows = {
            "rows": recorder.rows[self._rows :],
            "agents": recorder.agent_rows.save(self._agent_rows),
            "part": self._parts,
        }
        write(self._folder / f"rows-{self._parts}.state", rows, self._facts)
        counts = len(recorder.rows), len(recorder.agent_rows)
        state = {
            "world": world.save(others),
            "events": events,
            "events_hash": world.log.hashed(),
            "rows": counts,
            "parts": self._parts + 1,
            "extra": extra,
        }
        write(self._folder / _STATE, state, self._facts, keep=self._folder / _PREVIOUS)
        self._parts += 1
        self._rows, self._agent_rows = counts

    def _part(self, number: int) -> dict[str, Any]:
        """Return the rows between two checkpoints; in those of earlier versions is no number.

        Raises:
            RecordError: the file is damaged, or is another one of this run.
        """
        path = self._folder / f"rows-{number}.state"
        found = read(path, self._facts)
        if "agents" not in found or found.get("part", number) != number:
            raise RecordError(f"{path}: not these rows, but another file of this run")
        return found

    def _newest(self) -> dict[str, Any]:
        problems = []
        for name in (_STATE, _PREVIOUS):
            path = self._folder / name
            try:
                state = read(path, self._facts)
                if "world" not in state:
                    raise RecordError(f"{path}: not a checkpoint, but another file of this run")
            except RecordError as error:
                problems.append(str(error))
                continue
            if problems:
                print(f"{problems[0]}; going on from {name}", file=sys.stderr, flush=True)
            return state
        raise RecordError("\n".join(problems))

    def _follow(self, world: World, file: BinaryIO, written: int) -> None:
        self._events = _EventFile(file, written)
        world.log.file = self._events


def scenario_of(directory: Path, overrides: Mapping[str, object] | None = None) -> Scenario:
    """Return the scenario of a run that has not finished, with overrides on top.

    Raises:
        RecordError: the directory has none.
    """
    path = directory / FOLDER / _SCENARIO
    return loads(text_of(directory), overrides, source=str(path))


def device_of(directory: Path) -> Choice | None:
    """Return the device with which a run that has not finished began; None if none was chosen.

    Raises:
        RecordError: the file is damaged.
    """
    return kept(directory / FOLDER)


def text_of(directory: Path) -> str:
    """Return the scenario of a run that has not finished, as text.

    Raises:
        RecordError: the directory has none.
    """
    path = directory / FOLDER / _SCENARIO
    if os.path.exists(directory) and not os.path.isdir(directory):
        raise RecordError(f"{directory}: expected a run directory to resume, got a file")
    if not os.path.isdir(directory):
        raise RecordError(f"{directory}: there is nothing to resume: no such directory")
    if not path.is_file():
        has_finished = (directory / "summary.json").exists()
        longer = f"a longer one begins anew: p2pfrl scenario {directory / 'scenario.toml'} --set stop...=..."
        what = f"this run has finished; {longer}" if has_finished else "no run was interrupted here"
        if content_of(directory) is Content.UNFINISHED:
            what = f"this is a run of processes, which goes on with: {going_on(directory)}"
        raise RecordError(f"{directory}: there is nothing to resume: {what}")
    return read_bytes(path).decode(errors="replace")


def facts(scenario: Scenario, engine: str) -> dict[str, str]:
    """Return what must be equal to resume from a checkpoint: the scenario and versions."""
    own = versions(engine)
    del own["python"]
    return {**sources(scenario), "scenario": hash8(scenario), **own}
