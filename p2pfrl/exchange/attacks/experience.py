"""Attacks on what Byzantine agents experience; they follow all other rules.

The returns in a record are what the environment gave.
"""

from __future__ import annotations

from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from p2pfrl.core.rule import rule
from p2pfrl.exchange.attacks.base import ExperienceAttack


@rule
class RandomAction(ExperienceAttack):
    """Act at random, and learn as if the policy's own actions had been taken (blind).

    Actions are uniform over those that are allowed, or within the bounds of a continuous action.

    Reference: Fan, Ma, Dai, Jing, Tan, Low, Fault-tolerant federated reinforcement learning with
        theoretical guarantee, NeurIPS 2021, arXiv 2110.14074.
    """

    is_random: ClassVar[bool] = True


@rule
class RewardFlip(ExperienceAttack):
    """Learn from -c r in place of r (blind).

    Attributes:
        scale: c.
    """

    scale: float = 1.0

    def rewards(
        self, reward: NDArray[np.float64], uniform: NDArray[np.float64]
    ) -> NDArray[np.float64]:
        """Return -c r."""
        return -self.scale * reward


@rule
class RewardShuffle(ExperienceAttack):
    """Learn from rewards that are permuted at every step, among the agent's instances (blind).

    It needs at least two instances of the environment. Where all of them give the same reward, it
    changes nothing.
    """

    instances: ClassVar[int] = 2

    def rewards(
        self, reward: NDArray[np.float64], uniform: NDArray[np.float64]
    ) -> NDArray[np.float64]:
        """Return r in the order of the uniform numbers."""
        return np.take_along_axis(reward, np.argsort(uniform, axis=1, kind="stable"), axis=1)
