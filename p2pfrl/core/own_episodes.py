"""Episodes that a coordinator plays itself: what learners offer and server optimizers use."""

from __future__ import annotations

from abc import ABC, abstractmethod

import numpy as np

from p2pfrl.core.parameters import Vector


class OwnEpisodes(ABC):
    """An environment and a policy network of the coordinator's own."""

    @abstractmethod
    def gradients(self, model: Vector, before: Vector, number: int) -> tuple[Vector, Vector]:
        """Return gradients of the loss at two points, on the same new episodes, `(k,)` each.

        The policy of `model` plays them. At `before` an episode counts by the ratio of its
        probabilities there and at `model`, at most 10.

        Args:
            model: shared parameters `(k,)`.
            before: shared parameters `(k,)`.
            number: of the batch of episodes; the same number gives the same random numbers.
        """

    @abstractmethod
    def generator(self, number: int) -> np.random.Generator:
        """Return random numbers for the step that begins with this batch of episodes."""
