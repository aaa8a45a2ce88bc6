"""Policy networks that imitate others: what learners offer and aggregators use."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence

from p2pfrl.core.parameters import Vector


class Imitation(ABC):
    """The policy networks of a run, of which one can be fitted to a mixture of others.

    Attributes:
        size: numbers of the parameters of a network.
    """

    size: int

    @abstractmethod
    def prepare(self, states: int) -> None:
        """Find public states, that many where the environment has no tables.

        This comes once, before any agent trains.
        """

    @abstractmethod
    def fit(
        self,
        vectors: Sequence[Vector],
        shares: Sequence[float],
        *,
        states: int,
        steps: int,
        lr: float,
    ) -> Vector:
        """Return parameters `(size,)` whose policy is near the mixture of policies.

        Args:
            vectors: parameters `(size,)` of every policy.
            shares: of the policies in the mixture; their sum is 1.
            states: as `prepare` got it.
            steps: that are taken, from the mean of the parameters.
            lr: of the steps.
        """
