"""Drifts in closed form: x + w(k) ((factor - 1) x + add) in update k."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Sequence

import numpy as np
from pydantic import Field
from typing_extensions import override

from p2pfrl.core.rule import rule
from p2pfrl.learning.drifts.base import Array, Drift


@rule
class Wave(Drift):
    """A drift toward factor x + add.

    Attributes:
        factor: multiplies the value where the drift is complete.
        add: is added to it there.
    """

    factor: float = 1.0
    add: float = 0.0

    def __post_init__(self) -> None:
        """Refuse a drift that goes nowhere."""
        if self.factor == 1.0 and self.add == 0.0:
            raise ValueError("expected a factor other than 1, or something to add")

    @abstractmethod
    def part(self, updates: Array) -> Array:
        """Return w(k) `(b,)`."""

    @override
    def values(self, start: Array, agents: Sequence[int], updates: Sequence[int]) -> Array:
        moved = (self.factor - 1.0) * start + self.add
        return start + self.part(np.array(updates, dtype=np.float64)) * moved

    @abstractmethod
    def turns(self, last: int | None) -> Sequence[int]:
        """Return updates until `last` (None: of all), the lowest and the highest w among them."""

    @override
    def peaks(self, agents: Sequence[int], last: int | None) -> tuple[list[int], list[int]]:
        turns = self.turns(last)
        return [agent for agent in agents for _ in turns], [*turns] * len(agents)


@rule
class Step(Wave):
    """x, then factor x + add from update `at` on.

    Attributes:
        at: the first update with the new value; an agent's first one is 0.
    """

    at: int = Field(ge=0)

    @property
    @override
    def begins(self) -> int:
        """The update of the step."""
        return self.at

    @override
    def part(self, updates: Array) -> Array:
        return (updates >= self.at).astype(np.float64)

    @override
    def turns(self, last: int | None) -> Sequence[int]:
        return (self.at,) if last is None or self.at <= last else ()


@rule
class Ramp(Wave):
    """x until update `start`, factor x + add from `start` + `length` on, and linear between them.

    Attributes:
        start: the last update with the old value.
        length: updates of the way.
    """

    start: int = Field(default=0, ge=0)
    length: int = Field(ge=1)

    @property
    @override
    def begins(self) -> int:
        """The update after `start`."""
        return self.start + 1

    @override
    def part(self, updates: Array) -> Array:
        return np.clip((updates - self.start) / self.length, 0.0, 1.0)

    @override
    def turns(self, last: int | None) -> Sequence[int]:
        end = self.start + self.length
        return (end if last is None else min(end, last),)


@rule
class Sine(Wave):
    """x + sin(2 pi (k / period + phase)) ((factor - 1) x + add) in update k.

    Attributes:
        period: updates of a cycle.
        phase: share of a cycle by which it is ahead.
    """

    period: int = Field(ge=2)
    phase: float = 0.0

    @override
    def part(self, updates: Array) -> Array:
        return np.sin(2.0 * np.pi * (updates / self.period + self.phase))

    @override
    def turns(self, last: int | None) -> Sequence[int]:
        end = self.period - 1 if last is None else min(self.period - 1, last)
        found = {0, end}
        for share in (0.25, 0.75):  # of a cycle: the highest and the lowest point
            at = (share - self.phase) % 1.0 * self.period
            found |= {math.floor(at), math.ceil(at)}
        return sorted(update for update in found if update <= end)
