"""Whether to send this round. A closed gate sends a header-only skip, so that nobody waits."""

from __future__ import annotations

from abc import ABC, abstractmethod

from p2pfrl.core.parameters import Vector
from p2pfrl.core.rule import rule


class Gate(ABC):
    """Decides before every exchange."""

    @abstractmethod
    def is_open(self, payload: Vector) -> bool:
        """Return whether `payload` is worth sending."""


@rule
class Always(Gate):
    """Send every time."""

    def is_open(self, payload: Vector) -> bool:
        """Return True."""
        return True


RULES: dict[str, type[Gate]] = {"none": Always}
