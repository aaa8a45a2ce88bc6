"""Metropolis weights, the mixing matrix that suits every undirected graph."""

from __future__ import annotations

from typing_extensions import override

from p2pfrl.consensus.mixing.base import Mixing, Weights, require_undirected
from p2pfrl.consensus.mixing.rows import with_own
from p2pfrl.core.graph import Graph
from p2pfrl.core.rule import rule


@rule
class Metropolis(Mixing):
    """w_ij = 1 / (1 + max(d_i, d_j)) for neighbors, w_ii = 1 - sum_j w_ij.

    W is symmetric, so it keeps the mean on any undirected graph. d_i is the number of neighbors of
    agent i. Each agent needs the degrees of its neighbors and no global knowledge.

    Reference: Xiao, Boyd, Lall, A scheme for robust distributed sensor fusion based on average
    consensus, IPSN 2005.
    """

    @override
    def weights(self, graph: Graph) -> tuple[Weights, ...]:
        return metropolis(graph)

    def check(self, graph: Graph) -> None:
        """Raise an error for one-way edges, where W is not symmetric and does not keep the mean."""
        super().check(graph)
        require_undirected(graph, "mixing 'metropolis'")


def metropolis(graph: Graph) -> tuple[Weights, ...]:
    """Return the Metropolis matrix by rows; see `Metropolis`."""
    degree = [len(neighbors) for neighbors in graph.predecessors]
    return tuple(
        with_own({j: 1.0 / (1 + max(degree[i], degree[j])) for j in neighbors}, i)
        for i, neighbors in enumerate(graph.predecessors)
    )
