"""Privacy: the last step before compression."""

from __future__ import annotations

from abc import ABC, abstractmethod

from p2pfrl.core.needs import Composable
from p2pfrl.core.parameters import Vector
from p2pfrl.core.rule import rule


class Privacy(Composable, ABC):
    """Changes a payload so that it reveals less."""

    @abstractmethod
    def release(self, payload: Vector) -> Vector:
        """Return what may be sent instead of `payload`."""


@rule
class Plain(Privacy):
    """The payload itself: parameters are sent in the clear to neighbors."""

    def release(self, payload: Vector) -> Vector:
        """Return the payload."""
        return payload
