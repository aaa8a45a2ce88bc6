"""The contract of payloads: which vector of an agent takes part in the exchange.

A payload also says what the agent sends of it, and what the exchange changes in the agent.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar, Protocol

from p2pfrl.core.needs import Breaks, Composable, Need
from p2pfrl.core.parameters import Vector
from p2pfrl.core.rule import rule
from p2pfrl.core.turn import Memory, Turn


class Shared(Memory, Protocol):
    """The shared vector of an agent (learning/model.py).

    Attributes:
        parts: names of the parts that travel.
    """

    parts: tuple[str, ...]

    def shared(self) -> Vector:
        """Return the shared vector, a new array."""

    def replace(self, vector: Vector) -> None:
        """Replace the shared vector."""


class Payload(Composable, ABC):
    """The vector that travels.

    Attributes:
        modes: names of the modes where it has a meaning; None: all.
        why: what it would mean elsewhere, for the error message.
        needs_gradient: local updates compute one gradient and take no step.
        reveals_experience: it holds raw experience; `validate` and `scenario` print a note where
            it is chosen.
        is_averaged: what is received is averaged with the agent's own; otherwise the learner takes
            it.
        bounded: names of the modes where what it sends follows from bounded changes, if every
            change by training is bounded. Neighbors hear parameters that add up such changes; to a
            coordinator they would be sent in full, where the change itself suffices.
        offer: name of the learner's vector that it sends, or sends along (`Exchange.offer`); None:
            it sends none.
    """

    modes: ClassVar[tuple[str, ...] | None] = ("central", "hierarchical", "pooled")
    why: ClassVar[str] = 'agents start from different points there; use payload = "parameters"'
    needs_gradient: ClassVar[bool] = False
    reveals_experience: ClassVar[bool] = False
    is_averaged: ClassVar[bool] = True
    bounded: ClassVar[tuple[str, ...]] = ()
    offer: ClassVar[str | None] = None

    @classmethod
    def is_for(cls, mode: str) -> bool:
        """Return whether the payload has a meaning in the mode of this name."""
        return cls.modes is None or mode in cls.modes

    def read(self, model: Shared) -> Vector:
        """Return the agent's vector that takes part in the exchange, a new `(k,)` array."""
        return model.shared()

    def write(self, model: Shared, vector: Vector) -> None:
        """Write the vector `(k,)` that the exchange produced back into the agent."""
        model.replace(vector)

    @abstractmethod
    def extract(self, turn: Turn) -> Vector:
        """Return the vector to send, `(k,)`.

        It is a new array, or an input that is not written to again.
        """

    def parts(self, shared: tuple[str, ...]) -> tuple[str, ...]:
        """Return the names of what travels, given the shared parts of the parameters."""
        return shared

    def size(self, shared: int, offered: int | None) -> int | None:
        """Return how many numbers travel; None: any number.

        Args:
            shared: how many the agent shares of its parameters.
            offered: how many the learner's vector `offer` has, where there is one; None: any
                number.
        """
        return shared

    def first(self, start: Vector, offered: int | None) -> Vector:
        """Return a coordinator's first model.

        It is made from the common start of what is shared, and `offered` as in `size`.
        """
        return start

    def scaled(self, vector: Vector, model: Vector, factor: float) -> Vector:
        """Return a payload with the effect of `vector` scaled by `factor`.

        It moves a coordinator at `model` only `factor` of the way that `vector` would.
        """
        return vector * factor

    @abstractmethod
    def target(self, model: Vector, aggregate: Vector) -> Vector:
        """Return the vector to which a coordinator at `model` should move.

        It follows from the aggregate of what the coordinator received.
        """


@rule
class Parameters(Payload):
    """Theta_i itself. McMahan et al., AISTATS 2017, arXiv 1602.05629."""

    modes: ClassVar[tuple[str, ...] | None] = None
    bounded: ClassVar[tuple[str, ...]] = ("gossip",)
    breaks: ClassVar[Breaks] = (Need.CHANGES, Need.SUMMANDS)

    def extract(self, turn: Turn) -> Vector:
        """Return the agent's own vector."""
        return turn.own

    def scaled(self, vector: Vector, model: Vector, factor: float) -> Vector:
        """Return the point between model and vector."""
        return model + factor * (vector - model)

    def target(self, model: Vector, aggregate: Vector) -> Vector:
        """Return the aggregate."""
        return aggregate
