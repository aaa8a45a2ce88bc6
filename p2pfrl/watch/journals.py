"""Curves of a deployment that runs, from the journals of its processes as far as they are written.

A row needs an entry of every agent in the same round, so that all journals have to be here. Of an
agent that is gone, rows have what it wrote before.
"""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Collection, Sequence
from pathlib import Path

import numpy as np

from p2pfrl.core.errors import RecordError
from p2pfrl.core.units import SECOND
from p2pfrl.deploy.entries import Begin, Entry
from p2pfrl.deploy.journal import MAGIC, Reader
from p2pfrl.results.distances import distances
from p2pfrl.results.rounds import EPISODES

COLUMNS = (
    "round",
    "virtual_seconds",
    "return_mean",
    "return_min",
    "return_max",
    "consensus_distance",
)
_AGENTS, _LATEST = 32, 384
_MOST_WAITING = 4096
"""Number of entries that wait for those of the other agents; older ones are dropped then."""


class Journals:
    """Reader of new entries of the journals of all processes.

    Attributes:
        problem: why no more is read; "" at first.
        disagreement: agent -> distance from the mean in the last row.
        timeline: the last updates of the first agents: agent, "train", start and end in seconds. An
            update starts when the round before ends; rounds of which one has no entry are left out.

    Args:
        paths: the journals.
        n: number of agents; a row has all of them.
        dtype: of parameters in entries.
    """

    def __init__(self, paths: Sequence[Path], n: int, dtype: str) -> None:
        self.problem = ""
        self.disagreement: dict[int, float] = {}
        self.timeline: deque[tuple[int, str, float, float]] = deque(maxlen=_LATEST)
        self._ended: dict[int, tuple[int, int]] = {}
        self._ends = dict.fromkeys(paths, len(MAGIC))
        self._n, self._dtype = n, dtype
        self._is_projected = False
        self._returns: dict[int, deque[float]] = defaultdict(lambda: deque(maxlen=EPISODES))
        self._entries: dict[int, dict[int, tuple[float, float, bytes]]] = {}

    def read(self, gone: Collection[int] = ()) -> list[list[float]]:
        """Return the rows that are new, with `COLUMNS`. None waits for agents that are gone."""
        for path, end in self._ends.items():
            if not self.problem and path.is_file():
                try:
                    self._ends[path] = self._scan(path, end)
                except RecordError as error:
                    self.problem = str(error)
        others = set(range(self._n)) - set(gone)
        rounds = sorted(r for r, found in self._entries.items() if others <= found.keys())
        rows = [self._row(round, self._entries.pop(round)) for round in rounds]
        if rows:  # a round before a complete one stays incomplete: an agent has passed it
            self._entries = {r: e for r, e in self._entries.items() if r > rounds[-1]}
        while sum(map(len, self._entries.values())) > _MOST_WAITING:
            del self._entries[min(self._entries)]
        return rows

    def _scan(self, path: Path, end: int) -> int:
        """Take the entries after a position; return the position of the next."""
        reader = Reader(path)
        for _, item in reader.scan(end):
            if isinstance(item, Begin):
                self._is_projected = item.is_projected
                self._ended |= dict.fromkeys(item.agents, (-1, item.time))
            elif isinstance(item, Entry):
                self._take(item)
        return reader.end

    def _take(self, entry: Entry) -> None:
        before, start = self._ended.get(entry.agent, (-1, 0))
        if entry.agent < _AGENTS and entry.passed is None and entry.round == before + 1:
            for end, _ in entry.updates:
                self.timeline.append((entry.agent, "train", start / SECOND, end / SECOND))
                start = end
        self._ended[entry.agent] = (entry.round, entry.time)
        returns = self._returns[entry.agent]
        if entry.passed is not None and entry.passed.update is not None:
            returns.extend(entry.passed.update.returns)
        for _, update in entry.updates:
            returns.extend(update.returns)
        mean = sum(returns) / len(returns) if returns else float("nan")
        found = self._entries.setdefault(entry.round, {})
        found[entry.agent] = (entry.time / SECOND, mean, entry.parameters)

    def _row(self, round: int, found: dict[int, tuple[float, float, bytes]]) -> list[float]:
        agents = sorted(found)
        returns = np.array([found[agent][1] for agent in agents])
        known = returns[np.isfinite(returns)]
        nan = float("nan")
        distance = nan
        vectors = [np.frombuffer(found[agent][2], dtype=self._vector) for agent in agents]
        if len({len(vector) for vector in vectors}) == 1 and len(vectors[0]):
            apart, distance = distances(np.stack(vectors), range(len(agents)))
            self.disagreement = dict(zip(agents, apart, strict=True))
        spread = (known.mean(), known.min(), known.max()) if len(known) else (nan, nan, nan)
        return [round + 1.0, max(found[a][0] for a in agents), *map(float, spread), distance]

    @property
    def _vector(self) -> str:
        return "float64" if self._is_projected else self._dtype
