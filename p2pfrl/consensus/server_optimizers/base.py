"""The contract of server optimizers: how a coordinator's model moves to the aggregate, x <- x + step(target - x)."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar

from pydantic import Field

from p2pfrl.core.parameters import Vector
from p2pfrl.core.rule import rule

State = tuple[Vector, ...]


class ServerOptimizer(ABC):
    """x <- x + step (target - x).

    Attributes:
        goes_to_target: it takes the target for a place, so it has no use for a gradient.
    """

    goes_to_target: ClassVar[bool] = False

    def init(self, model: Vector) -> State:
        """Return the state before the first step; `model` `(k,)` is the first."""
        return ()

    @abstractmethod
    def step(
        self, model: Vector, target: Vector, factor: float, state: State
    ) -> tuple[Vector, State]:
        """Return the next model, a new vector, and state. `factor` <= 1 is the weight of a stale target."""


@rule
class Replace(ServerOptimizer):
    """x <- x + s (target - x): the target itself where nothing is stale. FedAvg, McMahan et al., AISTATS 2017."""

    goes_to_target: ClassVar[bool] = True

    def step(
        self, model: Vector, target: Vector, factor: float, state: State
    ) -> tuple[Vector, State]:
        """Return target, or the point between."""
        return (target if factor == 1.0 else model + factor * (target - model)), state


@rule
class StalenessMix(ServerOptimizer):
    """x <- x + alpha s(tau) (target - x). FedAsync, Xie, Koyejo, Gupta, OPT 2020, arXiv 1903.03934, equation 3."""

    goes_to_target: ClassVar[bool] = True
    alpha: float = Field(default=0.6, gt=0, le=1)

    def step(
        self, model: Vector, target: Vector, factor: float, state: State
    ) -> tuple[Vector, State]:
        """Return the point alpha s of the way."""
        return model + self.alpha * factor * (target - model), state
