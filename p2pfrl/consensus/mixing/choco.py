"""CHOCO gossip: exact consensus with compressed messages, by copies of the neighbors' vectors."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Literal

import numpy as np
from pydantic import Field
from typing_extensions import override

from p2pfrl.consensus.mixing.base import STATEFUL, Mixing, State, Weights
from p2pfrl.consensus.mixing.linear import Matrix, check_symmetric
from p2pfrl.consensus.mixing.metropolis import Metropolis
from p2pfrl.core.graph import Graph
from p2pfrl.core.needs import Need, Needs
from p2pfrl.core.parameters import Vector
from p2pfrl.core.rule import rule
from p2pfrl.core.turn import Turn


@rule
class Choco(Mixing):
    """x_i <- x_i + gamma sum_j w_ij (y_j - y_i), with y_i the copy of x_i at i's neighbors.

    The compressor `difference` moves y_i by Q(x_i - y_i), and agents send this difference. Mixing
    keeps the mean over agents whatever Q is. y_i approaches x_i, so consensus is exact. A gamma
    that is too large for Q diverges. As x_i includes local training here, this is CHOCO-SGD.

    Difference to the paper: with exchange.order = "combine_while_adapting" the gradient is added
    after mixing.

    Attributes:
        on_loss: cannot be chosen: agents wait for a neighbor that is down.
        gamma: the consensus step, smaller for a coarser Q: .3 for the largest tenth; .8 for
            `quantize` with 4 bits; .8 for `qsgd` with 16 levels and 200 numbers, and far less with
            thousands of numbers, where it is coarser.
        matrix: the rule that gives W; it must be symmetric on this graph.

    Reference: Koloskova, Stich, Jaggi, Decentralized stochastic optimization and gossip algorithms
        with compressed communication, ICML 2019, arXiv 1902.00340, algorithms 1 and 2; for deep
        learning: Koloskova, Lin, Stich, Jaggi, ICLR 2020, arXiv 1907.09356.
    """

    needs: ClassVar[Needs] = (
        *STATEFUL,
        Need.EVERY_MESSAGE,
        Need.STATIC_GRAPH,
        Need.KNOWN_COPIES,
    )

    on_loss: Literal["fold"] = "fold"
    gamma: float = Field(default=0.3, gt=0, le=1)
    matrix: Matrix = Field(default_factory=Metropolis)

    @override
    def weights(self, graph: Graph) -> tuple[Weights, ...]:
        return self.matrix.weights(graph)

    def check(self, graph: Graph) -> None:
        """Raise an error for one-way edges, and for a W that is not symmetric."""
        check_symmetric(self.matrix, graph, "mixing 'choco'")

    def mix(
        self, turn: Turn, received: Mapping[int, Vector], weights: Mapping[int, float], state: State
    ) -> tuple[Vector, State]:
        """Return x_i + gamma sum_j w_ij (y_j - y_i), summed in order.

        `received` has the copies y_j.
        """
        mixed: Vector = turn.own.copy()
        others = [(j, weight) for j, weight in weights.items() if j != turn.agent]
        if not others:
            return mixed, state
        assert turn.sent is not None, "a compressor with `is_difference` says what neighbors know"
        pull = np.zeros_like(mixed)
        for j, weight in others:
            pull += weight * (received[j] - turn.sent)
        mixed += self.gamma * pull
        return mixed, state
