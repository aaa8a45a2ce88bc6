"""Push-sum averaging on directed graphs, without loss of mass when messages are lost."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Literal, NamedTuple

import numpy as np
from pydantic import Field

from p2pfrl.consensus.mixing.base import Mixing, State, Weights
from p2pfrl.core.graph import Graph
from p2pfrl.core.needs import Breaks, Need, Needs
from p2pfrl.core.parameters import Vector
from p2pfrl.core.rule import rule
from p2pfrl.core.turn import Turn


class _Mass(NamedTuple):
    """The state of an agent.

    Attributes:
        own: `(k + 1,)`, x and w.
        given: sums of all shares by receiver, in the dtype of messages.
        had: the last received sums by sender.
        nothing: the sum before the first share.
        missed: whether a message that was due since the last exchange is missing.
    """

    own: Vector
    given: dict[int, Vector]
    had: dict[int, Vector]
    nothing: Vector
    missed: bool = False


@rule
class PushSum(Mixing):
    """x <- P (x + D), w <- P w, z = x / w, p_ji = 1 / (1 + out-degree of i).

    Agents agree on the mean on any directed graph. x_i `(k,)` and w_i, which starts at 1, are the
    mass of agent i. It keeps one share of the mass and gives one to every receiver. z_i is its
    model, and D_i is the change by training from z_i, so sum_i x_i moves exactly as all training
    does. An agent needs to know the number of its receivers and nothing else of the graph.

    Agent i does not send the share to j but sigma_ij `(k + 1,)`, the sum of all shares of x_i and
    w_i for j so far. The receiver adds the difference to the last sum it received, so a lost, late,
    repeated or overtaken message loses no mass: the next message contains it. Hence sum_i w_i and
    the mass in transit are n at any time. With short numbers (float32) the sender gives away
    exactly the difference of the sums that it sends. A sum resolves 2^-24 of its own size, so
    shares slowly become coarser as it grows.

    Differences to the paper: agents send sums instead of shares (the running sums of Hadjicostis,
    Vaidya, Dominguez-Garcia). The shares depend on the receivers of each exchange. An agent that
    missed a message since its last exchange gives less if its weight would become too small.
    Staleness has no meaning for sums: a sum counts in full under every schedule.

    Attributes:
        on_loss: cannot be chosen: nothing is lost.
        least_weight: minimum of w that an agent keeps after it missed a message. Training moves z
            by D / w, so steps would grow without bound if an agent gave its mass away and received
            none. 0 disables it.

    Reference: Assran, Loizou, Ballas, Rabbat, Stochastic gradient push for distributed deep
        learning, ICML 2019, arXiv 1811.10792, Algorithm 1; Kempe, Dobra, Gehrke, Gossip-based
        computation of aggregate information, FOCS 2003; Hadjicostis, Vaidya, Dominguez-Garcia,
        Robust distributed average consensus via exchange of running sums, IEEE TAC 61(6), 2016.
    """

    is_per_neighbor: ClassVar[bool] = True
    sends_parameters: ClassVar[bool] = False
    needs: ClassVar[Needs] = (
        Need.MASS,
        Need.PARAMETERS,
        Need.FREE_MOMENTS,
        Need.EXACT_MESSAGES,
        Need.FULL_WEIGHT,
    )
    breaks: ClassVar[Breaks] = (Need.ORDER,)

    on_loss: Literal["fold"] = "fold"
    least_weight: float = Field(default=0.1, ge=0, lt=1)

    def weights(self, graph: Graph) -> tuple[Weights, ...]:
        """Return P by rows. Its columns sum to 1."""
        shares = [1.0 / (1 + len(receivers)) for receivers in graph.successors]
        return tuple(
            {j: shares[j] for j in sorted((i, *heard))}
            for i, heard in enumerate(graph.predecessors)
        )

    def effective(self, weights: Weights, own_id: int, arrived: Mapping[int, float]) -> Weights:
        """Return the row unchanged, because a missing payload is not lost."""
        return weights

    def init(self, start: Vector) -> State:
        """Return x = start, w = 1."""
        own = np.append(start, 1.0).astype(np.float64)
        return _Mass(own, {}, {}, np.zeros(len(own), start.dtype))

    def size(self, shared: int) -> int:
        """Return k + 1."""
        return shared + 1

    def prepare(self, turn: Turn, state: State) -> State:
        """Return the state after training, with the shares of this exchange moved to `given`."""
        own, given, had, nothing, missed = _Mass(*state)
        own = own.copy()
        own[:-1] += np.subtract(turn.own, turn.start, dtype=np.float64)
        # The share of w that the agent can give away and still keep `least_weight`.
        spare = 1.0 - self.least_weight / own[-1] if missed else 1.0
        if turn.to and spare > 0.0:
            given, share = dict(given), own * min(1.0 / (1 + len(turn.to)), spare / len(turn.to))
            for j in turn.to:
                before = given.get(j, nothing)
                given[j] = (before + share).astype(nothing.dtype)
                # Subtract the rounded difference, not the share, so that rounding loses no mass.
                own -= np.subtract(given[j], before, dtype=np.float64)
        return _Mass(own, given, had, nothing, missed)

    def payload(self, turn: Turn, state: State, to: int) -> Vector:
        """Return the sums `(k + 1,)` of all shares given to `to`."""
        mass = _Mass(*state)
        return mass.given.get(to, mass.nothing)

    def mix(
        self, turn: Turn, received: Mapping[int, Vector], weights: Mapping[int, float], state: State
    ) -> tuple[Vector, State]:
        """Return x / w after adding the new part of the received sums.

        The weight in a sum only grows, which identifies older sums.
        """
        own, given, had, nothing, _ = _Mass(*state)
        own, had = own.copy(), dict(had)
        # A sum with a smaller weight is older and already contained in the last one.
        new = [j for j in sorted(received) if received[j][-1] > had.get(j, nothing)[-1]]
        for j in new:
            own += np.subtract(received[j], had.get(j, nothing), dtype=np.float64)
            had[j] = received[j]
        missed = any(j not in new for j in weights if j != turn.agent)
        return (own[:-1] / own[-1]).astype(turn.own.dtype), _Mass(own, given, had, nothing, missed)
