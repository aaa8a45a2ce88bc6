"""The contract of aggregators: how a coordinator makes one vector of those it received."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from typing_extensions import override

from p2pfrl.core.needs import Breaks, Composable, Need, Needs
from p2pfrl.core.parameters import Vector
from p2pfrl.exchange.scores import OF_RETURNS

Memory = Mapping[Any, Any]
"""What an aggregator remembers: vectors by agent, or by whatever number it likes."""


@dataclass(frozen=True, slots=True)
class Arrived:
    """One vector that arrived.

    Attributes:
        sender: whose.
        vector: `(k,)`; not to be modified.
        samples: environment steps behind it.
        score: what the scenario's rules rank senders by: a return or a loss (`Aggregator.score`),
            else 0.
    """

    sender: int
    vector: Vector
    samples: float
    score: float = 0.0


class Aggregator(Composable, ABC):
    """k vectors -> one.

    Attributes:
        goes_on: once it remembers something it is asked in every round, also when nothing was
            received.
    """

    goes_on: ClassVar[bool] = False

    @property
    @override
    def implied(self) -> Needs:
        """Returns, where the score is made of them."""
        return (Need.RETURNS,) if self.score in OF_RETURNS else ()

    @property
    @override
    def breaks(self) -> Breaks:
        """The plain mean, by every other rule."""
        return (Need.PLAIN_MEAN,)

    @property
    def score(self) -> str | None:
        """Name of the score that agents send along (exchange/scores.py); None: they send none."""
        return None

    def bind(self, lr: float) -> Aggregator:
        """Return the rule for a run whose learner takes steps of size `lr`."""
        return self

    def misfit(self, tensors: Mapping[str, tuple[int, ...]]) -> str | None:
        """Return why it cannot read what agents share, tensors of these names and shapes, in words; None: it can."""
        return None

    def init(self, model: Vector) -> Memory:
        """Return what is remembered before the first round; `model` `(k,)` is the coordinator's first."""
        return {}

    @abstractmethod
    def aggregate(
        self, received: Sequence[Arrived], model: Vector, state: Memory
    ) -> tuple[Vector, Memory]:
        """Return one vector `(k,)` of at least one, in ascending order of sender, and what is remembered.

        Args:
            received: what arrived; may be empty where it `goes_on`.
            model: the coordinator's model, `(k,)`.
            state: as `init` or the last `aggregate` returned it.
        """


def weighted_mean(received: Sequence[Arrived], weights: Sequence[float]) -> Vector:
    """Return sum_k w_k x_k, a new vector, summed in order."""
    mean = np.multiply(received[0].vector, weights[0])
    scratch = np.empty_like(mean)
    for arrived, weight in zip(received[1:], weights[1:], strict=True):
        mean += np.multiply(arrived.vector, weight, out=scratch)
    return mean
