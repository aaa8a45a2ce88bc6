"""Attacks of Byzantine agents. None is built yet."""

from __future__ import annotations

from abc import ABC, abstractmethod

from p2pfrl.core.needs import Composable
from p2pfrl.core.parameters import Vector


class Attack(Composable, ABC):
    """Replaces the payload of a Byzantine agent."""

    @abstractmethod
    def corrupt(self, payload: Vector) -> Vector:
        """Return what is sent instead of `payload`."""
