"""The contract of aggregators: how a coordinator makes one vector of those it received."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np

from p2pfrl.core.parameters import Vector
from p2pfrl.core.rule import rule

Memory = Mapping[int, Vector]
"""What an aggregator remembers: vectors by agent, or by whatever number it likes."""


@dataclass(frozen=True, slots=True)
class Arrived:
    """One vector that arrived.

    Attributes:
        sender: whose.
        vector: `(k,)`; not to be modified.
        samples: environment steps behind it.
        score: what the scenario's rules rank senders by: a return or a loss (`Aggregator.score`), else 0.
    """

    sender: int
    vector: Vector
    samples: float
    score: float = 0.0


class Aggregator(ABC):
    """k vectors -> one.

    Attributes:
        payloads: the payloads it can read; None: any.
    """

    payloads: ClassVar[tuple[str, ...] | None] = None

    @property
    def score(self) -> str | None:
        """What agents must tell of themselves (exchange/scores.py); None: nothing."""
        return None

    def init(self, model: Vector) -> Memory:
        """Return what is remembered before the first round; `model` `(k,)` is the coordinator's first."""
        return {}

    @abstractmethod
    def aggregate(self, received: Sequence[Arrived], model: Vector, state: Memory) -> tuple[Vector, Memory]:
        """Return one vector `(k,)` of at least one, in ascending order of sender, and what is remembered.

        Args:
            received: what arrived.
            model: the coordinator's model, `(k,)`.
            state: as `init` or the last `aggregate` returned it.
        """


@rule
class Mean(Aggregator):
    """sum_k w_k x_k with sum w = 1. McMahan et al., AISTATS 2017, arXiv 1602.05629, Algorithm 1.

    Attributes:
        weights: uniform: 1/k each; samples: in proportion to the environment steps behind each.
    """

    weights: Literal["uniform", "samples"] = "uniform"

    def aggregate(self, received: Sequence[Arrived], model: Vector, state: Memory) -> tuple[Vector, Memory]:
        """Return the weighted mean over those that answered, summed in order."""
        total = sum(arrived.samples for arrived in received)
        if self.weights == "uniform" or total <= 0.0:
            parts = [1.0 / len(received)] * len(received)
        else:
            parts = [arrived.samples / total for arrived in received]
        return weighted_mean(received, parts), state


def weighted_mean(received: Sequence[Arrived], weights: Sequence[float]) -> Vector:
    """Return sum_k w_k x_k, a new vector, summed in order."""
    mean = np.multiply(received[0].vector, weights[0])
    scratch = np.empty_like(mean)
    for arrived, weight in zip(received[1:], weights[1:], strict=True):
        mean += np.multiply(arrived.vector, weight, out=scratch)
    return mean
