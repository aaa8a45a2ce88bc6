"""Journals, summaries and scenario of all processes of one run, read and checked."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open

from p2pfrl.build.participants import everyone
from p2pfrl.core.errors import RecordError
from p2pfrl.core.parameters import Layout, Vector
from p2pfrl.core.traffic import Traffic
from p2pfrl.core.types import called
from p2pfrl.deploy.entries import Applied, Begin, End, Entry, Excused, Final, Judged
from p2pfrl.deploy.journal import Reader, vector
from p2pfrl.deploy.process import JOURNAL, SUMMARY, settings
from p2pfrl.net.fleet import show_agents
from p2pfrl.results.files import read_bytes, refusing, require_regular
from p2pfrl.scenario import Scenario
from p2pfrl.scenario.loader import load_recorded
from p2pfrl.scenario.render import resolved
from p2pfrl.scenario.sources import differences, sources

SCENARIO = "scenario.toml"


@dataclass(frozen=True, slots=True)
class Step:
    """The end of one round of one agent, and the position of its entry.

    Attributes:
        time: nanoseconds since the process began for the first time.
        start: time of the process's last start.
    """

    agent: int
    round: int
    time: int
    start: int
    peer: Peer
    life: Life
    position: int

    def read(self) -> Entry:
        """Return the entry."""
        entry = self.peer.reader.at(self.position)
        assert isinstance(entry, Entry)
        return entry


@dataclass(slots=True)
class Life:
    """A process from one start to its end.

    Attributes:
        begin: its first entry.
        offset: added to a time of its clock, gives nanoseconds since the process began for the
            first time.
        steps: entries in the order of writing.
        notes: entries of its coordinators, in the order of writing.
        final: agent -> position of its final parameters.
        totals: the last known totals.
        last: the latest known time, including the offset.
    """

    begin: Begin
    offset: int
    steps: list[Step] = field(default_factory=list)
    notes: list[Applied | Excused | Judged] = field(default_factory=list)
    final: dict[int, int] = field(default_factory=dict)
    totals: Traffic = field(default_factory=Traffic)
    last: int = 0


@dataclass(frozen=True, slots=True, eq=False)
class Peer:
    """One process.

    Attributes:
        directory: its run directory.
        reader: reader of its journal.
        lives: at least one.
        summary: summary of its last life; empty if the process was killed.
    """

    directory: Path
    reader: Reader
    lives: list[Life]
    summary: Mapping[str, Any]

    @property
    def agents(self) -> tuple[int, ...]:
        """Ids of the process's agents; coordinators are below 0."""
        return self.lives[-1].begin.agents

    @property
    def stopped_by(self) -> str:
        """Reason of its end; "died" without a summary."""
        return str(self.summary.get("stopped_by", "died"))

    @property
    def engine(self) -> str | None:
        """What computed its networks; None without a summary."""
        known = self.summary.get("versions")
        return str(known["engine"]) if isinstance(known, dict) and "engine" in known else None

    def number(self, key: str) -> float:
        """Return a number of its summary, 0 if unknown."""
        value = self.summary.get(key, 0)
        return value if isinstance(value, int | float) else 0

    def final(self, agent: int, layout: Layout, *, is_thin: bool = False) -> Vector | None:
        """Return the agent's last known parameters `(d,)`, or None.

        Where some rounds have no entry (`is_thin`), a checkpoint is newer than the last entry.
        """
        life = self.lives[-1]
        if agent in life.final:
            item = self.reader.at(life.final[agent])
            assert isinstance(item, Final)
            return _numbers(self, item.parameters, layout)
        path = self.directory / "checkpoints" / f"agent-{agent}.safetensors"
        steps = [step for life in self.lives for step in life.steps if step.agent == agent]
        saved = _checkpoint(path, layout) if is_thin else None
        if saved is None and steps and not life.begin.is_projected:
            return _numbers(self, steps[-1].read().parameters, layout)
        return _checkpoint(path, layout) if saved is None else saved


def read_peers(directories: Sequence[Path]) -> tuple[Scenario, list[Peer]]:
    """Return the scenario that all directories share, and their peers in order of agents.

    Raises:
        RecordError: a directory is not a peer's, is damaged, or belongs to another run; or agents
            are missing.
    """
    folders = list({folder.resolve(): folder for folder in directories}.values())
    scenario = _scenario(folders)
    peers = sorted((_read(folder) for folder in folders), key=lambda peer: peer.agents)
    owners, ids = dict[int, Peer](), dict.fromkeys(everyone(scenario))
    for peer in peers:
        for agent in peer.agents:
            if agent not in ids:
                raise RecordError(
                    f"{peer.directory / JOURNAL}: {called(agent)}; the scenario has {show_agents(ids)}"
                )
            if agent in owners:
                where = f"{owners[agent].directory} and in {peer.directory}"
                raise RecordError(f"{called(agent)} lives in {where}: give one run's peers")
            owners[agent] = peer
    if missing := [agent for agent in ids if agent not in owners]:
        raise RecordError(
            f"no directory holds agents {show_agents(missing)}: give those of all peers"
        )
    return scenario, peers


