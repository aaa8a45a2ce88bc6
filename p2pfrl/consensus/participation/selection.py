"""Participation that looks at agents before it chooses: by their samples, by their scores, or in turn."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from p2pfrl.consensus.participation.base import Participation, Standing, share
from p2pfrl.core.rng import Purpose, generator
from p2pfrl.core.rule import rule
from p2pfrl.exchange.scores import UNKNOWN


@rule
class Weighted(Participation):
    """fraction x present draws with replacement, probability p_k proportional to samples: scheme I of FedAvg.

    Li, Huang, Yang, Wang, Zhang, On the convergence of FedAvg on non-IID data, ICLR 2020, arXiv
    1907.02189. An agent that is drawn m times counts m times in the aggregate, so that the plain
    mean (aggregator "mean" with uniform weights) is an unbiased estimate of sum_k p_k x_k over all
    agents. Samples are the environment steps behind an agent's last update; one that has not sent
    any yet counts like the mean of the others.

    Attributes:
        fraction: draws per agent that is present.
    """

    fraction: float = Field(default=0.5, gt=0, le=1)

    def choose(self, round: int, present: Sequence[int], standing: Standing) -> Sequence[int]:
        """Return the draws of (seed, round), those that came twice twice."""
        drawn = generator(standing.seed, Purpose.PARTICIPATION, round).choice(
            len(present), size=share(self.fraction, len(present)), p=_by_samples(present, standing)
        )
        return [present[i] for i in sorted(drawn.tolist())]

    def expected(self, agents: int) -> float:
        """Return n (1 - (1 - 1/n)^m): how many different ones m draws give where samples are equal."""
        return agents * (1.0 - (1.0 - 1.0 / agents) ** share(self.fraction, agents))


@rule
class PowerOfChoice(Participation):
    """Of `candidates` that are drawn by samples, fraction x present that did worst: highest loss, or lowest return.

    Cho, Wang, Joshi, Towards understanding biased client selection in federated learning, AISTATS
    2022, arXiv 2010.01243, in the variant that asks nobody beforehand (rpow-d): what counts is
    the score of an agent's last update. Agents without one come first. A biased choice: it speeds
    up early rounds and moves the fixed point.

    Attributes:
        fraction: of those present that are asked.
        candidates: how many are drawn first, without replacement, with probability proportional to
            samples; twice as many as are asked when not given.
        by: loss of the last local update, highest first; or its mean return, lowest first.
    """

    fraction: float = Field(default=0.25, gt=0, le=1)
    candidates: int | None = Field(default=None, ge=1)
    by: Literal["loss", "return"] = "loss"

    @property
    def score(self) -> str:
        """The loss or the return."""
        return self.by

    def choose(self, round: int, present: Sequence[int], standing: Standing) -> Sequence[int]:
        """Return the candidates of (seed, round) that did worst; ids decide between equals."""
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

    def expected(self, agents: int) -> float:
        """Return how many are asked."""
        return float(share(self.fraction, agents))


@rule
class RoundRobin(Participation):
    """fraction x present in turn: in round k those after the last of round k - 1, so that all are asked equally often.

    Attributes:
        fraction: of those present.
    """

    fraction: float = Field(default=0.5, gt=0, le=1)

    def choose(self, round: int, present: Sequence[int], standing: Standing) -> Sequence[int]:
        """Return the next ones."""
        size = share(self.fraction, len(present))
        return sorted(present[(round * size + j) % len(present)] for j in range(size))

    def expected(self, agents: int) -> float:
        """Return how many are asked."""
        return float(share(self.fraction, agents))


def _by_samples(present: Sequence[int], standing: Standing) -> NDArray[np.float64]:
    """Return probabilities proportional to samples; uniform where none are known, or none are above zero."""
    known = [standing.samples[i] for i in present if i in standing.samples]
    mean = sum(known) / len(known) if known else 0.0
    if mean <= 0.0:
        return np.full(len(present), 1.0 / len(present))
    samples = np.array([standing.samples.get(i, mean) for i in present])
    return np.asarray(samples / samples.sum())
