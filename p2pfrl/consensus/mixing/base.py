"""The contract of mixing: what an agent makes of its own vector and of its neighbors'.

A mixing rule is a frozen dataclass of options; the state of one agent is a value it is given and
returns. The defaults below are those of a linear rule, theta_i <- sum_j w_ij theta_j, for which
only `weights` remains to be said.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from typing import Any, ClassVar, Literal

import numpy as np
from typing_extensions import override

from p2pfrl.core.errors import TopologyError
from p2pfrl.core.graph import Graph
from p2pfrl.core.needs import Composable, Need, Needs
from p2pfrl.core.parameters import Vector
from p2pfrl.core.rule import rule
from p2pfrl.core.turn import Turn

Weights = dict[int, float]
State = tuple[Any, ...]
"""What an agent remembers between exchanges; only its rule looks inside, and never changes what is in it."""
STATEFUL: Needs = (Need.MEMORY, Need.PARAMETERS, Need.FREE_MOMENTS)
"""What every rule needs whose agents remember what mixing made of their parameters."""


@rule
class Mixing(Composable, ABC):
    """Options every mixing rule has.

    Attributes:
        on_loss: what happens to the weight of a payload that does not arrive. fold: it goes to
            oneself. renormalize: the weights of what arrived, oneself included, are divided by
                their sum. last_known: the neighbor's previous
            payload stands in while it is fresh enough, else fold. symmetric: the link fails for
            both ends at once, and both fold, which keeps the mean over agents exactly.

    What a rule says of itself, beside its options:
        is_per_neighbor: every neighbor gets a payload of its own.
        is_pairwise: an agent exchanges with one neighbor at a time, which answers at once.
    """

    is_per_neighbor: ClassVar[bool] = False
    is_pairwise: ClassVar[bool] = False

    on_loss: Literal["fold", "renormalize", "last_known", "symmetric"] = "fold"

    @property
    @override
    def implied(self) -> Needs:
        """What `on_loss` needs."""
        return _NEEDS_ON_LOSS.get(self.on_loss, ())

    @abstractmethod
    def weights(self, graph: Graph) -> tuple[Weights, ...]:
        """Return the mixing matrix W by rows: row i maps each agent that i hears, and i, to w_ij.

        Keys ascend; every row sums to 1 up to rounding or, where the rule `is_per_neighbor`, every
        column.
        """

    def check(self, graph: Graph) -> None:
        """Refuse a graph on which the rule means nothing or diverges.

        Raises:
            TopologyError: with the reason and what would do.
        """
        if self.on_loss == "symmetric":
            require_undirected(graph, "on_loss = 'symmetric'")

    def fit(self, graph: Graph) -> Mixing:
        """Return the rule with those options filled in that the graph of the first round decides."""
        return self

    def rate(self, lambda_2: float) -> float:
        """Return the factor per round by which disagreement shrinks in the long run, given |lambda_2| of W."""
        return lambda_2

    def init(self, start: Vector) -> State:
        """Return the state of an agent that starts at `start`, `(k,)`. A linear rule has none."""
        return ()

    def size(self, shared: int) -> int:
        """Return how many numbers an agent sends that shares `shared`."""
        return shared

    def prepare(self, turn: Turn, state: State) -> State:
        """Return the state once local training has ended: called once per exchange, before `payload`."""
        return state

    def payload(self, turn: Turn, state: State, to: int) -> Vector:
        """Return what neighbor `to` gets; every neighbor the same, unless `is_per_neighbor`. By default `turn.own`."""
        return turn.own

    def mix(
        self, turn: Turn, received: Mapping[int, Vector], weights: Mapping[int, float], state: State
    ) -> tuple[Vector, State]:
        """Return the mixed vector sum_j w_j x_j, `(k,)`, and the next state.

        The sum runs in ascending order of agent ids, oneself included, in the vector's dtype: the
        result does not depend on the order of arrival. No input is modified.

        Args:
            turn: the agent's own vectors, `turn.own` above all.
            received: payloads by sender; may hold more than `weights` names.
            weights: one row, as `weights` or `effective` gave it: every key but the agent's own is
                in `received`.
            state: as `prepare` returned it.
        """
        return weighted_sum(turn.own, received, weights), state

    def answer(self, turn: Turn, received: Vector) -> Vector:
        """Return what becomes of `turn.own` when it answers a neighbor that sent `received`; only if `is_pairwise`."""
        raise NotImplementedError(f"{type(self).__name__} is not pairwise")

    def effective(self, weights: Weights, own_id: int, arrived: Mapping[int, float]) -> Weights:
        """Return the row to use when only `arrived` came: every weight times its factor, the rest where `on_loss` says.

        Args:
            weights: the agent's row of W.
            own_id: the agent's id.
            arrived: sender -> factor in [0, 1]: 1 for a fresh payload, less for a stale one.
                Senders outside the row are ignored. Where `on_loss` is last_known, the caller lists
                the payloads that stand in, too.

        Returns:
            a row whose keys ascend and whose sum is that of `weights`; `weights` itself when all
            came with factor 1.
        """
        if all(arrived.get(j) == 1.0 for j in weights if j != own_id):
            return weights
        kept = {
            j: w * (1.0 if j == own_id else arrived[j])
            for j, w in weights.items()
            if j == own_id or j in arrived
        }
        return _ON_LOSS[self.on_loss](weights, own_id, kept)

    def is_doubly_stochastic(self, graph: Graph) -> bool:
        """Return whether the columns of W sum to 1 too (to 1e-12): then the mean over agents is kept."""
        columns = [0.0] * graph.n
        for row in self.weights(graph):
            for j, weight in row.items():
                columns[j] += weight
        return all(abs(total - 1.0) <= 1e-12 for total in columns)


def weighted_sum(
    own: Vector, received: Mapping[int, Vector], weights: Mapping[int, float]
) -> Vector:
    """Return sum_j w_j x_j, a new vector; x_j is `received[j]`, for the one agent that is not there `own`."""
    assert sum(j not in received for j in weights) == 1, (
        "all weights but the agent's own belong to payloads"
    )
    (first, weight), *others = weights.items()
    mixed = np.multiply(received.get(first, own), weight)
    scratch = np.empty_like(own)
    for j, weight in others:
        mixed += np.multiply(received.get(j, own), weight, out=scratch)
    return mixed


def _fold(weights: Weights, own_id: int, kept: Weights) -> Weights:
    missing = sum(weight - kept.get(j, 0.0) for j, weight in weights.items())
    return {j: weight + missing if j == own_id else weight for j, weight in kept.items()}


def _renormalize(weights: Weights, own_id: int, kept: Weights) -> Weights:
    total = sum(kept.values())
    return {j: weight / total for j, weight in kept.items()} if total > 0.0 else {own_id: 1.0}


_ON_LOSS: dict[str, Callable[[Weights, int, Weights], Weights]] = {
    "fold": _fold,
    "renormalize": _renormalize,
    "last_known": _fold,
    "symmetric": _fold,
}


_NEEDS_ON_LOSS: dict[str, Needs] = {
    "last_known": (Need.ROUNDS.of("on_loss"),),
    "symmetric": (Need.BOTH_ENDS.of("on_loss"),),
}


def require_undirected(graph: Graph, what: str) -> None:
    """Refuse a graph with a one-way edge.

    Raises:
        TopologyError: names the first such edge.
    """
    if graph.is_undirected:
        return
    for i, j in graph.edges:
        if i not in graph.successors[j]:
            raise TopologyError(
                f"{what} needs an undirected graph, but agent {graph.name(i)} sends to {graph.name(j)} and hears "
                "nothing back: add the reverse edge, or use mixing 'push_sum', which keeps the mean on one-way edges"
            )
