"""Contract of mixing rules: an agent mixes its own vector with its neighbors' vectors.

A mixing rule is a frozen dataclass of options. The state of an agent is a value that the rule
receives and returns. The defaults below are those of a linear rule, theta_i <- sum_j w_ij theta_j,
which defines `weights` only.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar, Literal

import numpy as np
from typing_extensions import override

from p2pfrl.core.contract import described
from p2pfrl.core.errors import TopologyError
from p2pfrl.core.graph import Graph
from p2pfrl.core.modules import is_of_package
from p2pfrl.core.needs import Composable, Need, Needs
from p2pfrl.core.parameters import Vector
from p2pfrl.core.resources import CapacityName, Resources
from p2pfrl.core.rule import rule
from p2pfrl.core.turn import Turn

Weights = Mapping[int, float]
_ROUNDING = 1e-9
"""Greatest deviation of a sum of weights from 1 that counts as rounding."""
State = tuple[Any, ...]
"""State of an agent between exchanges. Only its rule reads it, and no rule modifies it in place."""
STATEFUL: Needs = (Need.MEMORY, Need.PARAMETERS, Need.FREE_MOMENTS)
"""Needs of every rule whose agents remember their mixed parameters."""


@rule
class Mixing(Composable, ABC):
    """Options of all mixing rules.

    Attributes:
        on_loss: treatment of the weight of a payload that does not arrive. fold: it is added to the
            own weight. renormalize: the weights of the arrived payloads and the own weight are
            divided by their sum. last_known: the neighbor's previous payload replaces it while it
            is fresh enough, else fold. symmetric: the link fails in both directions at once, and
            both agents fold, which keeps the mean over agents exactly.

    Class variables of a rule:
        is_per_neighbor: every neighbor gets a payload of its own.
        is_pairwise: an agent exchanges with one neighbor at a time, which answers at once.
        tries_out: it plays episodes with what it receives (`Memory.try_out`).
        is_robust: it bounds what neighbors that send anything can do.
        sends_parameters: a payload holds the agent's own vector and nothing else.
    """

    is_per_neighbor: ClassVar[bool] = False
    is_pairwise: ClassVar[bool] = False
    is_robust: ClassVar[bool] = False
    tries_out: ClassVar[bool] = False
    sends_parameters: ClassVar[bool] = True

    on_loss: Literal["fold", "renormalize", "last_known", "symmetric"] = "fold"

    @property
    @override
    def implied(self) -> Needs:
        """Needs of `on_loss`; the vector of every neighbor, unless their weighted sum is enough."""
        is_sum = type(self).mix is Mixing.mix and type(self).payload is Mixing.payload
        single = () if is_sum and not self.is_pairwise else (Need.SINGLE,)
        return (*_NEEDS_ON_LOSS.get(self.on_loss, ()), *single)

    @abstractmethod
    def weights(self, graph: Graph) -> tuple[Weights, ...]:
        """Return the mixing matrix W by rows.

        Row i maps i, and each agent that i receives from, to w_ij.

        A sum over agents runs in the order of the keys. Every row sums to 1 up to rounding; if the
        rule `is_per_neighbor`, every column does.
        """

    def check(self, graph: Graph) -> None:
        """Raise an error if the rule is not defined or diverges on a graph.

        Raises:
            TopologyError: with the reason and an alternative.
        """
        if self.on_loss == "symmetric":
            require_undirected(graph, "on_loss = 'symmetric'")

    def fit(self, graph: Graph) -> Mixing:
        """Return the rule with the options that depend on the graph of the first round."""
        return self

    @property
    def resource(self) -> CapacityName | None:
        """The resource that tells agents apart here; None if none does, or options give it."""
        return None

    def with_resources(self, resources: Resources) -> Mixing:
        """Return the rule with the options that depend on what the agents have."""
        return self

    def tolerated(self, neighbors: int) -> int | None:
        """Return how many of `neighbors` may send anything; None if no number says it."""
        return None

    def joins_roles(self, k: int) -> bool:
        """Return whether agents i and j may be averaged although i mod k and j mod k differ."""
        return True

    def delta_max(self, graph: Graph) -> float | None:
        """Return the largest weight that Byzantine neighbors of an agent can have together.

        None: the rule states what it bears as a number of neighbors (`tolerated`).
        """
        return None

    def rate(self, lambda_2: float) -> float:
        """Return the asymptotic factor of disagreement per round, given |lambda_2| of W."""
        return lambda_2

    def init(self, start: Vector) -> State:
        """Return the state of an agent with start parameters `start`, `(k,)`.

        A linear rule has none.
        """
        return ()

    def size(self, shared: int) -> int:
        """Return how many numbers a message has if agents share `shared` numbers."""
        return shared

    def prepare(self, turn: Turn, state: State) -> State:
        """Return the state after local training.

        It is called once per exchange, before `payload`.
        """
        return state

    def payload(self, turn: Turn, state: State, to: int) -> Vector:
        """Return the payload for neighbor `to`; by default `turn.own`.

        All neighbors get the same payload unless the rule `is_per_neighbor`.
        """
        return turn.own

    def mix(
        self, turn: Turn, received: Mapping[int, Vector], weights: Mapping[int, float], state: State
    ) -> tuple[Vector, State]:
        """Return the mixed vector sum_j w_j x_j, `(k,)`, and the next state.

        The sum runs over agents in order of their ids, the own vector included, in the vector's
        dtype, so the result does not depend on the order of arrival. Inputs are not modified.

        Args:
            turn: the agent's own vectors, mainly `turn.own`.
            received: payloads by sender; may have more senders than `weights`.
            weights: one row from `weights` or `effective`: every key except the agent's own is in
                `received`.
            state: the state that `prepare` returned.
        """
        return weighted_sum(turn.own, received, weights), state

    def answer(self, turn: Turn, received: Vector) -> Vector:
        """Return the own vector after an answer to a neighbor that sent `received`.

        It is called only if the rule `is_pairwise`; `turn.own` is the vector before.
        """
        raise NotImplementedError(f"{type(self).__name__} is not pairwise")

    def effective(self, weights: Weights, own_id: int, arrived: Mapping[int, float]) -> Weights:
        """Return the row for the payloads that arrived; `on_loss` distributes the remaining weight.

        Args:
            weights: the agent's row of W.
            own_id: the agent's id.
            arrived: sender -> factor in [0, 1]: 1 for a fresh payload, less for a stale one.
                Senders outside the row are ignored. If `on_loss` is last_known, the caller also
                lists the stand-in payloads.

        Returns:
            a row with sorted keys and the same sum as `weights`; `weights` itself if all payloads
                arrived with factor 1.
        """
        for j in weights:
            if j != own_id and arrived.get(j) != 1.0:
                break
        else:
            return weights
        kept = {
            j: w * (1.0 if j == own_id else arrived[j])
            for j, w in weights.items()
            if j == own_id or j in arrived
        }
        return _ON_LOSS[self.on_loss](weights, own_id, kept)

    def is_doubly_stochastic(self, graph: Graph) -> bool:
        """Return whether the columns of W also sum to 1 (up to 1e-12), which keeps the mean."""
        columns = [0.0] * graph.n
        for row in self.weights(graph):
            for j, weight in row.items():
                columns[j] += weight
        return all(abs(total - 1.0) <= 1e-12 for total in columns)


def matrix_misfit(rule: Mixing, rows: object, graph: Graph) -> str | None:
    """Return why `rows` is no mixing matrix of a rule on a graph, or None."""
    where = f"{type(rule).__name__}.weights"
    is_list = isinstance(rows, Sequence) and all(isinstance(row, Mapping) for row in rows)
    if not is_list or len(rows) != graph.n:  # type: ignore[arg-type]  # a list
        got = f"{len(rows)} rows" if isinstance(rows, Sequence) else described(rows)
        return f"{where}: expected a row for each of {graph.n} agents, got {got}"
    sums = np.zeros(graph.n)
    for i, row in enumerate(rows):  # type: ignore[arg-type,var-annotated]  # a list
        expected = sorted({i, *graph.predecessors[i]})
        if i not in row or not {*row} <= {*expected}:
            return f"{where}: row {i}: expected keys {expected}, got {[*row]}"
        for j, weight in row.items():
            sums[j if rule.is_per_neighbor else i] += weight
    worst = int(np.argmax(np.abs(sums - 1.0)))
    if not abs(sums[worst] - 1.0) <= _ROUNDING:
        what = "column" if rule.is_per_neighbor else "row"
        total = f"{where}: {what} {worst} sums to {sums[worst]:.6g}"
        return f"{total}; every {what} of a mixing matrix sums to 1"
    return None


def require_matrix(rule: Mixing, graph: Graph) -> None:
    """Raise an error if a rule of a user's own has no mixing matrix on a graph.

    Raises:
        TopologyError: with the first wrong row or column.
    """
    if is_of_package(type(rule)):
        return  # tests check the package's own
    if problem := matrix_misfit(rule, rule.weights(graph), graph):
        raise TopologyError(problem)


_LARGE = 2**16
"""Bytes of a vector from which memory for a product is used again."""


def weighted_sum(
    own: Vector, received: Mapping[int, Vector], weights: Mapping[int, float]
) -> Vector:
    """Return sum_j w_j x_j, a new vector.

    x_j is `received[j]`, or `own` for the one agent that is not in `received`.
    """
    scratch = np.empty_like(own) if own.nbytes > _LARGE else None
    mixed, owns = None, 0
    for j, weight in weights.items():
        vector = received.get(j)
        if vector is None:
            vector, owns = own, owns + 1
        if mixed is None:
            mixed = vector * weight
        elif scratch is None:
            mixed += vector * weight  # an operator is faster than its function
        else:
            mixed += np.multiply(vector, weight, out=scratch)
    assert owns == 1, "all weights but the agent's own belong to payloads"
    assert mixed is not None
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
    """Raise an error for a graph with a one-way edge.

    Raises:
        TopologyError: with the first such edge.
    """
    if graph.is_undirected:
        return
    for i, j in graph.edges:
        if i not in graph.successors[j]:
            raise TopologyError(
                f"{what} needs an undirected graph, but agent {graph.name(i)} sends to {graph.name(j)} and receives "
                "nothing from it: add the reverse edge, or use mixing 'push_sum', which keeps the mean on one-way edges"
            )
