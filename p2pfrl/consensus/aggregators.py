"""How a coordinator makes one vector of those it received."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Literal

import numpy as np

from p2pfrl.core.parameters import Vector
from p2pfrl.core.rule import rule


class Aggregator(ABC):
    """k vectors -> one."""

    @abstractmethod
    def aggregate(self, vectors: Sequence[Vector], samples: Sequence[float]) -> Vector:
        """Return one vector `(d,)` of at least one `(d,)`, in ascending order of sender.

        Args:
            vectors: what was received; not modified.
            samples: environment steps behind each.
        """


@rule
class Mean(Aggregator):
    """sum_k w_k x_k with sum w = 1. McMahan et al., AISTATS 2017, arXiv 1602.05629, Algorithm 1.

    Attributes:
        weights: uniform: 1/k each; samples: in proportion to the environment steps behind each.
    """

    weights: Literal["uniform", "samples"] = "uniform"

    def aggregate(self, vectors: Sequence[Vector], samples: Sequence[float]) -> Vector:
        """Return the weighted mean over those that answered, summed in order."""
        total = sum(samples)
        if self.weights == "uniform" or total <= 0.0:
            parts = [1.0 / len(vectors)] * len(vectors)
        else:
            parts = [s / total for s in samples]
        mean = np.multiply(vectors[0], parts[0])
        scratch = np.empty_like(mean)
        for vector, part in zip(vectors[1:], parts[1:], strict=True):
            mean += np.multiply(vector, part, out=scratch)
        return mean


RULES: dict[str, type[Aggregator]] = {"mean": Mean}
