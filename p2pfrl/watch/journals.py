"""Curves of a deployment that runs, from the journals of its processes as far as they are written.

A row needs an entry of every agent in the same round, of those whose journals are here. Of an agent
that is gone, rows have what it wrote before: it counts as gone when its journal is read to its end.
The journal that is behind is read first, so that few entries wait for those of others.
"""

from __future__ import annotations

import math
import time
from collections import defaultdict, deque
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from p2pfrl.core.errors import RecordError
from p2pfrl.core.parameters import Vector
from p2pfrl.core.units import SECOND
from p2pfrl.deploy.entries import Begin, Entry
from p2pfrl.deploy.journal import MAGIC, Reader
from p2pfrl.results.distances import distances
from p2pfrl.results.rounds import EPISODES
from p2pfrl.watch.shares import Shares, share_of

COLUMNS = (
    "round",
    "virtual_seconds",
    "return_mean",
    "return_min",
    "return_max",
    "consensus_distance",
)
_MOST_WAITING = 4096
"""Number of entries that wait for those of the other agents; older ones are dropped then."""
_AT_ONCE = 1.0
"""Seconds of reading after which the rest of the journals is left to the next call."""


@dataclass(slots=True, eq=False)
class _File:
    """One journal, and how far it is read.

    Attributes:
        path: the file.
        end: position of the next entry that is not read.
        round: of the last entry that is read.
        agents: those that it has said to be its own.
    """

    path: Path
    end: int = len(MAGIC)
    round: int = -1
    agents: frozenset[int] = frozenset()


class Journals:
    """Reader of new entries of the journals of all processes.

    Attributes:
        problem: why no more is read; "" at first.
        disagreement: agent -> distance from the mean in the last row.
        shares: the rounds of these agents for pages of all.
        agents: ids of the agents that a row has.

    Args:
        paths: the journals.
        agents: ids of the agents that have entries in them.
        dtype: of parameters in entries.
        now: seconds of a clock.
    """

    def __init__(
        self,
        paths: Sequence[Path],
        agents: Collection[int],
        dtype: str,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self.problem = ""
        self.disagreement: dict[int, float] = {}
        self.shares = Shares()
        self.agents = frozenset(agents)
        self._files = [_File(path) for path in dict.fromkeys(paths)]
        self._last = -1
        self._slack = max(1, _MOST_WAITING // (4 * max(1, len(self.agents))))
        self._dtype, self._now = dtype, now
        self._is_projected = False
        self._returns: dict[int, deque[float]] = defaultdict(lambda: deque(maxlen=EPISODES))
        self._entries: dict[int, dict[int, tuple[float, float, bytes]]] = {}

    def read(self, gone: Collection[int] = ()) -> list[list[float]]:
        """Return the rows that are new, with `COLUMNS`, in the order of rounds.

        Args:
            gone: agents that write no more. No row waits for them when their journals are read.
        """
        others = self.agents - (set(gone) - self._advance(self._now() + _AT_ONCE))
        rounds = sorted(r for r, found in self._entries.items() if others <= found.keys())
        rows = [self._row(round, self._entries.pop(round)) for round in rounds]
        if rows:  # a round before a complete one stays incomplete: an agent has passed it
            self._last = rounds[-1]
            self._entries = {r: e for r, e in self._entries.items() if r > self._last}
        while sum(map(len, self._entries.values())) > _MOST_WAITING:
            del self._entries[min(self._entries)]
        return rows

    def _advance(self, deadline: float) -> frozenset[int]:
        """Read the journals up to a time; return the agents of those that have more to read."""
        left = [] if self.problem else [file for file in self._files if file.path.is_file()]
        while left and self._now() <= deadline:
            file = min(left, key=lambda file: file.round)
            try:
                if self._scan(file, file.round + self._slack, deadline):
                    left.remove(file)
            except RecordError as error:  # no journal is read any more
                self.problem, left = str(error), []
        if all(file.agents for file in left):
            return frozenset().union(*(file.agents for file in left))
        return self.agents.difference(*(file.agents for file in self._files if file not in left))

    def _scan(self, file: _File, most: int, deadline: float) -> bool:
        """Take the next entries of a journal up to a round; return whether that was its end."""
        reader = Reader(file.path)
        for _, item in reader.scan(file.end):
            file.end = reader.end
            if isinstance(item, Begin):
                self._is_projected = item.is_projected
                file.agents |= self.agents.intersection(item.agents)
            elif isinstance(item, Entry):
                file.round = item.round
                self._take(item)
            if file.round >= most or self._now() > deadline:
                return False
        return True

    def _take(self, entry: Entry) -> None:
        returns = self._returns[entry.agent]
        if entry.passed is not None and entry.passed.update is not None:
            returns.extend(entry.passed.update.returns)
        for _, update in entry.updates:
            returns.extend(update.returns)
        if entry.round <= self._last:  # told again by a process that was started again
            return
        mean = sum(returns) / len(returns) if returns else float("nan")
        found = self._entries.setdefault(entry.round, {})
        found[entry.agent] = (entry.time / SECOND, mean, entry.parameters)

    def _row(self, round: int, found: dict[int, tuple[float, float, bytes]]) -> list[float]:
        agents = sorted(found)
        seconds = max(found[a][0] for a in agents)
        returns = {agent: found[agent][1] for agent in agents}
        vectors: dict[int, Vector] = {
            agent: np.frombuffer(found[agent][2], dtype=self._vector) for agent in agents
        }
        self.shares.add(share_of(round + 1, seconds, returns, vectors))
        known = [value for value in returns.values() if math.isfinite(value)]
        distance, nan = math.nan, math.nan
        if len({len(vector) for vector in vectors.values()}) == 1 and len(vectors[agents[0]]):
            apart, distance = distances(np.stack(list(vectors.values())))
            self.disagreement = dict(zip(agents, apart, strict=True))
        spread = (sum(known) / len(known), min(known), max(known)) if known else (nan, nan, nan)
        return [round + 1.0, seconds, *spread, distance]

    @property
    def _vector(self) -> str:
        return "float64" if self._is_projected else self._dtype
