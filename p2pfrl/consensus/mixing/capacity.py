"""Mixing whose consensus weighs every agent by its capacity."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated

from pydantic import Field
from typing_extensions import override

from p2pfrl.consensus.mixing.base import Mixing, Weights, require_undirected
from p2pfrl.consensus.mixing.rows import with_own
from p2pfrl.core.errors import TopologyError
from p2pfrl.core.graph import Graph
from p2pfrl.core.resources import CapacityName, Resources
from p2pfrl.core.rule import rule


@rule
class Capacity(Mixing):
    """w_ij = min(R_i / (1 + d_i), R_j / (1 + d_j)) / R_i for neighbors, w_ii = 1 - sum_j w_ij.

    R_i w_ij = R_j w_ji, so every exchange keeps the mean that weighs agent i by R_i, and agents
    agree on sum_i R_i x_i / sum_i R_i. With equal capacities these are the weights of metropolis.
    Each agent needs degree and capacity of its neighbors. The weight of a lost payload goes to the
    own vector (`on_loss`), which moves that mean.

    Attributes:
        by: R_i is the speed of an agent, or the bandwidth of its interface.
        capacities: R_i of every agent, in order of id; those of `by` by default.

    Reference: Hastings, Monte Carlo sampling methods using Markov chains and their applications,
        Biometrika 57(1), 1970: a chain on the graph with a given stationary distribution.
    """

    by: CapacityName = "speed"
    capacities: tuple[Annotated[float, Field(gt=0)], ...] | None = None

    @property
    @override
    def idle(self) -> tuple[str, ...]:
        return () if self.capacities is None else ("by",)

    @property
    @override
    def resource(self) -> CapacityName | None:
        return self.by if self.capacities is None else None

    @override
    def with_resources(self, resources: Resources) -> Capacity:
        if self.capacities is not None:
            return self
        return replace(self, capacities=resources.of(self.by))

    @override
    def weights(self, graph: Graph) -> tuple[Weights, ...]:
        own = self.capacities or (1.0,) * graph.n
        part = [own[i] / (1 + len(heard)) for i, heard in enumerate(graph.predecessors)]
        return tuple(
            with_own({j: min(part[i], part[j]) / own[i] for j in heard}, i)
            for i, heard in enumerate(graph.predecessors)
        )

    @override
    def check(self, graph: Graph) -> None:
        super().check(graph)
        require_undirected(graph, "mixing 'capacity'")
        if self.capacities is not None and len(self.capacities) != graph.n:
            given = len(self.capacities)
            raise TopologyError(
                f"mixing.capacities: expected a number for each of {graph.n} agents, got {given}"
            )
