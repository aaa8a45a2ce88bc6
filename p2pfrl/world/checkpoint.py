"""Checkpoints of a process: one file per agent, written so that a crash at any moment leaves a good one.

A checkpoint is a safetensors file: parameters, every state array, and in its metadata the round, the update counter and
the scenario's hash. It is written beside its place, synced, and renamed; the previous one is kept until then, and one
more before it. Nothing is unpickled.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from p2pfrl.core.errors import P2PFRLError, RecordError
from p2pfrl.learning.trainer import Snapshot, Trainer
from p2pfrl.world.fleet import Fleet

_PARAMETERS = "parameters"
_LIMIT = 2**31


class Checkpoints:
    """The checkpoints of one process.

    Args:
        directory: where they are.
        scenario: hash of the scenario; checkpoints of another are refused.
    """

    def __init__(self, directory: Path, scenario: str) -> None:
        self._directory = directory
        self._scenario = scenario

    def incarnation(self) -> int:
        """Return how many times a process was started on this directory before, and count this start.

        Raises:
            RecordError: the directory belongs to another scenario.
        """
        self._directory.mkdir(parents=True, exist_ok=True)
        path = self._directory / "process.json"
        count = 0
        if path.exists():
            try:
                found = json.loads(path.read_text(encoding="utf-8"))
                count = int(found["starts"])
                other = str(found["scenario"])
            except (ValueError, KeyError, TypeError) as error:
                raise RecordError(f"{path}: not a process file: {error}") from error
            if other != self._scenario:
                raise RecordError(
                    f"{path}: belongs to scenario {other}, this is {self._scenario}; choose another --out"
                )
        _write(path, json.dumps({"scenario": self._scenario, "starts": count + 1}).encode())
        return count

    def keep_whereabouts(self, port: int, agents: Sequence[int], fleet: Fleet) -> None:
        """Remember where this process listens, who lives here and who lives where: the lead tells it only once."""
        table = {"port": port, "agents": list(agents), "fleet": fleet.rows()}
        _write(self._directory / "fleet.json", json.dumps(table).encode())

    def whereabouts(self) -> tuple[int, tuple[int, ...], Fleet] | None:
        """Return (port, agents, fleet) as an earlier start kept them, or None.

        Raises:
            RecordError: the file is damaged.
        """
        path = self._directory / "fleet.json"
        if not path.exists():
            return None
        try:
            found = json.loads(path.read_text(encoding="utf-8"))
            return int(found["port"]), tuple(map(int, found["agents"])), Fleet.of(found["fleet"])
        except (ValueError, KeyError, TypeError, P2PFRLError) as error:
            raise RecordError(f"{path}: not a table of addresses: {error}") from error

    def save(self, agent: int, round: int, trainer: Trainer) -> None:
        """Save an agent at the end of `round`."""
        snapshot = trainer.snapshot(agent)
        tensors = {_PARAMETERS: snapshot.parameters, **{f"state.{k}": np.asarray(v) for k, v in snapshot.state.items()}}
        metadata = {"round": str(round), "index": str(snapshot.index), "scenario": self._scenario, "agent": str(agent)}
        path = self._path(agent)
        if path.exists():
            os.replace(path, path.with_suffix(".previous"))
        _write(path, save({name: np.ascontiguousarray(value) for name, value in tensors.items()}, metadata))

    def restore(self, agent: int, trainer: Trainer) -> int:
        """Put an agent back to its last good checkpoint; return the round to go on with, 0 where there is none.

        Raises:
            RecordError: there are checkpoints, and none is good.
        """
        path = self._path(agent)
        problems = []
        for candidate in (path, path.with_suffix(".previous")):
            if not candidate.exists():
                continue
            try:
                snapshot, round = self._read(candidate, agent, trainer)
            except RecordError as error:
                problems.append(str(error))
                continue
            trainer.restore(agent, snapshot)
            return round + 1
        if problems:
            raise RecordError("\n".join(problems))
        return 0

    def _path(self, agent: int) -> Path:
        return self._directory / f"agent-{agent}.safetensors"

    def _read(self, path: Path, agent: int, trainer: Trainer) -> tuple[Snapshot, int]:
        if path.stat().st_size > _LIMIT:
            raise RecordError(f"{path}: {path.stat().st_size} bytes; at most {_LIMIT}")
        own = trainer.snapshot(agent)
        try:
            with safe_open(path, framework="numpy") as file:
                metadata = file.metadata() or {}
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  # not a dict
        except (SafetensorError, OSError, ValueError) as error:
            raise RecordError(f"{path}: not a checkpoint: {error}") from error
        if metadata.get("scenario") != self._scenario or metadata.get("agent") != str(agent):
            raise RecordError(f"{path}: a checkpoint of agent {metadata.get('agent')} of another scenario")
        expected = {_PARAMETERS: own.parameters, **{f"state.{k}": np.asarray(v) for k, v in own.state.items()}}
        for name, value in expected.items():
            found = tensors.get(name)
            if found is None or found.shape != value.shape or found.dtype != value.dtype:
                raise RecordError(f"{path}: {name}: expected {value.shape} {value.dtype}, got {found}")
        state = {name: tensors[f"state.{name}"] for name in own.state}
        return Snapshot(tensors[_PARAMETERS], state, int(metadata["index"])), int(metadata["round"])


def _write(path: Path, data: bytes) -> None:
    """Write beside, sync, rename, sync the directory."""
    temporary = path.with_name(path.name + ".tmp")
    with temporary.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    os.replace(temporary, path)
    directory = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)
