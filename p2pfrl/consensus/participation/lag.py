"""LAG-PS: the coordinator asks an agent only when its gradient can have changed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import numpy as np
from pydantic import Field

from p2pfrl.consensus.participation.base import MOVES, Participation, Standing
from p2pfrl.core.needs import Need, Needs
from p2pfrl.core.parameters import Vector
from p2pfrl.core.rule import rule


@rule
class Lag(Participation):
    """Asks agent m when L_m^2 ||x_m - x_k||^2 > (1 / (lr^2 M^2)) sum_(d=1..D) xi ||x_(k+1-d) - x_(k-d)||^2.

    x_m is the model that m's last gradient was computed at, x_k the model now, M the number of
    agents. Chen, Giannakis, Sun, Yin, LAG: Lazily aggregated gradient for communication-efficient
    distributed learning, NeurIPS 2018, arXiv 1805.09965, rule PS. It goes with payload "gradient",
    server optimizer "sgd" of the same lr and an aggregator that sums what every agent sent last
    ("latest"). Everyone is asked at first. Here at least one agent is asked in every round, the one
    furthest over (or least under) its bound: a coordinator that asked nobody would wait for
    nothing.

    Attributes:
        smoothness: L_m of every agent's objective, in order of id.
        lr: step size of the coordinator along the sum of the gradients.
        memory: D, moves that are looked back at.
        xi: weight of each.
    """

    needs: ClassVar[Needs] = (Need.ROUNDS, Need.LAST_PAYLOADS)

    smoothness: tuple[float, ...] = Field(min_length=1)
    lr: float = Field(gt=0)
    memory: int = Field(default=10, ge=1, le=MOVES)
    xi: float = Field(default=1.0, ge=0)

    def misfit(self, agents: int) -> str | None:
        """Return what is wrong with a list of another length."""
        given = len(self.smoothness)
        return (
            None
            if given == agents
            else f"smoothness: expected one number for each of {agents} agents, got {given}"
        )

    def choose(self, round: int, present: Sequence[int], standing: Standing) -> Sequence[int]:
        """Return those whose model is too old."""
        bound = self.xi * sum(standing.moves[: self.memory]) / (self.lr * len(self.smoothness)) ** 2
        ages = {i: self._age(i, standing) for i in present}
        stale = [i for i in present if ages[i] > bound]
        return stale or [max(present, key=lambda i: (ages[i], -i))]

    def _age(self, agent: int, standing: Standing) -> float:
        """Return how far the agent's gradient may be off, squared; no bound where it has sent none."""
        trained: Vector | None = standing.trained.get(agent)
        if trained is None:
            return np.inf
        return self.smoothness[agent] ** 2 * float(np.square(trained - standing.model).sum())
