"""Section `[hierarchy]`: the edge coordinators and their agents."""

from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import pairwise

from pydantic import Field

from p2pfrl.core.rule import rule
from p2pfrl.core.types import edge_id


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
        branching: b, instead of `edges`: no coordinator has more than b below it, and there are as
            many levels of edges as that takes: ceil(log_b n) links lead from the cloud to an agent.
        groups: the agents of each edge, instead of `edges`.
        edge_rounds: rounds between averages of the cloud (kappa_2; kappa_1 is schedule.every). In a
            tree of more levels, rounds of a coordinator between two models of the one above it.

    Reference: HierFAVG: Liu, Zhang, Song, Letaief, Client-edge-cloud hierarchical federated
        learning, ICC 2020, arXiv 1905.06641.
    """

    edges: int | None = Field(default=None, ge=1)
    branching: int | None = Field(default=None, ge=2)
    groups: tuple[tuple[int, ...], ...] | None = None
    edge_rounds: int = Field(default=1, ge=1)

    def members(self, agents: int) -> tuple[tuple[int, ...], ...]:
        """Return who is below every edge, sorted. The tree must have no `problems`.

        These are agents, or in a tree of more levels edges, whose ids are below 0. An edge comes
        before all that are below it.
        """
        if self.groups is not None:
            return tuple(tuple(sorted(group)) for group in self.groups)
        if self.branching is not None:
            return branches(agents, self.branching)
        return split(agents, self.edges or math.isqrt(agents - 1) + 1)

    def problems(self, agents: int) -> Iterator[tuple[tuple[str | int, ...], str]]:
        """Yield problems of the tree as (path of the key, reason)."""
        if self.groups is not None and self.edges is not None:
            yield ("edges",), "groups already sets the number of edges: leave out one of them"
        if self.branching is not None and (self.groups is not None or self.edges is not None):
            yield ("branching",), "it makes a tree by itself: leave out edges and groups"
        if self.branching is not None and self.branching >= agents:
            least = f"expected less than the {agents} agents, got {self.branching}"
            yield ("branching",), f"{least}; mode central has no edges"
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


def branches(agents: int, most: int) -> tuple[tuple[int, ...], ...]:
    """Return who is below every edge of a tree in which nobody has more than `most` below it.

    Levels are split as evenly as possible, from the agents up. Edges are numbered from the top, so
    that edge e, whose id is -2 - e, has a lower id than the one above it.

    >>> branches(9, 3)
    ((0, 1, 2), (3, 4, 5), (6, 7, 8))
    >>> branches(8, 2)
    ((-5, -4), (-7, -6), (0, 1), (2, 3), (4, 5), (6, 7))
    """
    levels = [split(agents, -(-agents // most))]
    while len(levels[0]) > most:
        levels.insert(0, split(len(levels[0]), -(-len(levels[0]) // most)))
    first, found = 0, list[tuple[int, ...]]()
    for place, level in enumerate(levels):
        first += len(level)
        is_lowest = place == len(levels) - 1
        for group in level:
            below = group if is_lowest else tuple(edge_id(first + child) for child in group)
            found.append(tuple(sorted(below)))
    return tuple(found)
