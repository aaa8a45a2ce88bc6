"""Participation by properties of agents: their samples, their scores, or in turn."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field
from typing_extensions import override

from p2pfrl.consensus.participation.base import Participation, Standing, share, too_many
from p2pfrl.core.rng import Purpose, generator
from p2pfrl.core.rule import rule
from p2pfrl.exchange.scores import UNKNOWN


@rule
class Uniform(Participation):
    """max(fraction x present, 1) of the agents present, with equal probability of every subset.

    Attributes:
        fraction: share of the agents present.

    Reference: McMahan et al., AISTATS 2017, arXiv 1602.05629.
    """

    fraction: float = Field(default=0.5, gt=0, le=1)

    def choose(self, round: int, present: Sequence[int], standing: Standing) -> Sequence[int]:
        """Return a random subset, drawn from (seed, round)."""
        drawn = generator(standing.seed, Purpose.PARTICIPATION, round).choice(
            len(present), size=share(self.fraction, len(present)), replace=False
        )
        return [present[i] for i in sorted(np.asarray(drawn).tolist())]

    @override
    def expected(self, agents: int) -> float:
        return float(share(self.fraction, agents))


@rule
class Weighted(Participation):
    """fraction x present draws with replacement, with probabilities p_k proportional to samples.

    This is scheme I of FedAvg. An agent that is drawn m times counts m times in the aggregate, so
    the plain mean (aggregator "mean" with uniform weights) is an unbiased estimate of sum_k p_k x_k
    over all agents. Samples are the environment steps behind an agent's last update. An agent that
    has sent no update counts as the mean of the others.

    Attributes:
        fraction: draws per agent that is present.

    Reference: Li, Huang, Yang, Wang, Zhang, On the convergence of FedAvg on non-IID data, ICLR
    2020,
        arXiv 1907.02189.
    """

    reads_samples: ClassVar[bool] = True

    fraction: float = Field(default=0.5, gt=0, le=1)

    def choose(self, round: int, present: Sequence[int], standing: Standing) -> Sequence[int]:
        """Return the draws of (seed, round); an agent that is drawn twice occurs twice."""
        drawn = generator(standing.seed, Purpose.PARTICIPATION, round).choice(
            len(present), size=share(self.fraction, len(present)), p=_by_samples(present, standing)
        )
        return [present[i] for i in sorted(drawn.tolist())]

    def expected(self, agents: int) -> float:
        """Return n (1 - (1 - 1/n)^m), the mean number of different agents in m draws.

        It holds for equal samples.
        """
        return agents * (1.0 - (1.0 - 1.0 / agents) ** share(self.fraction, agents))


@rule
class PowerOfChoice(Participation):
    """The fraction x present worst agents of `candidates` drawn by samples.

    Worst means highest loss, or lowest return. This is the variant rpow-d of the paper, which asks
    no agent beforehand: it uses the score of an agent's last update. Agents without a score come
    first. The choice is biased: it is faster in early rounds and moves the fixed point.

    Attributes:
        fraction: share of the agents present that are asked.
        candidates: number of agents drawn first, without replacement, with probability proportional
            to samples; by default twice as many as are asked.
        by: loss of the last local update, highest first; or its mean return, lowest first.

    Reference: Cho, Wang, Joshi, Towards understanding biased client selection in federated
    learning,
        AISTATS 2022, arXiv 2010.01243.
    """

    fraction: float = Field(default=0.25, gt=0, le=1)
    candidates: int | None = Field(default=None, ge=1)
    by: Literal["loss", "return"] = "loss"

    @property
    @override
    def score(self) -> str:
        return self.by

    @override
    def misfit(self, agents: int) -> str | None:
        return too_many(self.candidates, agents)

    def choose(self, round: int, present: Sequence[int], standing: Standing) -> Sequence[int]:
        """Return the worst of the candidates of (seed, round), sorted. The lower id breaks ties."""
        size = share(self.fraction, len(present))
        candidates = min(max(self.candidates or 2 * size, size), len(present))
        chance = _by_samples(present, standing)
        if np.count_nonzero(chance) < candidates:
            chance = np.full(len(present), 1.0 / len(present))
        drawn = generator(standing.seed, Purpose.PARTICIPATION, round).choice(
            len(present), size=candidates, replace=False, p=chance
        )
        sign = 1.0 if self.by == "loss" else -1.0

        def goodness(agent: int) -> tuple[float, int]:
            score = standing.scores.get(agent, UNKNOWN)
            return (-sign * score if score > UNKNOWN else -np.inf), agent

        worst = sorted((present[i] for i in drawn.tolist()), key=goodness)
        return sorted(worst[:size])

    @override
    def expected(self, agents: int) -> float:
        return float(share(self.fraction, agents))


@rule
class RoundRobin(Participation):
    """fraction x present agents in turn: round k continues after the last agent of round k - 1.

    All agents are asked equally often.

    Attributes:
        fraction: share of the agents present.
    """

    fraction: float = Field(default=0.5, gt=0, le=1)

    @override
    def choose(self, round: int, present: Sequence[int], standing: Standing) -> Sequence[int]:
        size = share(self.fraction, len(present))
        return sorted(present[(round * size + j) % len(present)] for j in range(size))

    @override
    def expected(self, agents: int) -> float:
        return float(share(self.fraction, agents))


def _by_samples(present: Sequence[int], standing: Standing) -> NDArray[np.float64]:
    """Return probabilities proportional to samples, or uniform ones if no samples are known."""
    known = [standing.samples[i] for i in present if i in standing.samples]
    mean = sum(known) / len(known) if known else 0.0
    if mean <= 0.0:
        return np.full(len(present), 1.0 / len(present))
    samples = np.array([standing.samples.get(i, mean) for i in present])
    return np.asarray(samples / samples.sum())
