"""Pairwise averaging, as in asynchronous decentralized SGD."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from p2pfrl.consensus.mixing.base import Mixing, State, Weights, require_undirected
from p2pfrl.consensus.mixing.rows import with_own
from p2pfrl.core.errors import TopologyError
from p2pfrl.core.graph import Graph
from p2pfrl.core.needs import Breaks, Need, Needs, OneOf
from p2pfrl.core.parameters import Vector
from p2pfrl.core.rule import rule
from p2pfrl.core.turn import Turn
from p2pfrl.core.types import REPLY


@rule
class Pairwise(Mixing):
    """x_i += (x_j - x_i)/2, x_j += (x_i - x_j)/2: agent i asks a random neighbor j, and both move.

    x_i is i's vector when it asked, and x_j is j's vector when it answered. The two moves cancel,
    so the mean over agents is kept even if i and j train or exchange with others meanwhile. A
    gradient is added to the agent's parameters after the move, although it was computed before
    (AD-PSGD). Without training E||x - mean||^2 shrinks per exchange by rho(E[W (x) W]), W = I -
    (e_i - e_j)(e_i - e_j)^T / 2 (theory.pairwise_rate).

    In the paper locks make an exchange atomic, and a bipartite graph prevents deadlocks. Here there
    are no locks, and any undirected graph works.

    Reference: Lian, Zhang, Zhang, Liu, Asynchronous decentralized parallel stochastic gradient
        descent, ICML 2018, arXiv 1710.06952; the averaging alone: Boyd, Ghosh, Prabhakar, Shah,
        Randomized gossip algorithms, IEEE Trans. Information Theory 52(6), 2006.
    """

    is_pairwise: ClassVar[bool] = True
    needs: ClassVar[Needs] = (
        Need.NO_ROUNDS,
        Need.WHOLE_EXCHANGES,
        Need.EXACT_MESSAGES,
        Need.CLEAR,
        OneOf("exchange.payload", ("parameters",), "it averages two agents at once"),
    )
    breaks: ClassVar[Breaks] = (Need.ORDER,)

    def weights(self, graph: Graph) -> tuple[Weights, ...]:
        """Return E[W] of one exchange by rows: w_ij = (1/d_i + 1/d_j) / (2n).

        The agent that asks is uniform.
        """
        degree = [len(neighbors) for neighbors in graph.successors]
        return tuple(
            with_own({j: (1 / degree[i] + 1 / degree[j]) / (2 * graph.n) for j in neighbors}, i)
            for i, neighbors in enumerate(graph.successors)
        )

    def check(self, graph: Graph) -> None:
        """Raise an error for one-way edges, which carry no answer, and for `on_loss`.

        Lost payloads are repeated, so `on_loss` has no meaning.

        Raises:
            TopologyError: with an alternative.
        """
        require_undirected(graph, "mixing 'pairwise'")
        if self.on_loss != "fold":
            raise TopologyError(
                "mixing.on_loss: mixing 'pairwise' repeats lost messages: leave it out"
            )

    def init(self, start: Vector) -> State:
        """Return the payload of a question before the first exchange."""
        return (start,)

    def prepare(self, turn: Turn, state: State) -> State:
        """Return the state with the payload of this exchange's question."""
        return (turn.own,)

    def payload(self, turn: Turn, state: State, to: int) -> Vector:
        """Return the question's payload, the same each time it is sent.

        For an answer the agent's vector.
        """
        return turn.own if turn.kind == REPLY else state[0]

    def mix(
        self, turn: Turn, received: Mapping[int, Vector], weights: Mapping[int, float], state: State
    ) -> tuple[Vector, State]:
        """Return x + (x_j - payload of the question) / 2, or x if no neighbor answered."""
        after = turn.own.copy()
        for reply in received.values():
            after += (reply - state[0]) / 2
        return after, state

    def answer(self, turn: Turn, received: Vector) -> Vector:
        """Return x + (payload of the question - x) / 2."""
        return turn.own + (received - turn.own) / 2
