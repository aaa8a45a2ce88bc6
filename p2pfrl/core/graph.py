"""A directed communication graph over agents 0..n-1: who sends to whom, and what the links are like."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property


@dataclass(frozen=True)
class Graph:
    """Who sends to whom.

    Attributes:
        successors: for every agent, in ascending order, the agents it sends to. Never itself.
        latency: seconds, for (sender, receiver) edges that have their own; empty where the scenario's `network` decides.
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
        """For every agent, in ascending order, the agents it hears."""
        heard: list[list[int]] = [[] for _ in self.successors]
        for sender, receivers in enumerate(self.successors):
            for receiver in receivers:
                heard[receiver].append(sender)
        return tuple(tuple(agents) for agents in heard)

    @cached_property
    def is_undirected(self) -> bool:
        """Whether every edge goes both ways."""
        return self.successors == self.predecessors

    @cached_property
    def edges(self) -> tuple[tuple[int, int], ...]:
        """All (sender, receiver) pairs, in ascending order."""
        return tuple((i, j) for i, receivers in enumerate(self.successors) for j in receivers)
