"""Contract of topologies: the communication graph of every round.

A topology is a rule: a frozen dataclass of options. Its graph is a pure function of (n, seed,
round), so every agent of a deployment computes the same graph without communication.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from functools import cached_property

from p2pfrl.core.errors import TopologyError
from p2pfrl.core.graph import Graph, union
from p2pfrl.core.needs import Composable

_RECENT_ROUNDS = 64


class Topology(Composable, ABC):
    """A family of graphs over agents 0..n-1. Subclasses are rules (frozen dataclasses).

    A single agent has no edges: every family allows n = 1 unless its options forbid it.
    """

    @property
    def islands(self) -> int:
        """Number of sets of agents in which each reaches every other, over all rounds: 1 or more.

        No agent reaches another set.
        """
        return 1

    def period(self, n: int) -> int | None:
        """Return the number of distinct rounds: 1 for a static graph, None for random rounds."""
        return 1

    @abstractmethod
    def at(self, n: int, seed: int, round: int) -> Graph:
        """Return the graph of `round`, counted from 0.

        A static graph is connected, or each of its `islands` is. If the graph changes, that holds
        for the union over rounds.

        Raises:
            TopologyError: `n` does not fit the family; the message lists values that do.
        """

    def union(self, n: int, seed: int) -> Graph:
        """Return every edge of any round: the links of a deployment, and the graph in figures."""
        period = self.period(n)
        assert period is not None, "a topology of fresh draws overrides `union`"
        return union([self.at(n, seed, round) for round in range(period)])


class TopologyView:
    """A topology of one run. Each graph is computed once.

    Args:
        topology: the rule.
        n: number of agents.
        seed: seed of the run.
    """

    def __init__(self, topology: Topology, n: int, seed: int) -> None:
        self.topology = topology
        self.n = n
        self.seed = seed
        self.period = topology.period(n)
        self._graphs: dict[int, Graph] = {}

    def at(self, round: int) -> Graph:
        """Return the graph of `round`.

        Equal rounds give the same object while the round is among the last 64 requested.
        """
        index = round if self.period is None else round % self.period
        graph = self._graphs.get(index)
        if graph is None:
            graph = self._graphs[index] = self.topology.at(self.n, self.seed, index)
            if len(self._graphs) > _RECENT_ROUNDS and self.period is None:
                del self._graphs[next(iter(self._graphs))]
        return graph

    @cached_property
    def union(self) -> Graph:
        """Every edge of any round."""
        return self.at(0) if self.period == 1 else self.topology.union(self.n, self.seed)


def sizes(n: int, fits: Callable[[int], bool]) -> str:
    """Return the nearest numbers of agents that fit, for a message: "9 or 12"."""
    below = next((m for m in range(n - 1, 0, -1) if fits(m)), None)
    above = next((m for m in range(n + 1, 4 * n + 16) if fits(m)), None)
    return " or ".join(str(m) for m in (below, above) if m is not None)


def require(condition: bool, message: str) -> None:
    """Raise `TopologyError(message)` unless `condition` holds."""
    if not condition:
        raise TopologyError(message)
