"""Checkpoints of a process: one file per agent or coordinator.

After a crash at any time a valid checkpoint exists.

The checkpoint of an agent is a safetensors file with the parameters and every state array. Its
metadata has the round, the update counter, the scenario's hash and a checksum. The checkpoint of a
coordinator has the state of its body and its schedule (core/state.py). Both are written to a
temporary file, synced and renamed, and the previous checkpoint is kept. Nothing is unpickled.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Mapping, Sequence
from hashlib import blake2b
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from p2pfrl.core.errors import P2PFRLError, RecordError
from p2pfrl.core.files import read_regular, unreadable, write_file
from p2pfrl.core.state import State, pack, read, unpack, write
from p2pfrl.core.types import name_of
from p2pfrl.learning.trainer import Snapshot, Trainer
from p2pfrl.net.fleet import Fleet

_PARAMETERS, _STATE, _MEMORY = "parameters", "state.", "memory."
_NAMES = {
    "float64": "F64",
    "float32": "F32",
    "int64": "I64",
    "int32": "I32",
    "int16": "I16",
    "int8": "I8",
    "uint64": "U64",
    "uint32": "U32",
    "uint16": "U16",
    "uint8": "U8",
    "bool": "BOOL",
}
_LIMIT = 2**31
LARGEST_TABLE = 2**26
"""Most bytes of a JSON file of a process."""
_SAVED = "saved"
_VOTER = (
    "votes, and may have promised or stored what only this file has, so it does not go on from an older state; leave "
    "this process down, and the others go on if they are a majority of coordinator and standbys; else begin the run "
    "anew, each process with another --out"
)
_ANEW = "restore the file from a backup, or give another --out to begin anew"


class Checkpoints:
    """The checkpoints of one process.

    Attributes:
        problems: reasons why checkpoints were refused and an older one was used.
        memories: agent -> its restored state outside the trainer.

    Args:
        directory: folder of the checkpoints.
        scenario: hash of the scenario; checkpoints of another scenario are refused.
    """

    def __init__(self, directory: Path, scenario: str) -> None:
        self.problems: list[str] = []
        self.memories: dict[int, State] = {}
        self._directory = directory
        self._scenario = scenario

    def incarnation(self) -> int:
        """Return how often a process was started in this directory before, and count this start.

        Raises:
            RecordError: the directory belongs to another scenario.
        """
        count = self.starts()
        self._directory.mkdir(parents=True, exist_ok=True)
        write_file(
            self._directory / "process.json",
            json.dumps({"scenario": self._scenario, "starts": count + 1}).encode(),
        )
        return count

    def starts(self) -> int:
        """Return how many times a process was started in this directory before.

        Raises:
            RecordError: the directory belongs to another scenario.
        """
        path = self._directory / "process.json"
        count = 0
        if path.exists():
            try:
                found = json.loads(read_regular(path, LARGEST_TABLE))
                count = int(found["starts"])
                other = str(found["scenario"])
            except (ValueError, KeyError, TypeError, RecursionError) as error:
                raise RecordError(
                    f"{path}: not a process file: {unreadable(error)}; {_ANEW}"
                ) from error
            if other != self._scenario:
                raise RecordError(
                    f"{path}: belongs to scenario {other}, this is {self._scenario}; choose another --out"
                )
        return count

    @property
    def are_newest(self) -> bool:
        """Whether `mark` has noted that no later state was seen by others."""
        return (self._directory / _SAVED).exists()

    def mark(self, *, saved: bool) -> None:
        """Note whether the checkpoints are those of the last state that others have seen.

        The note of a lack is that a file is removed, which a full disk permits.
        """
        path = self._directory / _SAVED
        with contextlib.suppress(OSError):
            path.touch() if saved else path.unlink(missing_ok=True)

    def keep_whereabouts(self, port: int, agents: Sequence[int], fleet: Fleet) -> None:
        """Save this process's port, agents and table of processes: the lead sends them once."""
        table = {"port": port, "agents": list(agents), "fleet": fleet.rows()}
        write_file(self._directory / "fleet.json", json.dumps(table).encode())

    def whereabouts(self) -> tuple[int, tuple[int, ...], Fleet] | None:
        """Return (port, agents, fleet) that an earlier start saved, or None.

        Raises:
            RecordError: the file is damaged.
        """
        path = self._directory / "fleet.json"
        if not path.exists():
            return None
        try:
            found = json.loads(read_regular(path, LARGEST_TABLE))
            return int(found["port"]), tuple(map(int, found["agents"])), Fleet.of(found["fleet"])
        except (ValueError, KeyError, TypeError, RecursionError, P2PFRLError) as error:
            raise RecordError(
                f"{path}: not a table of addresses: {unreadable(error)}; {_ANEW}"
            ) from error

    def save(self, agent: int, round: int, trainer: Trainer, memory: State | None = None) -> None:
        """Save an agent at the end of `round`.

        Args:
            agent: id of the agent.
            round: the round that ended.
            trainer: has the learner's state.
            memory: the agent's other state.

        Raises:
            RecordError: it cannot be written; the previous checkpoint is intact.
        """
        own = trainer.snapshot(agent)
        tensors = _tensors(own)
        text, arrays = pack(memory or {})
        tensors |= {f"{_MEMORY}{number}": array for number, array in enumerate(arrays)}
        metadata = {
            "round": str(round),
            "index": str(own.index),
            "scenario": self._scenario,
            "agent": str(agent),
            "memory": text,
        }
        path = self._path(agent)
        data = save(tensors, metadata | {"digest": _digest(tensors, metadata)})
        write_file(path, data, keep=path.with_suffix(".previous"))

    def restore(self, agent: int, trainer: Trainer) -> int:
        """Restore an agent from its last valid checkpoint; return the next round, 0 without one.

        A damaged file is renamed to `.damaged`, so that it never replaces a valid one; `problems`
        has the reason.

        Raises:
            RecordError: there are checkpoints, and none is valid.
        """
        path = self._path(agent)
        problems: list[str] = []
        for candidate in (path, path.with_suffix(".previous")):
            if not candidate.exists():
                continue
            try:
                snapshot, round = self._read(candidate, agent, trainer)
            except RecordError as error:
                problems.append(str(error))
                continue
            if problems:
                os.replace(path, path.with_suffix(".damaged"))
                self.problems.append(
                    f"{problems[0]}; going on from round {round} as {candidate.name} has it"
                )
            trainer.restore(agent, snapshot)
            return round + 1
        if problems:
            raise RecordError("\n".join(problems))
        return 0

    def save_coordinator(self, id: int, state: State) -> None:
        """Save all that a coordinator remembers, before others see its effect.

        Raises:
            RecordError: it cannot be written; the previous checkpoint is intact.
        """
        path = self._coordinator_path(id)
        write(path, state, self._facts(id), keep=path.with_suffix(".previous"))

    def restore_coordinator(self, id: int, *, votes: bool = False) -> State | None:
        """Return the state that a coordinator saved last; None if it has not begun.

        Damaged files are treated as in `restore`, but for a voter: an older state may lack a
        promise or a stored result that others rely on, so that it could promise an epoch twice.

        Args:
            id: of a coordinator or standby.
            votes: whether there are standbys, so that it is a voter.

        Raises:
            RecordError: there are checkpoints, and none is valid; or a voter's newest is not.
        """
        path = self._coordinator_path(id)
        problems: list[str] = []
        for candidate in (path, path.with_suffix(".previous")):
            if not candidate.exists():
                continue
            try:
                state = read(candidate, self._facts(id))
            except RecordError as error:
                if votes and candidate == path:
                    raise RecordError(f"{error}; {name_of(id)} {_VOTER}") from error
                problems.append(str(error))
                continue
            if problems:
                os.replace(path, path.with_suffix(".damaged"))
                self.problems.append(f"{problems[0]}; going on from {candidate.name}")
            return state
        if problems:
            raise RecordError("\n".join(problems))
        return None

    def _coordinator_path(self, id: int) -> Path:
        return self._directory / f"{name_of(id)}.safetensors"

    def _facts(self, id: int) -> dict[str, str]:
        """Return the facts that identify the checkpoint of a coordinator."""
        return {"scenario": self._scenario, "coordinator": str(name_of(id))}

    def _path(self, agent: int) -> Path:
        return self._directory / f"agent-{agent}.safetensors"

    def _read(self, path: Path, agent: int, trainer: Trainer) -> tuple[Snapshot, int]:
        own = trainer.snapshot(agent)
        expected = _tensors(own)
        try:
            size = path.stat().st_size
            if size > _LIMIT:
                raise RecordError(f"{path}: {size} bytes; at most {_LIMIT}")
            with safe_open(path, framework="numpy") as file:
                metadata = dict(file.metadata() or {})
                self._check(path, agent, metadata)
                for name, value in expected.items():
                    found = file.get_slice(name) if name in file.keys() else None  # noqa: SIM118  # not a dict
                    shape, dtype = (
                        (tuple(found.get_shape()), found.get_dtype()) if found else (None, None)
                    )
                    if shape != value.shape or dtype != _NAMES.get(value.dtype.name):
                        raise RecordError(
                            f"{path}: {name}: expected {value.shape} {value.dtype}, got {shape} {dtype}"
                        )
                kept = sorted(
                    (name for name in file.keys() if name.startswith(_MEMORY)),  # noqa: SIM118  # not a dict
                    key=lambda name: int(name.removeprefix(_MEMORY)),
                )
                tensors = {name: file.get_tensor(name) for name in (*expected, *kept)}
        except (SafetensorError, OSError, ValueError) as error:
            raise RecordError(f"{path}: not a checkpoint: {error}") from error
        digest = metadata.pop("digest", "")
        if digest != _digest(tensors, metadata):
            raise RecordError(
                f"{path}: damaged: its contents do not have the checksum {digest or '(none)'}"
            )
        try:
            memory = unpack(metadata["memory"], [tensors[name] for name in kept])
        except (ValueError, KeyError, TypeError, IndexError, RecursionError) as error:
            raise RecordError(f"{path}: not a checkpoint: {error}") from error
        if memory:
            self.memories[agent] = memory
        state = {name: tensors[_STATE + name] for name in own.state}
        return Snapshot(tensors[_PARAMETERS], state, int(metadata["index"])), int(metadata["round"])

    def _check(self, path: Path, agent: int, metadata: Mapping[str, str]) -> None:
        found = metadata.get("scenario"), metadata.get("agent")
        if found != (self._scenario, str(agent)):
            raise RecordError(
                f"{path}: expected agent {agent} of scenario {self._scenario}, got agent {found[1]} of {found[0]}"
            )


def _tensors(snapshot: Snapshot) -> dict[str, NDArray[np.generic]]:
    state = {_STATE + name: np.ascontiguousarray(value) for name, value in snapshot.state.items()}
    # ascontiguousarray makes a vector of a single number. The file must have the trainer's shape.
    return {_PARAMETERS: snapshot.parameters} | {
        name: value.reshape(np.shape(snapshot.state[name.removeprefix(_STATE)]))
        for name, value in state.items()
    }


def _digest(tensors: Mapping[str, NDArray[np.generic]], metadata: Mapping[str, str]) -> str:
    """Return the checksum of everything in a checkpoint."""
    total = blake2b(digest_size=16)
    for key in sorted(metadata):
        total.update(f"{key}={metadata[key]};".encode())
    for name in sorted(tensors):
        value = np.ascontiguousarray(tensors[name])
        total.update(f"{name}:{value.dtype}:{np.shape(tensors[name])};".encode())
        total.update(value.data)
    return total.hexdigest()
