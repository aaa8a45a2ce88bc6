"""LAG-PS: the coordinator asks an agent only if its gradient may have changed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import numpy as np
from pydantic import Field
from typing_extensions import override

from p2pfrl.consensus.participation.base import MOVES, Participation, Standing
from p2pfrl.core.needs import Need, Needs
from p2pfrl.core.parameters import Vector
from p2pfrl.core.rule import rule


@rule
class Lag(Participation):
    """Asks agent m if L_m^2 ||x_m - x_k||^2 > sum_d xi ||x_(k+1-d) - x_(k-d)||^2 / (lr^2 M^2).

    The sum is over d = 1..D. x_m is the model of m's last gradient, x_k is the current model, and M
    is the number of agents. Use it with payload "gradient", server optimizer "sgd" of the same lr,
    and aggregator "latest", which sums the last gradients of all agents. In the first round all
    agents are asked. In every round at least one agent is asked, the one furthest above (or least
    below) its bound; the paper allows none, but a coordinator that asks no agent would wait
    forever.

    Attributes:
        smoothness: L_m of every agent's objective, in order of id.
        lr: learning rate of the coordinator along the sum of the gradients.
        memory: D, the number of moves in the sum.
        xi: weight of each move.

    Reference: Chen, Giannakis, Sun, Yin, LAG: Lazily aggregated gradient for
    communication-efficient
        distributed learning, NeurIPS 2018, arXiv 1805.09965, rule PS.
    """

    needs: ClassVar[Needs] = (Need.ROUNDS, Need.LAST_PAYLOADS)

    smoothness: tuple[float, ...] = Field(min_length=1)
    lr: float = Field(gt=0)
    memory: int = Field(default=10, ge=1, le=MOVES)
    xi: float = Field(default=1.0, ge=0)

    @override
    def misfit(self, agents: int) -> str | None:
        given = len(self.smoothness)
        return (
            None
            if given == agents
            else f"smoothness: expected one number for each of {agents} agents, got {given}"
        )

    @override
    def choose(self, round: int, present: Sequence[int], standing: Standing) -> Sequence[int]:
        bound = self.xi * sum(standing.moves[: self.memory]) / (self.lr * len(self.smoothness)) ** 2
        ages = {i: self._age(i, standing) for i in present}
        stale = [i for i in present if ages[i] > bound]
        return stale or [max(present, key=lambda i: (ages[i], -i))]

    def _age(self, agent: int, standing: Standing) -> float:
        """Return the squared bound on the change of the agent's gradient.

        Inf if it has sent none.
        """
        trained: Vector | None = standing.trained.get(agent)
        if trained is None:
            return np.inf
        return self.smoothness[agent] ** 2 * float(np.square(trained - standing.model).sum())
