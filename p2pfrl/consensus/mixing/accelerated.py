"""Accelerated mixing: extrapolation from the round before reaches consensus in fewer rounds."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import ClassVar, Literal

from pydantic import Field
from typing_extensions import override

from p2pfrl.consensus.mixing.base import STATEFUL, Mixing, State, Weights, weighted_sum
from p2pfrl.consensus.mixing.linear import Matrix, check_symmetric
from p2pfrl.consensus.mixing.metropolis import Metropolis
from p2pfrl.consensus.spectrum import second_modulus
from p2pfrl.core.errors import TopologyError
from p2pfrl.core.graph import Graph
from p2pfrl.core.needs import Breaks, Need, Needs
from p2pfrl.core.parameters import Vector
from p2pfrl.core.rule import rule
from p2pfrl.core.turn import Turn


@rule
class Chebyshev(Mixing):
    """y_{t+1} = omega_{t+1} (W y_t - y'_{t-1}) + y'_{t-1}: gossip with a memory of one round.

    y_1 = W y_0, omega_2 = 2 / (2 - rho^2), then omega_{t+1} = 1 / (1 - omega_t rho^2 / 4). With rho
    = |lambda_2(W)| disagreement shrinks by rho / (1 + sqrt(1 - rho^2)) per round asymptotically,
    the best rate of any polynomial in W. On a ring of n agents it takes O(n) rounds, and W alone
    O(n^2). Mixing keeps the mean, because y_t and y_{t-1} have the same mean.

    In the literature y moves by mixing alone. Here training also moves it: y'_{t-1} = y_{t-1} +
    D_t, where D_t `(k,)` is the change of y_t by training. Both then have the same mean again, and
    the mean moves exactly as without acceleration.

    Attributes:
        on_loss: cannot be chosen: agents wait for a neighbor that is down, because the acceleration
            needs one W.
        matrix: the rule whose W is accelerated; it must be symmetric on this graph.
        rho: the second-largest eigenvalue modulus of W, or an upper bound; computed from the graph
            by default. A larger value is slower but does not diverge.

    Reference: Montijano, Montijano, Sagues, Chebyshev polynomials in distributed consensus
        applications, IEEE TSP 61(3), 2013, arXiv 1111.4825; for optimization: Scaman, Bach, Bubeck,
        Lee, Massoulie, Optimal algorithms for smooth and strongly convex distributed optimization
        in networks, ICML 2017, arXiv 1702.08704.
    """

    needs: ClassVar[Needs] = (*STATEFUL, Need.EVERY_MESSAGE, Need.STATIC_GRAPH)
    breaks: ClassVar[Breaks] = (Need.ORDER,)

    on_loss: Literal["fold"] = "fold"
    matrix: Matrix = Field(default_factory=Metropolis)
    rho: float | None = Field(default=None, ge=0, lt=1)

    @override
    def weights(self, graph: Graph) -> tuple[Weights, ...]:
        return self.matrix.weights(graph)

    def check(self, graph: Graph) -> None:
        """Raise an error for one-way edges, a W that is not symmetric, and islands without rho."""
        check_symmetric(self.matrix, graph, "mixing 'chebyshev'")
        if self.rho is None and not graph.is_connected:
            raise TopologyError(
                f"mixing.rho: the graph has {graph.islands} islands, so that |lambda_2| = 1: give the rho of one island"
            )

    def fit(self, graph: Graph) -> Chebyshev:
        """Return the rule with rho = |lambda_2(W)|, unless it is given."""
        self.check(graph)
        return (
            self
            if self.rho is not None
            else replace(self, rho=second_modulus([self.weights(graph)]))
        )

    def rate(self, lambda_2: float) -> float:
        """Return |T_t(lambda_2 / rho) / T_t(1 / rho)|^(1/t) for large t.

        T_t are the Chebyshev polynomials.
        """
        rho = lambda_2 if self.rho is None else self.rho
        return lambda_2 if rho == 0.0 else _growth(lambda_2 / rho) / _growth(1.0 / rho)

    def mix(
        self, turn: Turn, received: Mapping[int, Vector], weights: Mapping[int, float], state: State
    ) -> tuple[Vector, State]:
        """Return y_{t+1} and the next state (y_t, omega_{t+1})."""
        mixed = weighted_sum(turn.own, received, weights)
        if not state:
            # omega_1 = 2 gives omega_2 = 2 / (2 - rho^2) in the next round.
            return mixed, (turn.own, 2.0)
        assert self.rho is not None, "fitted to the graph"
        before, omega = state
        omega = 1.0 / (1.0 - omega * self.rho**2 / 4.0)
        before = before + (turn.own - turn.start)
        mixed -= before
        mixed *= omega
        mixed += before
        return mixed, (turn.own, omega)


def _growth(x: float) -> float:
    """Return the limit of |T_t(x)|^(1/t): x + sqrt(x^2 - 1), or 1 within [-1, 1]."""
    return x + math.sqrt(x * x - 1.0) if x > 1.0 else 1.0
