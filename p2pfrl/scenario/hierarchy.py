"""Section `[hierarchy]`: the edge coordinators and their agents."""

from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import pairwise

from pydantic import Field

from p2pfrl.core.rule import rule


@rule
class Hierarchy:
    """The tree of mode hierarchical: agents, edge coordinators, and a cloud.

    In every round an edge averages its agents with the aggregator of `[coordinator]`; the
    participation rule chooses among them. Every `edge_rounds` rounds the cloud averages the edges,
    weighted by their environment steps (or by the capacities of their agents, if the aggregator
    weighs by those), and applies the server optimizer. In a partition edges and
    cloud belong to the side of group 0.

    Attributes:
        edges: number of edges; agents are split by id into groups of equal size. The default is
            about the square root of n if `groups` is not set either.
        groups: the agents of each edge, instead of `edges`.
        edge_rounds: rounds between averages of the cloud (kappa_2; kappa_1 is schedule.every).

    Reference: HierFAVG: Liu, Zhang, Song, Letaief, Client-edge-cloud hierarchical federated
        learning, ICC 2020, arXiv 1905.06641.
    """

    edges: int | None = Field(default=None, ge=1)
    groups: tuple[tuple[int, ...], ...] | None = None
    edge_rounds: int = Field(default=1, ge=1)

    def members(self, agents: int) -> tuple[tuple[int, ...], ...]:
        """Return the agents of every edge, sorted. The tree must have no `problems`."""
        if self.groups is not None:
            return tuple(tuple(sorted(group)) for group in self.groups)
        return split(agents, self.edges or math.isqrt(agents - 1) + 1)

    def problems(self, agents: int) -> Iterator[tuple[tuple[str | int, ...], str]]:
        """Yield problems of the tree as (path of the key, reason)."""
        if self.groups is not None and self.edges is not None:
            yield ("edges",), "groups already sets the number of edges: leave out one of them"
        if self.edges is not None and self.edges > agents:
            yield ("edges",), f"expected at most {agents}, one agent each; got {self.edges}"
        seen = dict[int, int]()
        for position, group in enumerate(self.groups or ()):
            if not group:
                yield ("groups", position), "an edge needs an agent"
            for agent in group:
                if not 0 <= agent < agents:
                    yield ("groups", position), f"expected agents below {agents}, got {agent}"
                elif agent in seen:
                    yield ("groups", position), f"agent {agent} is in group {seen[agent]} already"
                seen.setdefault(agent, position)
        missing = [agent for agent in range(agents) if agent not in seen]
        if self.groups is not None and missing:
            yield ("groups",), f"agent {missing[0]} is in no group"


def split(agents: int, edges: int) -> tuple[tuple[int, ...], ...]:
    """Return contiguous groups of as equal a size as possible.

    >>> split(5, 2)
    ((0, 1), (2, 3, 4))
    """
    bounds = [i * agents // edges for i in range(edges + 1)]
    return tuple(tuple(range(low, high)) for low, high in pairwise(bounds))
