"""Modes of a run, its participants, and how processes share them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

from p2pfrl.core.graph import Graph
from p2pfrl.core.types import COORDINATOR, edge_id
from p2pfrl.scenario import Scenario

Groups = Sequence[Sequence[int]]
"""The agents of each edge coordinator; none where there are no edges."""


@dataclass(frozen=True)
class Mode:
    """The properties of one mode.

    Attributes:
        mixes: agents mix with their neighbors on the topology.
        coordinator: there is one, and agents talk to it alone; or to the edge they belong to.
        pools: agents upload transitions, and the coordinator learns.
        neighbors: (graph, agents of each edge) -> per agent and, from the end, per coordinator:
            whom it talks to.
        has_edges: there are coordinators between agents and coordinator.
    """

    mixes: bool
    coordinator: bool
    pools: bool
    neighbors: Callable[[Graph, Groups], list[Sequence[int]]]
    has_edges: bool = False


def _on_graph(graph: Graph, groups: Groups) -> list[Sequence[int]]:
    both = zip(graph.successors, graph.predecessors, strict=True)
    return [*(sorted({*out, *into}) for out, into in both), ()]


def _around_coordinator(graph: Graph, groups: Groups) -> list[Sequence[int]]:
    return [*((COORDINATOR,) for _ in range(graph.n)), range(graph.n)]


def _in_tree(graph: Graph, groups: Groups) -> list[Sequence[int]]:
    edge_of = {agent: edge_id(number) for number, members in enumerate(groups) for agent in members}
    edges = [(COORDINATOR, *members) for members in groups]
    return [
        *((edge_of[i],) for i in range(graph.n)),
        *reversed(edges),
        [edge_id(k) for k in range(len(groups))],
    ]


def _nobody(graph: Graph, groups: Groups) -> list[Sequence[int]]:
    return [() for _ in range(graph.n + 1)]


MODES: dict[str, Mode] = {
    "gossip": Mode(mixes=True, coordinator=False, pools=False, neighbors=_on_graph),
    "central": Mode(mixes=False, coordinator=True, pools=False, neighbors=_around_coordinator),
    "hierarchical": Mode(
        mixes=False, coordinator=True, pools=False, neighbors=_in_tree, has_edges=True
    ),
    "pooled": Mode(mixes=False, coordinator=True, pools=True, neighbors=_around_coordinator),
    "independent": Mode(mixes=False, coordinator=False, pools=False, neighbors=_nobody),
}


def coordinators(scenario: Scenario) -> list[int]:
    """Return the ids of all coordinators: -1 and, in a tree, -2, -3, ..., the edges."""
    mode = MODES[scenario.mode]
    groups = scenario.hierarchy.members(scenario.agents) if mode.has_edges else ()
    return (
        [COORDINATOR, *(edge_id(number) for number in range(len(groups)))]
        if mode.coordinator
        else []
    )


def everyone(scenario: Scenario) -> list[int]:
    """Return the ids of all who have to live in some process."""
    return [*coordinators(scenario), *range(scenario.agents)]


def share(scenario: Scenario, jobs: int) -> list[tuple[int, ...]]:
    """Return who lives in which process.

    Agents that are neighbors by number live together, an edge coordinator where most of its agents
    do (the first such process), and the coordinator above all alone and first.
    """
    n = scenario.agents
    count = max(1, min(jobs, n))
    bounds = [round(i * n / count) for i in range(count + 1)]
    processes = [list(range(low, high)) for low, high in pairwise(bounds)]
    groups = scenario.hierarchy.members(n) if MODES[scenario.mode].has_edges else ()
    for number, group in enumerate(groups):
        home = max(processes, key=lambda there: len(set(group).intersection(there)))
        home.append(edge_id(number))
    shared = [tuple(sorted(there)) for there in processes]
    return [(COORDINATOR,), *shared] if MODES[scenario.mode].coordinator else shared
