"""Mixing that cancels the bias of a constant step: agents follow the mean gradient instead of their own.

Gradients are taken from what training changed, D = own - start, which is -lr x gradient after one
plain gradient step; so both rules work with any learner, and the learner's rate is the method's.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import ClassVar, Literal

import numpy as np
from pydantic import Field

from p2pfrl.consensus.mixing.base import STATEFUL, Mixing, State, Weights, weighted_sum
from p2pfrl.consensus.mixing.linear import Matrix, Metropolis, check_matrix, check_symmetric
from p2pfrl.core.errors import TopologyError
from p2pfrl.core.graph import Graph
from p2pfrl.core.needs import Breaks, Need, Needs
from p2pfrl.core.parameters import Vector
from p2pfrl.core.rule import rule
from p2pfrl.core.turn import Turn


@rule
class GradientTracking(Mixing):
    """Y_t = W Y_{t-1} + D_t - D_{t-1}, x_{t+1} = W x_t + Y_t; D_t `(k,)` is what training from x_t changed.

    With Y = -lr y and D = -lr grad f this is x+ = W x - lr y, y+ = W y + grad f(x+) - grad f(x),
    y_0 = grad f(x_0). The mean of Y is the mean of D in every round, so agents that agree all move
    by the mean gradient: the fixed point is the optimum, however different the agents are and
    whatever the step, as long as it is stable, which takes a smaller step than D-PSGD. W must be
    doubly stochastic; the graph may change. Both vectors travel: twice the bytes.

    Attributes:
        on_loss: there is no choice: what misses its deadline folds. The mean of Y needs every
            message.
        matrix: the rule that gives W.
        form: diging is the above. adapt_then_combine mixes after the step: x_{t+1} = W (x_t + Y_t),
            which stands larger steps.

    Reference: Nedic, Olshevsky, Shi, Achieving geometric convergence for distributed optimization
        over time-varying graphs, SIAM J. Optimization 27(4), 2017, arXiv 1607.03218 (DIGing); Qu,
        Li, Harnessing smoothness to accelerate distributed optimization, IEEE TCNS 5(3), 2018,
        arXiv 1605.07112. Adapt then combine: Di Lorenzo, Scutari, NEXT, IEEE TSIPN 2(2), 2016,
            arXiv 1602.00591. With policy gradients: Jiang et al., MDPGT, AAAI 2022, arXiv
        2112.02813.
    """

    needs: ClassVar[Needs] = (*STATEFUL, Need.EVERY_MESSAGE)
    breaks: ClassVar[Breaks] = (Need.ORDER,)

    on_loss: Literal["fold"] = "fold"
    matrix: Matrix = Field(default_factory=Metropolis)
    form: Literal["diging", "adapt_then_combine"] = "diging"

    def weights(self, graph: Graph) -> tuple[Weights, ...]:
        """Return W by rows."""
        return self.matrix.weights(graph)

    def check(self, graph: Graph) -> None:
        """Refuse a W that does not keep the mean."""
        check_matrix(self.matrix, graph, "mixing 'gradient_tracking'")
        if not self.matrix.is_doubly_stochastic(graph):
            raise TopologyError(
                "mixing.matrix: mixing 'gradient_tracking' needs a matrix whose columns sum to 1, too: use kind = "
                "'metropolis', or a regular graph"
            )

    def init(self, start: Vector) -> State:
        """Return (Y, D of the last round)."""
        return np.zeros_like(start), np.zeros_like(start)

    def size(self, shared: int) -> int:
        """Return 2 k."""
        return 2 * shared

    def prepare(self, turn: Turn, state: State) -> State:
        """Return (Y_t, D_t)."""
        tracked, before = state
        change = turn.own - turn.start
        return tracked + change - before, change

    def payload(self, turn: Turn, state: State, to: int) -> Vector:
        """Return what is mixed of x_t, and Y_t."""
        return np.concatenate([self._moved(turn, state[0]), state[0]])

    def mix(
        self, turn: Turn, received: Mapping[int, Vector], weights: Mapping[int, float], state: State
    ) -> tuple[Vector, State]:
        """Return x_{t+1}, and (W Y_t, D_t) to remember."""
        tracked, change = state
        mixed = weighted_sum(self.payload(turn, state, turn.agent), received, weights)
        after, averaged = np.split(mixed, 2)
        return (after + tracked if self.form == "diging" else after), (averaged, change)

    def _moved(self, turn: Turn, tracked: Vector) -> Vector:
        return turn.start if self.form == "diging" else turn.start + tracked


@rule
class Extra(Mixing):
    """x_{t+2} = (I + W) x_{t+1} - (I + W)/2 x_t + D_{t+1} - D_t; D_t `(k,)` is what training from x_t changed.

    It begins with x_1 = W x_0 + D_0. With D = -lr grad f the fixed point is the optimum, for any
    step below (1 + lambda_min(W)) / L, L the largest curvature: a larger one than gradient tracking
    stands, with the bytes of D-PSGD. W must be symmetric, and the same in every round.

    Computed as x_{t+1} = W x_t + D_t + S_t with S_t = sum_{s<t} (W - I)/2 x_s, the paper's
    cumulative correction, in differences x_j - x_i and double precision: the mean of S is 0, and
    what rounding makes of it adds up.

    Attributes:
        on_loss: there is no choice: what misses its deadline folds. The memory of the last round
            needs every message.
        matrix: the rule that gives W.

    Reference: Shi, Ling, Wu, Yin, EXTRA: an exact first-order algorithm for decentralized consensus
        optimization, SIAM J. Optimization 25(2), 2015, arXiv 1404.6264, Algorithm 1 with (I + W)/2
        as the second matrix.
    """

    needs: ClassVar[Needs] = (*STATEFUL, Need.EVERY_MESSAGE, Need.STATIC_GRAPH)
    breaks: ClassVar[Breaks] = (Need.ORDER,)

    on_loss: Literal["fold"] = "fold"
    matrix: Matrix = Field(default_factory=Metropolis)

    def weights(self, graph: Graph) -> tuple[Weights, ...]:
        """Return W by rows."""
        return self.matrix.weights(graph)

    def check(self, graph: Graph) -> None:
        """Refuse one-way edges, and a W that is not symmetric."""
        check_symmetric(self.matrix, graph, "mixing 'extra'")

    def rate(self, lambda_2: float) -> float:
        """Return sqrt((1 + lambda_2) / 2), the modulus of the roots of m^2 - (1 + l) m + (1 + l)/2 at l = lambda_2."""
        return math.sqrt((1.0 + lambda_2) / 2.0) if lambda_2 < 1.0 else 1.0

    def init(self, start: Vector) -> State:
        """Return S_0 = 0."""
        return (np.zeros(start.shape),)

    def payload(self, turn: Turn, state: State, to: int) -> Vector:
        """Return x_t."""
        return turn.start

    def mix(
        self, turn: Turn, received: Mapping[int, Vector], weights: Mapping[int, float], state: State
    ) -> tuple[Vector, State]:
        """Return x_{t+1} = x_t + p + D_t + S_t, p = sum_j w_ij (x_j - x_i), and S_{t+1} = S_t + p/2 to remember."""
        (summed,) = state
        pull = np.zeros(turn.start.shape)
        for j, weight in weights.items():
            if j != turn.agent:
                pull += weight * np.subtract(received[j], turn.start, dtype=np.float64)
        after = turn.start + (pull + (turn.own - turn.start) + summed)
        return after.astype(turn.own.dtype), (summed + pull / 2.0,)
