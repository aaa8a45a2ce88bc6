"""Robust mixing: an agent mixes with neighbors of which some may send anything."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field
from typing_extensions import override

from p2pfrl.consensus.aggregators import ROBUST
from p2pfrl.consensus.aggregators.distances import coordinate_median, norms, sorted_rows
from p2pfrl.consensus.aggregators.robust import LARGEST, Place, Robust, Rows
from p2pfrl.consensus.mixing.base import Mixing, State, Weights
from p2pfrl.consensus.mixing.linear import Matrix, Uniform, check_symmetric
from p2pfrl.consensus.mixing.metropolis import Metropolis
from p2pfrl.core.errors import TopologyError
from p2pfrl.core.graph import Graph
from p2pfrl.core.needs import Needs
from p2pfrl.core.options import Rule
from p2pfrl.core.parameters import Vector
from p2pfrl.core.rule import rule
from p2pfrl.core.turn import Turn


@rule
class RobustMixing(Mixing):
    """What robust mixing rules share: an agent trusts itself, and of its neighbors all but f.

    No such rule keeps the mean over agents. A stale payload x_j that counts by a factor s < 1
    counts as x_i + s (x_j - x_i).

    Attributes:
        on_loss: cannot be chosen.
    """

    is_robust: ClassVar[bool] = True

    on_loss: Literal["renormalize"] = "renormalize"

    @override
    def weights(self, graph: Graph) -> tuple[Weights, ...]:
        return Uniform().weights(graph)

    @override
    def is_doubly_stochastic(self, graph: Graph) -> bool:
        return False

    @override
    def tolerated(self, neighbors: int) -> int | None:
        return neighbors // 2


@rule
class Neighborhood(RobustMixing):
    """x_i <- A({x_j: j in N_i or j = i}) with a robust aggregator A of a coordinator.

    The agent's own vector takes part, and rules that begin at a center or trust a vector use it:
    `centered_clipping` and `norm_clipping` clip around x_i, `cosine_trust` trusts the agent's own
    change. Convergence is proven for coordinators. On a sparse graph every neighborhood needs its
    own honest majority, and where it has one, agents of distant neighborhoods may still disagree.

    Attributes:
        on_loss: cannot be chosen: A takes the vectors that arrived.
        aggregator: A, with its options. Its `byzantine` is the number of Byzantine agents in any
            neighborhood, and the agent with the fewest neighbors must bear it.

    Reference: Wu, Chen, Ling, Byzantine-resilient decentralized stochastic optimization with robust
        aggregation rules, IEEE TSP 71, 2023, arXiv 2206.04568, on what A must fulfill there.
    """

    aggregator: Annotated[Robust, Rule("robust aggregators", lambda: ROBUST, "median")] = Field(
        default_factory=lambda: ROBUST["median"]()
    )

    @property
    @override
    def needs(self) -> Needs:
        """What A needs of neighbors."""
        return self.aggregator.needs_of_neighbors

    @override
    def tolerated(self, neighbors: int) -> int | None:
        return self.aggregator.tolerated(neighbors + 1)

    @override
    def check(self, graph: Graph) -> None:
        """Raise an error if a neighborhood has too few vectors for the declared f."""
        super().check(graph)
        agent, count = fewest(graph)
        if short := self.aggregator.shortage(count + 1):
            raise TopologyError(
                f"mixing.aggregator.byzantine: agent {graph.name(agent)}, which hears {count}, {short}"
            )

    @override
    def mix(
        self, turn: Turn, received: Mapping[int, Vector], weights: Mapping[int, float], state: State
    ) -> tuple[Vector, State]:
        rows = stacked(turn, received, weights, weights)
        return self.aggregator.combine(rows, Place(own=turn.own, start=turn.start)), state


@rule
class Bridge(RobustMixing):
    """x_i <- the mean of x_i and of its neighbors' values without the b smallest and b largest.

    Every coordinate is screened apart. The own value always counts, so the agent needs 2 b + 1
    neighbors. With `screen` = "median" it is the median of the own and all neighbors' values.

    Difference to the paper: with exchange.order = "adapt_then_combine" screening comes after the
    local step; with "combine_while_adapting" it comes before, as there.

    Attributes:
        on_loss: cannot be chosen: the vectors that arrived are screened. If they are fewer than 2 b
            + 1, b is the largest number that they allow.
        byzantine: b, how many neighbors of any agent may be Byzantine.
        screen: trimmed_mean (BRIDGE-T) or median (BRIDGE-M).

    Reference: Fang, Yang, Bajwa, BRIDGE: Byzantine-resilient decentralized gradient descent, IEEE
        TSIPN 8, 2022, arXiv 1908.08098.
    """

    byzantine: int = Field(default=1, ge=0)
    screen: Literal["trimmed_mean", "median"] = "trimmed_mean"

    @override
    def tolerated(self, neighbors: int) -> int | None:
        return max(0, (neighbors - 1) // 2)

    @override
    def check(self, graph: Graph) -> None:
        """Raise an error for an agent that receives from fewer than 2 b + 1."""
        super().check(graph)
        require_neighbors(graph, self.byzantine, 2 * self.byzantine + 1, "2 b + 1")

    @override
    def mix(
        self, turn: Turn, received: Mapping[int, Vector], weights: Mapping[int, float], state: State
    ) -> tuple[Vector, State]:
        others = [j for j in weights if j != turn.agent]
        if not others:
            return turn.own.copy(), state
        rows = stacked(turn, received, weights, others)
        if self.screen == "median":
            middle: Vector = coordinate_median(np.concatenate([rows, turn.own[None]]))
            return middle, state
        b = min(self.byzantine, (len(rows) - 1) // 2)
        kept = sorted_rows(rows)[b : len(rows) - b] if b else rows
        mixed: Vector = turn.own.copy()
        for row in kept:
            mixed += row
        mixed /= mixed.dtype.type(1 + len(kept))
        return mixed, state


@rule
class ClippedGossip(RobustMixing):
    """x_i <- sum_j w_ij (x_i + clip(x_j - x_i, tau_i)), clip(y, r) = y min(1, r / ||y||).

    A Byzantine neighbor j moves an agent by at most w_ij tau_i. The paper's tau_i = sqrt(sum_j w_ij
    ||x_i - x_j||^2 / delta_i), the sum over honest j, needs to know the honest ones: `attackers`
    names the others, in a simulation. Without it tau_i is the (b + 1)-th largest distance of a
    neighbor: 0 where b + 1 neighbors are Byzantine and far away. Consensus is proven for delta_max
    = O(gap^2) with delta_max the largest weight of Byzantine neighbors of an agent; `validate`
    prints both. On a graph with a bottleneck, such as a dumbbell, a Byzantine agent on the bridge
    keeps the sides apart.

    Mixing keeps the mean if W is symmetric, all agents have the same tau, and nobody lies.

    Attributes:
        on_loss: cannot be chosen: a missing vector moves nothing.
        matrix: the rule that gives W; it must be symmetric on this graph.
        byzantine: b, how many neighbors of any agent may be Byzantine.
        radius: one tau for all agents and rounds.
        attackers: ids of the Byzantine agents, for the tau of the paper; they are known in a
            simulation alone.

    Reference: He, Karimireddy, Jaggi, Byzantine-robust decentralized learning via ClippedGossip,
        2022, arXiv 2202.01545.
    """

    on_loss: Literal["fold"] = "fold"  # type: ignore[assignment]  # one value of the base's type
    matrix: Matrix = Field(default_factory=Metropolis)
    byzantine: int = Field(default=1, ge=0)
    radius: float | None = Field(default=None, gt=0)
    attackers: tuple[Annotated[int, Field(ge=0)], ...] | None = None

    def __post_init__(self) -> None:
        if self.radius is not None and self.attackers is not None:
            raise ValueError("radius and attackers are two ways to choose tau: give one of them")

    @property
    @override
    def idle(self) -> tuple[str, ...]:
        """The number of Byzantine neighbors, where tau does not depend on it."""
        return () if self.radius is None and self.attackers is None else ("byzantine",)

    @override
    def weights(self, graph: Graph) -> tuple[Weights, ...]:
        return self.matrix.weights(graph)

    @override
    def is_doubly_stochastic(self, graph: Graph) -> bool:
        return self.radius is not None and self.matrix.is_doubly_stochastic(graph)

    @override
    def tolerated(self, neighbors: int) -> int | None:
        return None  # it depends on W and its gap, not on a number

    @override
    def delta_max(self, graph: Graph) -> float:
        found = 0.0
        for i, row in enumerate(self.weights(graph)):
            if self.attackers is not None:
                if i not in self.attackers:
                    found = max(found, sum(w for j, w in row.items() if j in self.attackers))
                continue
            others = sorted((w for j, w in row.items() if j != i), reverse=True)
            found = max(found, sum(others[: self.byzantine]))
        return found

    @override
    def check(self, graph: Graph) -> None:
        """Raise an error for a W that is not symmetric, and for agents that could never move."""
        check_symmetric(self.matrix, graph, "mixing 'clipped_gossip'")
        agent, count = fewest(graph)
        if self.radius is None and self.attackers is None and 0 < count <= self.byzantine:
            raise TopologyError(
                f"mixing.byzantine: needs at least b + 1 = {self.byzantine + 1} neighbors for byzantine = "
                f"{self.byzantine}, and agent {graph.name(agent)} has {count}: it would trust none of them; use a "
                "denser topology, or give mixing.radius"
            )
        if (last := max(self.attackers or (0,))) >= graph.n:
            raise TopologyError(f"mixing.attackers: expected agents below {graph.n}, got {last}")

    @override
    def mix(
        self, turn: Turn, received: Mapping[int, Vector], weights: Mapping[int, float], state: State
    ) -> tuple[Vector, State]:
        others = [j for j in weights if j != turn.agent]
        if not others:
            return turn.own.copy(), state
        own = np.clip(turn.own.astype(np.float64, copy=False), -LARGEST, LARGEST)
        rows = np.array([received[j] for j in others], dtype=np.float64)
        moves = np.clip(rows, -LARGEST, LARGEST) - own
        lengths = norms(moves)
        share = np.array([weights[j] for j in others])
        tau = self.tau(others, lengths, share)
        shorter = np.where(lengths > tau, tau / np.where(lengths > 0.0, lengths, 1.0), 1.0)
        mixed = own.copy()
        for move, factor in zip(moves, share * shorter, strict=True):
            mixed += factor * move
        out: Vector = mixed.astype(turn.own.dtype, copy=False)
        return out, state

    def tau(
        self, others: list[int], lengths: NDArray[np.float64], share: NDArray[np.float64]
    ) -> float:
        """Return tau_i, given neighbors, their distances and their weights."""
        if self.radius is not None:
            return self.radius
        if self.attackers is None:
            kept = np.sort(lengths)[: max(0, len(lengths) - self.byzantine)]
            return float(kept[-1]) if len(kept) else 0.0
        lies = np.array([j in self.attackers for j in others])
        delta = float(share[lies].sum())
        if delta == 0.0:
            return float("inf")
        return float(np.sqrt((share * np.square(lengths))[~lies].sum() / delta))


def fewest(graph: Graph) -> tuple[int, int]:
    """Return the agent that receives from the fewest others, and from how many it does."""
    return min(enumerate(map(len, graph.predecessors)), key=lambda pair: (pair[1], pair[0]))


def require_neighbors(graph: Graph, byzantine: int, needed: int, formula: str) -> None:
    """Raise an error if an agent receives from fewer than `needed` neighbors, a `formula` of b."""
    agent, count = fewest(graph)
    if count < needed:
        raise TopologyError(
            f"mixing.byzantine: needs at least {formula} = {needed} neighbors for byzantine = {byzantine}, "
            f"and agent {graph.name(agent)} receives from {count}: use a denser topology"
        )


def stacked(
    turn: Turn,
    received: Mapping[int, Vector],
    weights: Mapping[int, float],
    agents: Mapping[int, float] | list[int],
) -> Rows:
    """Return the vectors of `agents` in order, `(k, d)`; those that are stale, nearer to the own.

    Weights are equal unless payloads are stale, so a weight over the own one is the factor of a
    stale payload.
    """
    full = weights[turn.agent]
    rows = []
    for j in agents:
        vector = received.get(j, turn.own)
        factor = weights[j] / full
        rows.append(vector if factor == 1.0 else turn.own + factor * (vector - turn.own))
    return np.array(rows)
