"""The line about single agents on a terminal: best and worst, who lags, who is down, faults.

It is read from the files that a run replaces while it runs, as a live page reads them.
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from p2pfrl.catalog import kind_of
from p2pfrl.core.files import read_table
from p2pfrl.core.types import name_of
from p2pfrl.deploy.status import read_status
from p2pfrl.results.directory import LIVE, PEERS
from p2pfrl.scenario import Scenario

PERIOD = 1.0
"""Seconds between two looks at the files."""
_NAMED = 3
"""Number of agents that are named at most, of each sort."""


@dataclass(frozen=True)
class Agents:
    """What is known of single agents.

    Attributes:
        rounds: agent -> rounds that it has ended.
        best, worst: agents and returns, the best and the worst first.
        down: agents that are away.
        seconds: virtual time; nan where there is none.
    """

    rounds: Mapping[int, int] = field(default_factory=dict)
    best: Sequence[tuple[int, float]] = ()
    worst: Sequence[tuple[int, float]] = ()
    down: Sequence[int] = ()
    seconds: float = math.nan

    @classmethod
    def of(cls, directory: Path) -> Agents:
        """Return what the files of a run directory say now."""
        view = read_table(directory / LIVE, 2**26)
        return cls._of_view(view) if view is not None else cls._of_peers(directory / PEERS)

    @classmethod
    def _of_view(cls, view: Mapping[str, Any]) -> Agents:
        return cls(
            dict(enumerate(view.get("rounds", ()))),
            [(agent, value) for agent, value in view.get("best", ())],
            [(agent, value) for agent, value in view.get("worst", ())],
            view.get("down", ()),
            view.get("virtual_seconds", math.nan),
        )

    @classmethod
    def _of_peers(cls, peers: Path) -> Agents:
        folders = sorted(peers.iterdir()) if peers.is_dir() else []
        found = [status for folder in folders if (status := read_status(folder)) is not None]
        numbers = {
            int(agent): own
            for status in found
            for agent, own in (status.get("progress") or {}).items()
        }
        returns = sorted((own[1], agent) for agent, own in numbers.items() if own[1] is not None)
        down = sorted({agent for status in found for agent in status.get("down") or ()})
        return cls(
            {agent: int(own[0]) for agent, own in numbers.items()},
            [(agent, value) for value, agent in returns[: -_NAMED - 1 : -1]],
            [(agent, value) for value, agent in returns[:_NAMED]],
            down,
        )

    def line(self) -> str:
        """Return it as text; "" if nothing is known.

        >>> Agents({0: 5, 1: 3}, [(0, 99.5)], [(1, 12.0)], [1]).line()
        'best 0 (99.5)  worst 1 (12)  behind 1 (2 rounds)  down 1'
        """
        words = []
        for name, agents in (("best", self.best), ("worst", self.worst)):
            if agents:
                shown = ", ".join(f"{agent} ({value:.4g})" for agent, value in agents[:_NAMED])
                words.append(f"{name} {shown}")
        last = min(self.rounds, key=lambda agent: (self.rounds[agent], agent), default=None)
        lag = 0 if last is None else max(self.rounds.values()) - self.rounds[last]
        if lag:
            words.append(f"behind {last} ({lag} round{'s' if lag > 1 else ''})")
        if self.down:
            more = f" and {len(self.down) - _NAMED} more" if len(self.down) > _NAMED else ""
            words.append(f"down {', '.join(str(name_of(id)) for id in self.down[:_NAMED])}{more}")
        return "  ".join(words)


class Single:
    """The line about single agents of one run, which is read again now and then.

    Args:
        directory: the run directory.
        scenario: whose faults are named.
    """

    def __init__(self, directory: Path, scenario: Scenario) -> None:
        self._directory = directory
        self._faults = sorted(
            (fault.at, kind_of("faults", fault), list(getattr(fault, "agents", ())))
            for fault in scenario.faults
        )
        self._text, self._due = "", 0.0

    def __call__(self) -> str:
        """Return the line; it is at most `PERIOD` seconds old."""
        now = time.monotonic()
        if now >= self._due:
            self._due = now + PERIOD
            agents = Agents.of(self._directory)
            self._text = "  ".join(filter(None, (agents.line(), self._fault(agents.seconds))))
        return self._text

    def _fault(self, seconds: float) -> str:
        """Return the last fault that has struck, and how many are to come."""
        struck = [fault for fault in self._faults if fault[0] <= seconds]
        left = len(self._faults) - len(struck)
        if not struck:
            return ""
        at, kind, agents = struck[-1]
        who = f" of {', '.join(str(name_of(id)) for id in agents[:_NAMED])}" if agents else ""
        return f"fault: {kind}{who} at {at:g} s" + (f", {left} to come" if left else "")
