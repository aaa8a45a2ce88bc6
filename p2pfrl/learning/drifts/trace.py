"""Drift from a file: the values of a physical quantity at given updates."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from typing_extensions import override

from p2pfrl.core.errors import P2PFRLError
from p2pfrl.core.files import OversizeError, read_regular
from p2pfrl.core.located import Located
from p2pfrl.core.rule import rule
from p2pfrl.core.text import EncodingError, decode
from p2pfrl.learning.drifts.base import Array, Drift

_LARGEST = 2**22
_EVERYONE = -1
_Points = Mapping[int, tuple[tuple[int, float], ...]]


@rule
class Trace(Drift, Located):
    """The values of a CSV file, each from its update on, for all agents or for one.

    Lines are `update,value` or `update,agent,value`; `#` starts a comment. A value without an agent
    is that of all agents which have no line of their own. Before the first line of an agent it has
    the value of the scenario.

    Attributes:
        path: of the file; it is searched beside the scenario file, then in the working directory.
    """

    path: str

    @property
    @override
    def begins(self) -> int:
        """The earliest update of the file."""
        return min(own[0][0] for own in self._points().values())

    @override
    def refresh(self) -> None:
        # As the folder, what the file holds is no option.
        object.__setattr__(self, "_held", _read(self.beside(self.path) or Path(self.path)))

    def _points(self) -> _Points:
        """Return what the file held at the start of the run, or when it was first asked for."""
        if "_held" not in vars(self):
            self.refresh()
        held: _Points = vars(self)["_held"]
        return held

    @override
    def values(self, start: Array, agents: Sequence[int], updates: Sequence[int]) -> Array:
        points = self._points()
        out = np.array(start, dtype=np.float64)
        for row, (agent, update) in enumerate(zip(agents, updates, strict=True)):
            for at, value in points.get(int(agent), points.get(_EVERYONE, ())):
                if at <= update:
                    out[row] = value
        return out

    @override
    def misfit(self, agents: int) -> str | None:
        points = self._points()
        if (highest := max(points)) < agents:
            return None
        return f"{self.path}: expected agents from 0 to {agents - 1}, got agent {highest}"

    @override
    def peaks(self, agents: Sequence[int], last: int | None) -> tuple[list[int], list[int]]:
        points = self._points()
        ends = {agent: _ends(own, last) for agent, own in points.items()}
        found = [
            (agent, at) for agent in agents for at in ends.get(int(agent), ends.get(_EVERYONE, ()))
        ]
        return [agent for agent, _ in found], [at for _, at in found]

    @override
    def files(self) -> Mapping[str, Path]:
        """Return the file."""
        return {self.path: self.beside(self.path) or Path(self.path)}


def _read(path: Path) -> _Points:
    """Return the points of every agent in order of updates.

    Raises:
        P2PFRLError: with the line that cannot be read.
    """
    try:
        lines = decode(read_regular(path, _LARGEST)).splitlines()
    except OversizeError as error:
        raise P2PFRLError(f"{path}: a trace of physics has at most {_LARGEST} bytes") from error
    except EncodingError as error:
        raise P2PFRLError(f"{path}:{error.line}:{error.column}: {error}") from error
    except OSError as error:
        raise P2PFRLError(f"{path}: cannot read the trace: {error.strerror or error}") from error
    found: dict[int, dict[int, float]] = {}
    for number, line in enumerate(lines, start=1):
        text = line.partition("#")[0].strip()
        if not text or text.replace(" ", "") in ("update,value", "update,agent,value"):
            continue
        try:
            update, agent, value = _fields(text)
        except ValueError as error:
            raise P2PFRLError(
                f"{path}:{number}: expected `update,value` or `update,agent,value` with an update and an "
                f"agent of at least 0 and a finite value, such as `50,1200`, got {text!r}"
            ) from error
        if update in found.setdefault(agent, {}):
            raise P2PFRLError(f"{path}:{number}: a second value in update {update}, got {text!r}")
        found[agent][update] = value
    if not found:
        raise P2PFRLError(f"{path}: expected lines such as `50,1200`, got none")
    return {agent: tuple(sorted(points.items())) for agent, points in found.items()}


def _ends(points: Sequence[tuple[int, float]], last: int | None) -> tuple[int, ...]:
    """Return the updates of the lowest and the highest value until update `last`."""
    known = [(value, at) for at, value in points if last is None or at <= last]
    return (min(known)[1], max(known)[1]) if known else ()


def _fields(text: str) -> tuple[int, int, float]:
    fields = [field.strip() for field in text.split(",")]
    if len(fields) == 2:
        fields.insert(1, str(_EVERYONE))
    update, agent, value = fields
    found = int(update), int(agent), float(value)
    is_agent = found[1] >= 0 or len(text.split(",")) == 2
    if found[0] < 0 or not is_agent or not math.isfinite(found[2]):
        raise ValueError
    return found
