"""Mixing rules without the bias of a constant step: agents follow the mean gradient.

A gradient is the change by training, D = own - start, which is -lr x gradient after one plain
gradient step. Both rules therefore work with any learner, and the method's step size is the
learner's.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import ClassVar, Literal

import numpy as np
from pydantic import Field
from typing_extensions import override

from p2pfrl.consensus.mixing.base import STATEFUL, Mixing, State, Weights, weighted_sum
from p2pfrl.consensus.mixing.linear import Matrix, check_matrix, check_symmetric
from p2pfrl.consensus.mixing.metropolis import Metropolis
from p2pfrl.core.errors import TopologyError
from p2pfrl.core.graph import Graph
from p2pfrl.core.needs import Breaks, Need, Needs
from p2pfrl.core.parameters import Vector
from p2pfrl.core.rule import rule
from p2pfrl.core.turn import Turn


@rule
class GradientTracking(Mixing):
    """Y_t = W Y_{t-1} + D_t - D_{t-1}, x_{t+1} = W x_t + Y_t; D_t `(k,)` is the change by training.

    With Y = -lr y and D = -lr grad f this is x+ = W x - lr y, y+ = W y + grad f(x+) - grad f(x),
    y_0 = grad f(x_0). The mean of Y is the mean of D in every round, so agents that agree all move
    by the mean gradient. The fixed point is the optimum for any agents and any stable step; the
    largest stable step is smaller than that of D-PSGD. W must be doubly stochastic, and the graph
    may change. Agents send both vectors, so messages have twice the bytes.

    Attributes:
        on_loss: cannot be chosen: agents wait for a neighbor that is down, because the mean of Y
            needs every message.
        matrix: the rule that gives W.
        form: diging is the above. adapt_then_combine mixes after the step, x_{t+1} = W (x_t + Y_t),
            and is stable with larger steps.

    Reference: Nedic, Olshevsky, Shi, Achieving geometric convergence for distributed optimization
        over time-varying graphs, SIAM J. Optimization 27(4), 2017, arXiv 1607.03218 (DIGing); Qu,
        Li, Harnessing smoothness to accelerate distributed optimization, IEEE TCNS 5(3), 2018,
        arXiv 1605.07112. Adapt then combine: Di Lorenzo, Scutari, NEXT, IEEE TSIPN 2(2), 2016,
        arXiv 1602.00591. With policy gradients: Jiang et al., MDPGT, AAAI 2022, arXiv 2112.02813.
    """

    sends_parameters: ClassVar[bool] = False
    needs: ClassVar[Needs] = (*STATEFUL, Need.EVERY_MESSAGE)
    breaks: ClassVar[Breaks] = (Need.ORDER,)

    on_loss: Literal["fold"] = "fold"
    matrix: Matrix = Field(default_factory=Metropolis)
    form: Literal["diging", "adapt_then_combine"] = "diging"

    @override
    def weights(self, graph: Graph) -> tuple[Weights, ...]:
        return self.matrix.weights(graph)

    def check(self, graph: Graph) -> None:
        """Raise an error for a W that does not keep the mean."""
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
        """Return the vector to mix, made from x_t, followed by Y_t."""
        return np.concatenate([self._moved(turn, state[0]), state[0]])

    def mix(
        self, turn: Turn, received: Mapping[int, Vector], weights: Mapping[int, float], state: State
    ) -> tuple[Vector, State]:
        """Return x_{t+1} and the next state (W Y_t, D_t)."""
        tracked, change = state
        mixed = weighted_sum(self.payload(turn, state, turn.agent), received, weights)
        after, averaged = np.split(mixed, 2)
        return (after + tracked if self.form == "diging" else after), (averaged, change)

    def _moved(self, turn: Turn, tracked: Vector) -> Vector:
        return turn.start if self.form == "diging" else turn.start + tracked


@rule
class Extra(Mixing):
    """x_{t+2} = (I + W) x_{t+1} - (I + W)/2 x_t + D_{t+1} - D_t, D_t `(k,)` the change by training.

    It begins with x_1 = W x_0 + D_0. With D = -lr grad f the fixed point is the optimum for any
    step below (1 + lambda_min(W)) / L, with L the largest curvature. This bound is larger than that
    of gradient tracking, and messages are as large as those of D-PSGD. W must be symmetric and the
    same in every round.

    The implementation is x_{t+1} = W x_t + D_t + S_t with S_t = sum_{s<t} (W - I)/2 x_s, the
    paper's cumulative correction. It uses differences x_j - x_i in double precision: the mean of S
    is 0, and rounding errors would accumulate in it.

    Attributes:
        on_loss: cannot be chosen: agents wait for a neighbor that is down, because the memory of
            the last round needs every message.
        matrix: the rule that gives W.

    Reference: Shi, Ling, Wu, Yin, EXTRA: an exact first-order algorithm for decentralized consensus
        optimization, SIAM J. Optimization 25(2), 2015, arXiv 1404.6264, Algorithm 1 with (I + W)/2
        as the second matrix.
    """

    needs: ClassVar[Needs] = (*STATEFUL, Need.EVERY_MESSAGE, Need.STATIC_GRAPH)
    breaks: ClassVar[Breaks] = (Need.ORDER,)

    on_loss: Literal["fold"] = "fold"
    matrix: Matrix = Field(default_factory=Metropolis)

    @override
    def weights(self, graph: Graph) -> tuple[Weights, ...]:
        return self.matrix.weights(graph)

    def check(self, graph: Graph) -> None:
        """Raise an error for one-way edges, and for a W that is not symmetric."""
        check_symmetric(self.matrix, graph, "mixing 'extra'")

    def rate(self, lambda_2: float) -> float:
        """Return sqrt((1 + lambda_2) / 2), the modulus of the roots of m^2 - (1 + l) m + (1 + l)/2.

        l = lambda_2.
        """
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
        """Return x_{t+1} = x_t + p + D_t + S_t and S_{t+1} = S_t + p/2.

        p = sum_j w_ij (x_j - x_i).
        """
        (summed,) = state
        pull = np.zeros(turn.start.shape)
        for j, weight in weights.items():
            if j != turn.agent:
                pull += weight * np.subtract(received[j], turn.start, dtype=np.float64)
        after = turn.start + (pull + (turn.own - turn.start) + summed)
        return after.astype(turn.own.dtype), (summed + pull / 2.0,)