def check_size(step: Step, entry: Entry, layout: Layout) -> None:
    """Raise an error if an entry's vectors do not have the layout's size.

    Raises:
        RecordError: with the sizes.
    """
    expected = layout.size * np.dtype(layout.dtype).itemsize
    if len(entry.parameters) != expected:
        raise RecordError(
            f"{step.peer.directory / JOURNAL}: round {entry.round} of {called(entry.agent)}: expected {expected} bytes "
            f"of parameters, got {len(entry.parameters)}"
        )


def _scenario(folders: Sequence[Path]) -> Scenario:
    scenario = load_recorded(_existing(folders[0] / SCENARIO))
    own = resolved(scenario)
    for folder in folders[1:]:
        found = load_recorded(_existing(folder / SCENARIO))
        other = resolved(found)
        changed = differences(sources(scenario), sources(found))
        if changed and other == own:
            what = "; ".join(f"{name}: {a} and {b}" for name, (a, b) in changed.items())
            raise RecordError(
                f"{folders[0] / SCENARIO} and {folder / SCENARIO} name other contents ({what}): "
                "give one run's peers"
            )
        if other != own:
            a, b = settings(own), settings(other)
            keys = [key for key in sorted({**a, **b}) if a.get(key) != b.get(key)]
            shown = "; ".join(
                f"{key}: {a.get(key, 'none')} and {b.get(key, 'none')}" for key in keys[:5]
            )
            raise RecordError(
                f"{folders[0] / SCENARIO} and {folder / SCENARIO} differ ({shown}): give one run's peers"
            )
    return scenario


def _existing(path: Path) -> Path:
    require_regular(path)
    return path


def _read(folder: Path) -> Peer:
    path = folder / JOURNAL
    require_regular(folder / SCENARIO)
    reader = Reader(path)
    peer = Peer(folder, reader, [], _summary(folder))
    for position, item in reader.scan():
        if isinstance(item, Begin):
            peer.lives.append(_life(item, peer.lives))
        elif not peer.lives:
            raise RecordError(
                f"{path}: damaged at byte {position}: expected the start of a process"
            )
        else:
            _add(peer, peer.lives[-1], position, item)
    if not peer.lives:
        raise RecordError(f"{path}: the process never began")
    if peer.summary and peer.summary.get("incarnation") != peer.lives[-1].begin.incarnation:
        return Peer(folder, reader, peer.lives, {})
    return peer


def _life(begin: Begin, before: Sequence[Life]) -> Life:
    """Return a new life.

    After a restart it begins at the machine's time, but after the life before.
    """
    start = 0 if not before else max(before[-1].last, begin.wall - before[0].begin.wall)
    return Life(begin, start - begin.time, last=start)


def _add(
    peer: Peer,
    life: Life,
    position: int,
    item: Entry | Excused | Applied | Judged | Final | End,
) -> None:
    if isinstance(item, Final):
        life.final[item.agent] = position
        return
    life.last = max(life.last, item.time + life.offset)
    if isinstance(item, Entry):
        if item.agent not in life.begin.agents:
            raise RecordError(
                f"{peer.directory / JOURNAL}: damaged at byte {position}: {called(item.agent)}"
            )
        start = life.begin.time + life.offset
        life.steps.append(
            Step(item.agent, item.round, item.time + life.offset, start, peer, life, position)
        )
    elif not isinstance(item, End):
        life.notes.append(item)
    if not isinstance(item, Applied | Judged):
        life.totals = item.totals


def _summary(folder: Path) -> Mapping[str, Any]:
    path = folder / SUMMARY
    if not path.exists():
        return {}
    with refusing(path):
        found = json.loads(read_bytes(path))
        if not isinstance(found, dict):
            raise TypeError("expected a table")
        return found


def _numbers(peer: Peer, raw: bytes, layout: Layout) -> Vector:
    expected = layout.size * np.dtype(layout.dtype).itemsize
    if len(raw) != expected:
        raise RecordError(
            f"{peer.directory / JOURNAL}: expected {expected} bytes of parameters, got {len(raw)}"
        )
    return vector(raw, layout.dtype)


def _checkpoint(path: Path, layout: Layout) -> Vector | None:
    """Return the parameters of the last good checkpoint of a process that was killed."""
    for candidate in (path, path.with_suffix(".previous")):
        try:
            with safe_open(candidate, framework="numpy") as file:
                row = file.get_tensor("parameters")
        except (SafetensorError, OSError, ValueError):
            continue
        if row.shape == (layout.stride,) and str(row.dtype) == layout.dtype:
            return layout.pack(row)
    return None
