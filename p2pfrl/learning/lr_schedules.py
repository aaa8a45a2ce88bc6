"""Learning-rate schedules: the factor of `learner.lr` in an agent's update number k = 0, 1, ...

`RULES` maps the names of scenario files to classes.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from pydantic import Field
from typing_extensions import override

from p2pfrl.core.members import Members
from p2pfrl.core.rule import rule


class LRSchedule(ABC):
    """The factor of the learning rate in an agent's update number k.

    k counts the agent's own updates, whatever others do: with agents of unlike speed their learning
    rates differ. It is not the number of a round.
    """

    @abstractmethod
    def factor(self, k: int) -> float:
        """Return the factor, at least 0."""


@rule
class Constant(LRSchedule):
    """1."""

    @override
    def factor(self, k: int) -> float:
        return 1.0


@rule
class Linear(LRSchedule):
    """1 + (end - 1) min(k / updates, 1).

    >>> [round(Linear(updates=10, end=0.2).factor(k), 9) for k in (0, 5, 10, 99)]
    [1.0, 0.6, 0.2, 0.2]

    Attributes:
        updates: of the agent until the factor is `end`.
        end: the factor from then on.
    """

    updates: int = Field(ge=1)
    end: float = Field(default=0.0, ge=0)

    @override
    def factor(self, k: int) -> float:
        return 1.0 + (self.end - 1.0) * min(k / self.updates, 1.0)


@rule
class Cosine(LRSchedule):
    """end + (1 - end) (1 + cos(pi min(k / updates, 1))) / 2.

    Loshchilov, Hutter, SGDR: stochastic gradient descent with warm restarts, ICLR 2017, arXiv
    1608.03983, equation 5, without restarts.

    >>> [round(Cosine(updates=10, end=0.2).factor(k), 3) for k in (0, 5, 10, 99)]
    [1.0, 0.6, 0.2, 0.2]

    Attributes:
        updates: of the agent until the factor is `end`.
        end: the factor from then on.
    """

    updates: int = Field(ge=1)
    end: float = Field(default=0.0, ge=0)

    @override
    def factor(self, k: int) -> float:
        turned = math.cos(math.pi * min(k / self.updates, 1.0))
        return self.end + (1.0 - self.end) * 0.5 * (1.0 + turned)


RULES: Members[LRSchedule] = Members(
    __name__, {"constant": "Constant", "linear": "Linear", "cosine": "Cosine"}
)


def factors(schedule: LRSchedule, index: Sequence[int]) -> NDArray[np.float64] | None:
    """Return the factors `(b,)` of agents that have completed `index` updates; None: all are 1.

    Without factors optimizers take the same steps, to the last bit, as without a schedule.
    """
    if isinstance(schedule, Constant):
        return None
    return np.array([schedule.factor(int(k)) for k in index])
