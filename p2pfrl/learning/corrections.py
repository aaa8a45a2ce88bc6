"""Hooks into the local update: start point, gradient offset, regularizer. Only the identity is built yet."""

from __future__ import annotations

from abc import ABC, abstractmethod

from p2pfrl.core.parameters import Vector
from p2pfrl.core.rule import rule


class Correction(ABC):
    """Changes where a local update starts."""

    @abstractmethod
    def start(self, parameters: Vector) -> Vector:
        """Return the point to train from."""


@rule
class Uncorrected(Correction):
    """Train from one's own parameters, on one's own objective."""

    def start(self, parameters: Vector) -> Vector:
        """Return the parameters."""
        return parameters


RULES: dict[str, type[Correction]] = {"none": Uncorrected}
