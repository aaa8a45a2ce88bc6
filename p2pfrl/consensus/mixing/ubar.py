"""UBAR: agents try out what their nearest neighbors sent, and mix with those that do as well."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import numpy as np
from pydantic import Field
from typing_extensions import override

from p2pfrl.consensus.aggregators.distances import norms
from p2pfrl.consensus.mixing.base import State
from p2pfrl.consensus.mixing.robust import RobustMixing, require_neighbors, stacked
from p2pfrl.core.graph import Graph
from p2pfrl.core.needs import Need, Needs
from p2pfrl.core.parameters import Vector
from p2pfrl.core.rule import rule
from p2pfrl.core.turn import Turn

_FRESH = 1_000_000
"""First index of the episodes: those of `[evaluation]` have smaller ones."""


@rule
class Ubar(RobustMixing):
    """x_i <- share x_i + (1 - share) (mean of the chosen neighbors).

    Of the neighbors of an agent all but b are candidates, the nearest ones. Those are chosen whose
    policy has at least the return of the agent's own policy on the same fresh episodes of the
    agent's own environment; if there is none, the best candidate. So an agent needs no honest
    majority, but b + 1 neighbors.

    The paper compares losses on a fresh batch. The episodes here are greedy and apart from
    training, like those of `[evaluation]`: they take no virtual time, and environment steps do not
    count them. A round has k - b + 1 times `episodes` of them for each agent.

    Attributes:
        on_loss: cannot be chosen: the vectors that arrived are tried out.
        byzantine: b, how many neighbors of any agent may be Byzantine.
        share: of its own vector that an agent keeps.
        episodes: with each candidate, rounded up to a multiple of evaluation.episodes.

    Reference: Guo, Zhang, Yu, Xie, Ma, Xiang, Liu, Byzantine-resilient decentralized stochastic
        gradient descent, IEEE TCSVT 32(6), 2022, arXiv 2002.08569.
    """

    tries_out: ClassVar[bool] = True
    needs: ClassVar[Needs] = (Need.RETURNS, Need.PARAMETERS, Need.CLEAR)

    byzantine: int = Field(default=1, ge=0)
    share: float = Field(default=0.5, ge=0, lt=1)
    episodes: int = Field(default=1, ge=1)

    @override
    def tolerated(self, neighbors: int) -> int | None:
        return max(0, neighbors - 1)

    @override
    def check(self, graph: Graph) -> None:
        """Raise an error for an agent that receives from fewer than b + 1."""
        super().check(graph)
        require_neighbors(graph, self.byzantine, self.byzantine + 1, "b + 1")

    @override
    def mix(
        self, turn: Turn, received: Mapping[int, Vector], weights: Mapping[int, float], state: State
    ) -> tuple[Vector, State]:
        others = [j for j in weights if j != turn.agent]
        if not others:
            return turn.own.copy(), state
        rows = stacked(turn, received, weights, others)
        wide = rows.astype(np.float64)
        nearest = np.argsort(norms(wide - turn.own), kind="stable")
        near = np.sort(nearest[: max(1, len(rows) - self.byzantine)])
        index = _FRESH + turn.round
        own, *returns = turn.memory.try_out([turn.own, *rows[near]], self.episodes, index)
        good = [position for position, value in zip(near, returns, strict=True) if value >= own]
        chosen = good or [near[int(np.argmax(returns))]]
        mean = wide[chosen].sum(axis=0) / len(chosen)
        mixed: Vector = self.share * turn.own + (1.0 - self.share) * mean
        return mixed.astype(turn.own.dtype, copy=False), state
