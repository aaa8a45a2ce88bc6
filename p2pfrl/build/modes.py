"""What sets one mode of a run apart from the others."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from p2pfrl.core.graph import Graph
from p2pfrl.core.types import COORDINATOR, edge_id

Groups = Sequence[Sequence[int]]
"""The agents of each edge coordinator; none where there are no edges."""


@dataclass(frozen=True)
class Mode:
    """What sets one mode apart from the others.

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
