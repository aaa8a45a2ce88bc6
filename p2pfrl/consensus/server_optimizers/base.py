"""Contract of server optimizers: a coordinator's model moves to the aggregate by a step."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import ClassVar

from typing_extensions import override

from p2pfrl.core.needs import Breaks, Composable, Need
from p2pfrl.core.own_episodes import OwnEpisodes
from p2pfrl.core.parameters import Vector
from p2pfrl.core.rule import rule

State = tuple[Vector, ...]


class ServerOptimizer(Composable, ABC):
    """x <- x + step (target - x).

    Attributes:
        plays: whether it needs episodes of the coordinator's own, in `with_episodes`.
    """

    plays: ClassVar[bool] = False

    @property
    @override
    def breaks(self) -> Breaks:
        """The target itself, because the model only moves in its direction."""
        return (Need.TARGET,)

    def init(self, model: Vector) -> State:
        """Return the state before the first step; `model` `(k,)` is the first model."""
        return ()

    def with_episodes(self, own: Callable[[int], OwnEpisodes]) -> ServerOptimizer:
        """Return the rule with what plays so many episodes at a time. Only if it `plays`."""
        return self

    @abstractmethod
    def step(
        self, model: Vector, target: Vector, factor: float, state: State
    ) -> tuple[Vector, State]:
        """Return the next model, a new vector, and the next state.

        `factor` <= 1 is the weight of a stale target.
        """


@rule
class Replace(ServerOptimizer):
    """FedAvg: x <- x + s (target - x), the target itself if it is not stale.

    Reference: McMahan et al., AISTATS 2017, arXiv 1602.05629.
    """

    breaks: ClassVar[Breaks] = (Need.STEPS,)

    @override
    def step(
        self, model: Vector, target: Vector, factor: float, state: State
    ) -> tuple[Vector, State]:
        return (target if factor == 1.0 else model + factor * (target - model)), state
