"""Averaging in pairs, as in asynchronous decentralized SGD."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from p2pfrl.consensus.mixing.base import Mixing, State, Weights, require_undirected
from p2pfrl.consensus.mixing.linear import with_own
from p2pfrl.core.errors import TopologyError
from p2pfrl.core.graph import Graph
from p2pfrl.core.needs import Breaks, Need, Needs, OneOf
from p2pfrl.core.parameters import Vector
from p2pfrl.core.rule import rule
from p2pfrl.core.turn import Turn
from p2pfrl.core.types import REPLY


@rule
class Pairwise(Mixing):
    """Agent i asks one random neighbor j, and both move half the way: x_i += (x_j - x_i)/2, x_j += (x_i - x_j)/2.

    x_i is what i asked with, x_j what j had when it answered. The two moves cancel, so the mean
    over agents is kept whatever training, and exchanges with others, do to i and j meanwhile: a
    gradient is added to where the agent is by then, although it was computed where the agent was
    before (AD-PSGD). Without training E||x - mean||^2 shrinks per exchange by rho(E[W (x) W]), W =
    I - (e_i - e_j)(e_i - e_j)^T / 2 (theory.pairwise_rate).

    In the paper the pair is atomic because of locks, and a bipartite graph prevents deadlocks; here
    nobody is locked, and the graph may be any that goes both ways.

    Reference: Lian, Zhang, Zhang, Liu, Asynchronous decentralized parallel stochastic gradient
        descent, ICML 2018, arXiv 1710.06952; the averaging alone: Boyd, Ghosh, Prabhakar, Shah,
        Randomized gossip algorithms, IEEE Trans. Information Theory 52(6), 2006.
    """

    is_pairwise: ClassVar[bool] = True
    needs: ClassVar[Needs] = (
        Need.NO_ROUNDS,
        Need.WHOLE_EXCHANGES,
        Need.EXACT_MESSAGES,
        OneOf("exchange.payload", ("parameters",), "it averages two agents at once"),
    )
    breaks: ClassVar[Breaks] = (Need.ORDER,)

    def weights(self, graph: Graph) -> tuple[Weights, ...]:
        """Return E[W] of one exchange, rows, the one that asks being anyone: w_ij = (1/d_i + 1/d_j) / (2n)."""
        degree = [len(neighbors) for neighbors in graph.successors]
        return tuple(
            with_own({j: (1 / degree[i] + 1 / degree[j]) / (2 * graph.n) for j in neighbors}, i)
            for i, neighbors in enumerate(graph.successors)
        )

    def check(self, graph: Graph) -> None:
        """Refuse one-way edges, which no answer could take, and a choice about lost payloads: they are repeated.

        Raises:
            TopologyError: with what would do.
        """
        require_undirected(graph, "mixing 'pairwise'")
        if self.on_loss != "fold":
            raise TopologyError(
                "mixing.on_loss: mixing 'pairwise' repeats what is lost: leave it out"
            )

    def init(self, start: Vector) -> State:
        """Return what an agent would ask with before its first exchange."""
        return (start,)

    def prepare(self, turn: Turn, state: State) -> State:
        """Remember what this exchange asks with."""
        return (turn.own,)

    def payload(self, turn: Turn, state: State, to: int) -> Vector:
        """Return what the exchange asks with, however often it has to; of an answer, what the agent has."""
        return turn.own if turn.kind == REPLY else state[0]

    def mix(
        self, turn: Turn, received: Mapping[int, Vector], weights: Mapping[int, float], state: State
    ) -> tuple[Vector, State]:
        """Return x + (x_j - what was asked with) / 2; x as it is, where nobody answered."""
        after = turn.own.copy()
        for reply in received.values():
            after += (reply - state[0]) / 2
        return after, state

    def answer(self, turn: Turn, received: Vector) -> Vector:
        """Return x + (what the other asked with - x) / 2."""
        return turn.own + (received - turn.own) / 2
