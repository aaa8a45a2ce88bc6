"""What sets one mode of a run apart from the others."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from p2pfrl.core.graph import Graph
from p2pfrl.core.types import COORDINATOR


@dataclass(frozen=True)
class Mode:
    """What sets one mode apart from the others.

    Attributes:
        mixes: agents mix with their neighbors on the topology.
        coordinator: there is one, and agents talk to it alone.
        pools: agents upload transitions, and the coordinator learns.
        neighbors: per agent and, last, the coordinator: whom it talks to.
    """

    mixes: bool
    coordinator: bool
    pools: bool
    neighbors: Callable[[Graph], list[Sequence[int]]]


def _on_graph(graph: Graph) -> list[Sequence[int]]:
    both = zip(graph.successors, graph.predecessors, strict=True)
    return [*(sorted({*out, *into}) for out, into in both), ()]


def _around_coordinator(graph: Graph) -> list[Sequence[int]]:
    return [*((COORDINATOR,) for _ in range(graph.n)), range(graph.n)]


def _nobody(graph: Graph) -> list[Sequence[int]]:
    return [() for _ in range(graph.n + 1)]


MODES: dict[str, Mode] = {
    "gossip": Mode(mixes=True, coordinator=False, pools=False, neighbors=_on_graph),
    "central": Mode(mixes=False, coordinator=True, pools=False, neighbors=_around_coordinator),
    "pooled": Mode(mixes=False, coordinator=True, pools=True, neighbors=_around_coordinator),
    "independent": Mode(mixes=False, coordinator=False, pools=False, neighbors=_nobody),
}
