"""Mean of those updates that are preferred among the ones that arrived."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, Literal

from pydantic import Field
from typing_extensions import override

from p2pfrl.consensus.aggregators.base import Aggregator, Arrived, Memory
from p2pfrl.consensus.aggregators.mean import Mean
from p2pfrl.consensus.participation.base import share
from p2pfrl.core.needs import Need, Needs
from p2pfrl.core.parameters import Vector
from p2pfrl.core.rule import rule
from p2pfrl.exchange.scores import UNKNOWN


@rule
class Preferred(Aggregator):
    """The mean of max(fraction k, 1) of the k updates that arrived: those that rank first.

    All agents train and send, and the coordinator chooses afterwards, by the scores in the
    messages; participation "power_of_choice" chooses before. Updates without a score come last.
    The lower id breaks ties, and halves are rounded up.

    With the highest losses the model descends on the mean of the largest losses, the superquantile
    of the agents' losses, in place of their mean; if only one update is kept, on the largest loss.
    With the highest returns agents follow the most successful ones of a round. Either moves the
    fixed point.

    Attributes:
        by: return: the mean return of the episodes since the last exchange; loss: that of the last
            local update; samples: environment steps.
        first: which ones rank first: highest or lowest.
        fraction: share of the updates that is kept.
        weights: of the mean of those that are kept: uniform; or samples, proportional to
            environment steps.

    Reference: Laguel, Pillutla, Malick, Harchaoui, A superquantile approach to federated learning
        with heterogeneous devices, CISS 2021, arXiv 2112.09429 (the highest losses).
    """

    needs: ClassVar[Needs] = (Need.CHOICE, Need.ONE_COORDINATOR)

    of_several: ClassVar[tuple[str, ...]] = ("", "by", "first", "fraction", "weights")
    by: Literal["return", "loss", "samples"] = "return"
    first: Literal["highest", "lowest"] = "highest"
    fraction: float = Field(default=0.5, gt=0, le=1)
    weights: Literal["uniform", "samples"] = "uniform"

    @property
    def score(self) -> str | None:
        """Returns or losses, if it ranks by them."""
        return None if self.by == "samples" else self.by

    @override
    def prefer(self, received: Sequence[Arrived]) -> Sequence[int]:
        sign = -1.0 if self.first == "highest" else 1.0

        def rank(position: int) -> tuple[bool, float, int]:
            arrived = received[position]
            value = arrived.samples if self.by == "samples" else arrived.score
            return value <= UNKNOWN, sign * value, position

        ranked = sorted(range(len(received)), key=rank)
        return sorted(ranked[: share(self.fraction, len(received))])

    @override
    def aggregate(
        self, received: Sequence[Arrived], model: Vector, state: Memory
    ) -> tuple[Vector, Memory]:
        return Mean(weights=self.weights).aggregate(received, model, state)
