"""A directed communication graph over agents 0..n-1.

It says who sends to whom, and what the links are like.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

from p2pfrl.core.errors import TopologyError


@dataclass(frozen=True)
class Graph:
    """A directed graph, given as the receivers of every agent.

    Attributes:
        successors: for every agent, in ascending order, the agents it sends to. Never itself.
        latency: seconds, for (sender, receiver) edges that have their own; empty where `network`
            decides.
        bandwidth: bytes per second, likewise.
        positions: for drawing, (x, y) per agent; empty where a layout must be computed.
        labels: names of the nodes in a graph file; empty otherwise.
    """

    successors: tuple[tuple[int, ...], ...]
    latency: Mapping[tuple[int, int], float] = field(default_factory=dict)
    bandwidth: Mapping[tuple[int, int], float] = field(default_factory=dict)
    positions: tuple[tuple[float, float], ...] = ()
    labels: tuple[str, ...] = ()

    @property
    def n(self) -> int:
        """Number of agents."""
        return len(self.successors)

    @cached_property
    def predecessors(self) -> tuple[tuple[int, ...], ...]:
        """For every agent, in ascending order, the agents it hears.

        Where these are those that it sends to, it is the same tuple.
        """
        heard: list[list[int]] = [[] for _ in self.successors]
        for sender, receivers in enumerate(self.successors):
            for receiver in receivers:
                heard[receiver].append(sender)
        pairs = zip(map(tuple, heard), self.successors, strict=True)
        return tuple(receivers if agents == receivers else agents for agents, receivers in pairs)

    @cached_property
    def is_undirected(self) -> bool:
        """Whether every edge goes both ways."""
        return self.successors == self.predecessors

    @property
    def size(self) -> int:
        """Number of (sender, receiver) pairs."""
        return sum(map(len, self.successors))

    @cached_property
    def edges(self) -> tuple[tuple[int, int], ...]:
        """All (sender, receiver) pairs, in ascending order."""
        return tuple((i, j) for i, receivers in enumerate(self.successors) for j in receivers)

    @cached_property
    def is_connected(self) -> bool:
        """Whether every agent reaches every other agent along the edges.

        In a directed graph this is strong connectivity.
        """
        return bool(self.successors) and self.gap is None

    @cached_property
    def gap(self) -> tuple[int, int] | None:
        """Two agents (i, j) without a path from i to j; None if every agent reaches every other."""
        for neighbors, is_forward in ((self.successors, True), (self.predecessors, False)):
            reached = _reached(neighbors) if neighbors else {}
            if (lost := next((i for i in range(self.n) if i not in reached), None)) is not None:
                return (0, lost) if is_forward else (lost, 0)
            if self.is_undirected:
                break
        return None

    @cached_property
    def islands(self) -> int:
        """Number of largest sets of agents in which each reaches every other."""
        seen, count = set[int](), 0
        for agent in range(self.n):
            if agent not in seen:
                count += 1
                back = _reached(self.predecessors, agent)
                seen |= {other for other in _reached(self.successors, agent) if other in back}
        return count

    def name(self, agent: int) -> str:
        """Return "3 (Denver)" where the nodes have names, else "3"."""
        return f"{agent} ({self.labels[agent]})" if self.labels else str(agent)


def _reached(successors: Sequence[Sequence[int]], start: int = 0) -> dict[int, None]:
    reached, frontier = {start: None}, [start]
    while frontier:
        for j in successors[frontier.pop()]:
            if j not in reached:
                reached[j] = None
                frontier.append(j)
    return reached


def directed(n: int, edges: Iterable[tuple[int, int]]) -> Graph:
    """Return the graph of (sender, receiver) pairs; repeated pairs count once.

    >>> directed(3, [(0, 1), (1, 2), (2, 0)]).predecessors
    ((2,), (0,), (1,))
    """
    receivers: list[dict[int, None]] = [{} for _ in range(n)]
    for i, j in edges:
        if i == j:
            raise TopologyError(
                f"agent {i} has an edge to itself; an agent always knows its own parameters: remove it"
            )
        receivers[i][j] = None
    return Graph(tuple(tuple(sorted(agents)) for agents in receivers))


def undirected(n: int, edges: Iterable[tuple[int, int]]) -> Graph:
    """Return the graph in which every pair goes both ways.

    >>> undirected(3, [(0, 1), (1, 2)]).successors
    ((1,), (0, 2), (1,))
    """
    return directed(n, (pair for i, j in edges for pair in ((i, j), (j, i))))


def union(graphs: Sequence[Graph]) -> Graph:
    """Return the graph that has the edges of all `graphs`, which have the same agents.

    Labels and positions are those of the first graph.
    """
    first = graphs[0]
    latency = {edge: seconds for graph in graphs for edge, seconds in graph.latency.items()}
    bandwidth = {edge: rate for graph in graphs for edge, rate in graph.bandwidth.items()}
    edges = directed(first.n, (edge for graph in graphs for edge in graph.edges))
    return Graph(edges.successors, latency, bandwidth, first.positions, first.labels)


def path_latency(graph: Graph, source: int, *, default: float = 0.0) -> tuple[float, ...]:
    """Return the least latency in seconds from `source` to every agent, over any number of links.

    Shortest paths as in Dijkstra, 1959.

    Args:
        graph: its `latency` gives the seconds of a link.
        source: where the paths start.
        default: seconds of a link without a latency of its own.

    Raises:
        TopologyError: an agent cannot be reached.
    """
    least: dict[int, float] = {}
    queue = [(0.0, source)]
    while queue:
        so_far, i = heapq.heappop(queue)
        if i in least:
            continue
        least[i] = so_far
        for j in graph.successors[i]:
            if j not in least:
                heapq.heappush(queue, (so_far + graph.latency.get((i, j), default), j))
    for agent in range(graph.n):
        if agent not in least:
            raise TopologyError(
                f"no path leads from agent {graph.name(source)} to agent {graph.name(agent)}"
            )
    return tuple(least[agent] for agent in range(graph.n))
