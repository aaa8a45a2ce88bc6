"""Weighted mean of the payloads, and its weights."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from typing_extensions import override

from p2pfrl.consensus.aggregators.base import Aggregator, Arrived, Memory, weighted_mean
from p2pfrl.core.needs import Breaks, Need
from p2pfrl.core.parameters import Vector
from p2pfrl.core.resources import CapacityName
from p2pfrl.core.rule import rule
from p2pfrl.exchange.scores import UNKNOWN

Weights = NDArray[np.float64]
_FLOOR = 1e-3


@rule
class Mean(Aggregator):
    """sum_k w_k x_k with sum w = 1 over the agents that answered.

    An agent without a return or a variance (it finished no episode, or only one) has the mean
    weight of the others.

    Attributes:
        weights: uniform: 1/k each; samples: proportional to environment steps (FedAvg); return:
            proportional to the mean return, negative ones counted as zero; rank: proportional to
            the rank of the mean return, 1 for the lowest; inverse_variance: proportional to 1 /
            variance of the returns, with a lower bound of a thousandth of the mean variance; speed,
            bandwidth: proportional to what the scenario gives the agent.

    Reference: McMahan et al., AISTATS 2017, arXiv 1602.05629.
    """

    of_several: ClassVar[tuple[str, ...]] = ("weights",)
    weights: Literal[
        "uniform", "samples", "return", "rank", "inverse_variance", "speed", "bandwidth"
    ] = "uniform"

    @property
    @override
    def breaks(self) -> Breaks:
        """The plain mean, if weights differ."""
        return () if self.weights == "uniform" else (Need.PLAIN_MEAN.of("weights"),)

    @property
    def score(self) -> str | None:
        """Returns, if the weights use them."""
        return _SCORES.get(self.weights)

    @property
    @override
    def is_sum(self) -> bool:
        return self.weights in ("uniform", "samples")

    @property
    @override
    def capacity(self) -> CapacityName | None:
        return self.weights if self.weights in ("speed", "bandwidth") else None

    @override
    def aggregate(
        self, received: Sequence[Arrived], model: Vector, state: Memory
    ) -> tuple[Vector, Memory]:
        weights = _WEIGHTS[self.weights](received)
        total = float(weights.sum())
        if total <= 0.0:
            weights, total = np.ones(len(received)), float(len(received))
        return weighted_mean(received, [float(weight / total) for weight in weights]), state


def _uniform(received: Sequence[Arrived]) -> Weights:
    return np.ones(len(received))


def _samples(received: Sequence[Arrived]) -> Weights:
    return np.array([arrived.samples for arrived in received])


def _capacities(received: Sequence[Arrived]) -> Weights:
    return np.array([arrived.capacity for arrived in received])


def _among_known(received: Sequence[Arrived], weigh: Callable[[Weights], Weights]) -> Weights:
    """Return the weights of the known scores, and the mean weight for unknown ones."""
    scores = np.array([arrived.score for arrived in received])
    known = scores > UNKNOWN
    if not known.any():
        return np.ones(len(received))
    weights = weigh(scores[known])
    out = np.full(len(received), weights.mean())
    out[known] = weights
    return out


def _by_return(returns: Weights) -> Weights:
    highest = returns.max()
    return np.maximum(returns / highest, 0.0) if highest > 0.0 else np.zeros_like(returns)


def _by_rank(returns: Weights) -> Weights:
    """Return ranks from 1 for the lowest. Equal returns share the mean of their ranks."""
    _, position, counts = np.unique(returns, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    return np.asarray((last - (counts - 1) / 2.0)[position])


def _by_variance(variances: Weights) -> Weights:
    highest = variances.max()
    if highest <= 0.0:
        return np.ones_like(variances)
    shares = np.maximum(variances / highest, 0.0)
    return np.asarray(1.0 / np.maximum(shares, _FLOOR * shares.mean()))


_WEIGHTS: dict[str, Callable[[Sequence[Arrived]], Weights]] = {
    "uniform": _uniform,
    "samples": _samples,
    "return": lambda received: _among_known(received, _by_return),
    "rank": lambda received: _among_known(received, _by_rank),
    "inverse_variance": lambda received: _among_known(received, _by_variance),
    "speed": _capacities,
    "bandwidth": _capacities,
}
_SCORES = {"return": "return", "rank": "return", "inverse_variance": "variance"}
