"""Participation of every agent by a coin of its own."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from pydantic import Field
from typing_extensions import override

from p2pfrl.consensus.participation.base import Participation, Standing
from p2pfrl.core.needs import Need, Needs
from p2pfrl.core.rng import Purpose, generator
from p2pfrl.core.rule import rule


@rule
class Poisson(Participation):
    """Every agent that is present, with `probability` q, independently of all others.

    In some rounds nobody takes part, and the next one begins at once. The number of participants is
    random, q n on average. It is the sampling for which `central_noise.sampled` is accounted. There
    the coordinator draws from the operating system between processes, and in a simulation from the
    seed of the run.

    Attributes:
        probability: q.

    Reference: Abadi, Chu, Goodfellow, McMahan, Mironov, Talwar, Zhang, Deep learning with
        differential privacy, CCS 2016, arXiv 1607.00133.
    """

    needs: ClassVar[Needs] = (Need.ROUNDS, Need.ONE_COORDINATOR)
    may_choose_nobody: ClassVar[bool] = True
    probability: float = Field(default=0.5, gt=0, le=1)

    @override
    def choose(self, round: int, present: Sequence[int], standing: Standing) -> Sequence[int]:
        """Return those whose coin of (seed, round) says so."""
        key = (standing.seed, Purpose.PARTICIPATION, round)
        coins = generator(*key).random(max(present, default=-1) + 1)
        return [agent for agent in present if coins[agent] < self.probability]

    @override
    def expected(self, agents: int) -> float:
        return self.probability * agents
