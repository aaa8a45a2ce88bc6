"""Whoever writes the record of what agents do."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from p2pfrl.core.parameters import Vector
from p2pfrl.core.types import Update


class Observer(Protocol):
    """Whoever writes the record. Nothing flows back from it."""

    def trained(self, agent: int, update: Update) -> None:
        """A local update ended."""

    def mixed(
        self, agent: int, round: int, staleness: Mapping[int, int], before: Vector, after: Vector
    ) -> None:
        """A round of `agent` ended: mixing moved its shared vector from `before` to `after`."""

    def answered(self, agent: int, before: Vector, after: Vector) -> None:
        """An exchange with a neighbor that asked moved the shared vector of `agent`; its own round goes on."""

    def sat_out(self, agent: int, round: int) -> None:
        """A round of `agent` ended in which it took no part."""
