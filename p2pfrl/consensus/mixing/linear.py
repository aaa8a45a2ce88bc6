"""Linear mixing, theta_i <- sum_j w_ij theta_j, with further matrices W from the literature."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field
from typing_extensions import override

from p2pfrl.consensus.mixing import MATRICES
from p2pfrl.consensus.mixing.base import Mixing, Weights, require_undirected
from p2pfrl.consensus.mixing.metropolis import metropolis
from p2pfrl.consensus.mixing.rows import compact, with_own
from p2pfrl.consensus.spectrum import is_symmetric, laplacian_max
from p2pfrl.core.errors import TopologyError
from p2pfrl.core.graph import Graph
from p2pfrl.core.options import Rule
from p2pfrl.core.rule import rule


@rule
class Laplacian(Mixing):
    """theta_i <- theta_i + alpha sum_j (theta_j - theta_i), that is W = I - alpha L.

    It converges for 0 < alpha < 2 / lambda_max(L), fastest for 2 / (lambda_2(L) + lambda_max(L)).

    Attributes:
        alpha: the consensus step; None takes 1 / (1 + largest degree) of each round's graph, which
            is always stable.

    Reference: Olfati-Saber, Fax, Murray, Consensus and cooperation in networked multi-agent
        systems, Proc. IEEE 95(1), 2007; the bound and the best constant: Xiao, Boyd, Systems &
        Control Letters 53, 2004.
    """

    alpha: float | None = Field(default=None, gt=0)

    @override
    def weights(self, graph: Graph) -> tuple[Weights, ...]:
        alpha = self.step(graph)
        return tuple(
            with_own(dict.fromkeys(heard, alpha), i) for i, heard in enumerate(graph.predecessors)
        )

    def check(self, graph: Graph) -> None:
        """Raise an error for one-way edges, a divergent alpha, or weights to renormalize below 0.

        Raises:
            TopologyError: with the interval that converges.
        """
        super().check(graph)
        require_undirected(graph, "mixing 'laplacian'")
        alpha = self.step(graph)
        if not graph.size:
            return
        bound = 2.0 / laplacian_max(graph)
        if alpha >= bound * (1.0 - 1e-9):
            raise TopologyError(
                f"mixing.alpha: {alpha:.6g} does not converge on this graph: it must lie in (0, 2/lambda_max) = "
                f"(0, {bound:.6g}); 1/(1 + largest degree) = {Laplacian().step(graph):.6g} always converges"
            )
        largest = max(len(heard) for heard in graph.predecessors)
        if self.on_loss == "renormalize" and alpha * largest > 1.0:
            raise TopologyError(
                f"mixing.on_loss: 'renormalize' needs weights that are not negative, and alpha = {alpha:.6g} makes an "
                f"own weight negative (largest degree {largest}): take alpha at most {1.0 / largest:.6g}, or 'fold'"
            )

    def step(self, graph: Graph) -> float:
        """Return alpha on this graph."""
        if self.alpha is not None:
            return self.alpha
        return 1.0 / (1 + max(len(heard) for heard in graph.predecessors))


@rule
class Uniform(Mixing):
    """w_ij = 1 / (1 + d_i) for the agent itself and all agents it receives from: the plain average.

    It allows one-way edges. It keeps the mean only if W is doubly stochastic: on regular graphs,
    exponential graphs and directed rings. On other graphs agents agree on an average weighted by
    degree.

    Reference: Lian, Zhang, Zhang, Hsieh, Zhang, Liu, Can decentralized algorithms outperform
        centralized algorithms?, NeurIPS 2017, arXiv 1705.09056; Ying et al., NeurIPS 2021, arXiv
        2110.13363 (exponential graphs).
    """

    @override
    def weights(self, graph: Graph) -> tuple[Weights, ...]:
        return tuple(
            compact(dict.fromkeys(sorted((i, *heard)), 1.0 / (1 + len(heard))))
            for i, heard in enumerate(graph.predecessors)
        )


@rule
class Lazy(Mixing):
    """W = laziness I + (1 - laziness) W', with W' the Metropolis matrix.

    With laziness 1/2 no eigenvalue is negative.

    Attributes:
        laziness: the share of its own vector that an agent keeps.

    Reference: Boyd, Diaconis, Xiao, Fastest mixing Markov chain on a graph, SIAM Review 46(4),
        2004; as (I + W)/2 in Shi, Ling, Wu, Yin, EXTRA, SIAM J. Optimization 25(2), 2015, arXiv
        1404.6264.
    """

    laziness: float = Field(default=0.5, ge=0, lt=1)

    @override
    def weights(self, graph: Graph) -> tuple[Weights, ...]:
        part = 1.0 - self.laziness
        return tuple(
            with_own({j: part * weight for j, weight in row.items() if j != i}, i)
            for i, row in enumerate(metropolis(graph))
        )

    def check(self, graph: Graph) -> None:
        """Raise an error for one-way edges, where W is not symmetric and does not keep the mean."""
        super().check(graph)
        require_undirected(graph, "mixing 'lazy'")


@rule
class ByRole(Mixing):
    """Metropolis weights among neighbors of one role, id modulo `roles`; others are only heard.

    Agents receive the vectors of neighbors with another role and leave them out of the average: in
    self-play (environment.opponents = "last_known") opponents hear of each other, and those of one
    role average. So agents agree within roles alone; with as many roles as agents nobody averages.

    Reference: as `Metropolis`, on the graph of the edges within roles; used here for games.

    Attributes:
        roles: number of roles r; agent i has role i mod r.
    """

    roles: int = Field(default=2, ge=2)

    @override
    def joins_roles(self, k: int) -> bool:
        return self.roles % k != 0

    @override
    def weights(self, graph: Graph) -> tuple[Weights, ...]:
        same = [
            [j for j in heard if (j - i) % self.roles == 0]
            for i, heard in enumerate(graph.predecessors)
        ]
        degree = [len(neighbors) for neighbors in same]
        rows = []
        for i, heard in enumerate(graph.predecessors):
            row = dict.fromkeys(heard, 0.0)
            row |= {j: 1.0 / (1 + max(degree[i], degree[j])) for j in same[i]}
            rows.append(with_own(row, i))
        return tuple(rows)

    def check(self, graph: Graph) -> None:
        """Raise an error for one-way edges, where W is not symmetric and does not keep the mean."""
        super().check(graph)
        require_undirected(graph, "mixing 'by_role'")


Matrix = Annotated[Mixing, Rule("mixing matrices", lambda: MATRICES, "metropolis")]
"""Option whose value is one of `MATRICES`: rules that consist of a matrix alone."""


def check_matrix(matrix: Mixing, graph: Graph, what: str) -> None:
    """Raise an error if a matrix does not fit `graph`, or sets `on_loss`.

    Raises:
        TopologyError: with an alternative.
    """
    matrix.check(graph)
    if matrix.on_loss != "fold":
        raise TopologyError(f"mixing.matrix.on_loss: {what} sets it itself: leave it out")


def check_symmetric(matrix: Mixing, graph: Graph, what: str) -> None:
    """Raise an error as `check_matrix` does, and for a matrix that is not symmetric on `graph`.

    Raises:
        TopologyError: with an alternative.
    """
    require_undirected(graph, what)
    check_matrix(matrix, graph, what)
    if not is_symmetric(matrix.weights(graph)):
        raise TopologyError(
            f"mixing.matrix: {what} needs a symmetric matrix on this graph: use kind = 'metropolis'"
        )
