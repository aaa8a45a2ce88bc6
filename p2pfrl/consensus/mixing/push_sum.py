"""Push-sum: averages on directed graphs, and no mass is lost with a message."""

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
        own: `(k + 1,)` x and w.
        given: sums of all shares, by receiver, as they travel.
        had: the last sums that came, by sender.
        nothing: the sum before the first.
        missed: whether someone who should have been heard since the last exchange was not.
    """

    own: Vector
    given: dict[int, Vector]
    had: dict[int, Vector]
    nothing: Vector
    missed: bool = False


@rule
class PushSum(Mixing):
    """x <- P (x + D), w <- P w, z = x / w, p_ji = 1 / (1 + out-degree of i): agents agree on the mean on any digraph.

    x_i `(k,)` and w_i, first 1, are the mass of agent i, of which it keeps a share and gives one to
    everyone it sends to; z_i is its model, and D_i what training from z_i changed, so that sum_i
    x_i moves exactly as all training does. Needs to know how many it sends to, and nothing of the
    others.

    What travels to j is not the share but sigma_ij `(k + 1,)`, the sum of all shares of x_i and w_i
    for j so far. The receiver adds what is new since the last sum it had, so a lost, late, repeated
    or overtaken message takes no mass away: it comes with the next. Hence `sum_i w_i` and what is
    under way are n at any time. Where numbers are short (float32), the sender gives away exactly
    the difference of the sums as they travel; a sum resolves its own size times 2^-24, so shares
    become coarser as it grows, slowly.

    Differences to the paper: sums in place of shares (the running sums of Hadjicostis, Vaidya,
    Dominguez-Garcia); the share is taken of every exchange's own receivers; an agent that missed a
    message of someone it should have heard since its last exchange gives less, where it would be
    left with too little weight. The age of a message has no meaning to a sum: what came counts in
    full under every schedule.

    Attributes:
        on_loss: there is no choice: nothing is lost.
        least_weight: what an agent that missed a message keeps of w at least. Training moves z by D
            / w, so that steps would grow without bound where nothing gets through to it and it
            gives away what it has. 0: nothing.

    Reference: Assran, Loizou, Ballas, Rabbat, Stochastic gradient push for distributed deep
        learning, ICML 2019, arXiv 1811.10792, Algorithm 1; Kempe, Dobra, Gehrke, Gossip-based
        computation of aggregate information, FOCS 2003; Hadjicostis, Vaidya, Dominguez-Garcia,
        Robust distributed average consensus via exchange of running sums, IEEE TAC 61(6), 2016.
    """

    is_per_neighbor: ClassVar[bool] = True
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
        """Return P by rows: its columns sum to 1."""
        shares = [1.0 / (1 + len(receivers)) for receivers in graph.successors]
        return tuple(
            {j: shares[j] for j in sorted((i, *heard))}
            for i, heard in enumerate(graph.predecessors)
        )

    def effective(self, weights: Weights, own_id: int, arrived: Mapping[int, float]) -> Weights:
        """Return the row as it is: what did not arrive is not gone."""
        return weights

    def init(self, start: Vector) -> State:
        """Return x = start, w = 1."""
        own = np.append(start, 1.0).astype(np.float64)
        return _Mass(own, {}, {}, np.zeros(len(own), start.dtype))

    def size(self, shared: int) -> int:
        """Return k + 1."""
        return shared + 1

    def prepare(self, turn: Turn, state: State) -> State:
        """Return the state with what training changed, and the shares of this exchange given away."""
        own, given, had, nothing, missed = _Mass(*state)
        own = own.copy()
        own[:-1] += np.subtract(turn.own, turn.start, dtype=np.float64)
        spare = 1.0 - self.least_weight / own[-1] if missed else 1.0
        if turn.to and spare > 0.0:
            given, share = dict(given), own * min(1.0 / (1 + len(turn.to)), spare / len(turn.to))
            for j in turn.to:
                before = given.get(j, nothing)
                given[j] = (before + share).astype(nothing.dtype)
                own -= np.subtract(given[j], before, dtype=np.float64)
        return _Mass(own, given, had, nothing, missed)

    def payload(self, turn: Turn, state: State, to: int) -> Vector:
        """Return the sums `(k + 1,)` of everything given to `to`."""
        mass = _Mass(*state)
        return mass.given.get(to, mass.nothing)

    def mix(
        self, turn: Turn, received: Mapping[int, Vector], weights: Mapping[int, float], state: State
    ) -> tuple[Vector, State]:
        """Return x / w, with what is new in the sums that came; w only grows along them, so older sums show."""
        own, given, had, nothing, _ = _Mass(*state)
        own, had = own.copy(), dict(had)
        new = [j for j in sorted(received) if received[j][-1] > had.get(j, nothing)[-1]]
        for j in new:
            own += np.subtract(received[j], had.get(j, nothing), dtype=np.float64)
            had[j] = received[j]
        missed = any(j not in new for j in weights if j != turn.agent)
        return (own[:-1] / own[-1]).astype(turn.own.dtype), _Mass(own, given, had, nothing, missed)
