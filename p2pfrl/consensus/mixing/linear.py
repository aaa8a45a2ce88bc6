"""Linear mixing, theta_i <- sum_j w_ij theta_j: the matrices W of the literature."""

from __future__ import annotations

from p2pfrl.consensus.mixing.base import Mixing, Weights, require_undirected
from p2pfrl.core.graph import Graph
from p2pfrl.core.rule import rule


@rule
class Metropolis(Mixing):
    """w_ij = 1 / (1 + max(d_i, d_j)) for neighbors, w_ii = 1 - sum_j w_ij: symmetric, so the mean is kept on any graph.

    d_i is the number of neighbors of agent i: each agent needs its neighbors' degrees, no global knowledge.

    Reference: Xiao, Boyd, Lall, A scheme for robust distributed sensor fusion based on average consensus, IPSN 2005.
    """

    def weights(self, graph: Graph) -> tuple[Weights, ...]:
        """Return the Metropolis matrix by rows."""
        degree = [len(neighbors) for neighbors in graph.predecessors]
        rows = []
        for i, neighbors in enumerate(graph.predecessors):
            row = {j: 1.0 / (1 + max(degree[i], degree[j])) for j in neighbors}
            rows.append(with_own(row, i))
        return tuple(rows)

    def check(self, graph: Graph) -> None:
        """Refuse one-way edges: there the formula is not symmetric and the mean is lost."""
        super().check(graph)
        require_undirected(graph, "mixing 'metropolis'")


def with_own(row: Weights, i: int) -> Weights:
    """Return the row with w_ii = 1 - sum_j w_ij in its place, keys ascending."""
    row[i] = 1.0 - sum(row.values())
    return dict(sorted(row.items()))
