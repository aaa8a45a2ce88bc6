"""Loss models: which messages a link loses.

A model is a rule. What it remembers of links is an argument.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Annotated, ClassVar

from pydantic import Field

from p2pfrl.core.members import Members
from p2pfrl.core.rng import MessagePurpose, draw
from p2pfrl.core.rule import rule
from p2pfrl.core.state import Stateful

Probability = Annotated[float, Field(ge=0, le=1)]
BadLinks = dict[tuple[int, int], bool]
"""(sender, receiver) -> whether the link is in its bad state.

Links that never were are left out.
"""


class Loss(ABC):
    """The model of lost messages."""

    @property
    def is_lossless(self) -> bool:
        """Whether the model loses no message."""
        return False

    @property
    def loses_all(self) -> bool:
        """Whether the model loses every message."""
        return False

    def symmetric(self) -> Loss | None:
        """Return the model that loses both directions of an edge at once, or None."""
        return None

    @abstractmethod
    def is_lost(
        self, seed: int, sender: int, receiver: int, number: int, round: int, bad: BadLinks
    ) -> bool:
        """Return whether a message is lost, and advance the state of its link.

        Args:
            seed: of the run.
            sender: of the message.
            receiver: of the message.
            number: of the message, counted by its sender.
            round: that it belongs to.
            bad: the state of links.
        """


@rule
class Independent(Loss):
    """Each message is lost with the same probability, whatever happened to others.

    Attributes:
        probability: to lose a message.
    """

    probability: Probability = 0.0

    @property
    def is_lossless(self) -> bool:
        """Whether the model loses no message."""
        return self.probability == 0.0

    @property
    def loses_all(self) -> bool:
        """Whether the model loses every message."""
        return self.probability == 1.0

    def symmetric(self) -> Loss:
        """Return one draw per edge and round."""
        return Symmetric(probability=self.probability)

    def is_lost(
        self, seed: int, sender: int, receiver: int, number: int, round: int, bad: BadLinks
    ) -> bool:
        """Return the draw of this message."""
        return draw(seed, sender, receiver, number, MessagePurpose.LOSS)[0] < self.probability


@rule
class Symmetric(Loss):
    """One draw per edge and round: the messages of both directions are lost together.

    Attributes:
        probability: to lose the messages of an edge in a round.
    """

    probability: Probability

    @property
    def is_lossless(self) -> bool:
        """Whether the model loses no message."""
        return self.probability == 0.0

    def is_lost(
        self, seed: int, sender: int, receiver: int, number: int, round: int, bad: BadLinks
    ) -> bool:
        """Return the draw of this edge and round."""
        low, high = (sender, receiver) if sender < receiver else (receiver, sender)
        return draw(seed, low, high, round, MessagePurpose.EDGE_LOSS)[0] < self.probability


@rule
class Burst(Loss):
    """Bursty loss: each link is in a good or a bad state and may change it before every message.

    Gilbert, "Capacity of a burst-noise channel", Bell System Technical Journal, 1960; Elliott,
    "Estimates of error rates for codes on burst-noise channels", Bell System Technical Journal,
    1963.

    Attributes:
        good_to_bad: probability to change from good to bad.
        bad_to_good: probability to change from bad to good.
        loss_good: probability to lose a message in the good state.
        loss_bad: probability to lose a message in the bad state.
    """

    good_to_bad: Probability
    bad_to_good: Probability
    loss_good: Probability = 0.0
    loss_bad: Probability = 1.0

    def is_lost(
        self, seed: int, sender: int, receiver: int, number: int, round: int, bad: BadLinks
    ) -> bool:
        """Advance the link's state by one message, then return this message's draw."""
        change, loss = draw(seed, sender, receiver, number, MessagePurpose.LOSS)
        is_bad = bad.get((sender, receiver), False)
        if change < (self.bad_to_good if is_bad else self.good_to_bad):
            is_bad = not is_bad
        bad[sender, receiver] = is_bad
        return loss < (self.loss_bad if is_bad else self.loss_good)


RULES: Members[Loss] = Members(__name__, {"independent": "Independent", "burst": "Burst"})


class LinkLosses(Stateful):
    """The losses of all links of a run.

    Args:
        seed: of the run.
        model: of every link.
    """

    STATE: ClassVar[tuple[str, ...]] = ("_bad",)

    def __init__(self, seed: int, model: Loss) -> None:
        self.is_lossless = model.is_lossless
        self._seed = seed
        self._model = model
        self._bad: BadLinks = {}

    def is_lost(self, sender: int, receiver: int, number: int, round: int) -> bool:
        """Return whether message `number`, of `round`, is lost."""
        return self._model.is_lost(self._seed, sender, receiver, number, round, self._bad)
