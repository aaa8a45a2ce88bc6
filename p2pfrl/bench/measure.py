"""Paired measurement: contestants run in turns, and their median CPU times are compared."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import median

from p2pfrl.core.heap import keep_freed
from p2pfrl.experiment.run import fewer_collections

Work = Callable[[], float]
"""Does some work and returns its amount. This call is timed."""

Contestant = Callable[[], Work]
"""Prepares some work. This call is not timed."""


@dataclass(frozen=True, slots=True)
class Result:
    """One figure.

    Attributes:
        name: name of the figure.
        value: value measured in this run.
        unit: unit of the value; "x" for a ratio of rates.
        against: the baseline, and the bound that the value should keep.
    """

    name: str
    value: float
    unit: str
    against: str


def rate(contestant: Contestant) -> float:
    """Return the amount of work per CPU second, with memory and garbage treated as in a run."""
    keep_freed()
    work = contestant()
    with fewer_collections():
        start = time.process_time()
        amount = work()
        return amount / (time.process_time() - start)


def rates(first: Contestant, second: Contestant, *, turns: int) -> tuple[float, float]:
    """Return the median work per CPU second of each of two contestants.

    They run in turns A B A B ..., so that other work on the machine slows both alike.
    """
    one, other = medians((first, second), turns=turns)
    return one, other


@dataclass(frozen=True, slots=True)
class Paired:
    """Ratios of two contestants that took turns.

    Attributes:
        ratio: median of work per CPU second of the first over that of the second, turn by turn.
        low, high: least and greatest of these ratios.
        other: median work per CPU second of the second.
    """

    ratio: float
    low: float
    high: float
    other: float

    @property
    def span(self) -> str:
        """Least and greatest ratio in words: the worst turn beside the best."""
        return f"turns {self.low:.3g} to {self.high:.3g}"


def paired(first: Contestant, second: Contestant, *, turns: int) -> Paired:
    """Return the ratios of two contestants that run in turns A B A B ..."""
    found = [(rate(first), rate(second)) for _ in range(turns)]
    ratios = [one / other for one, other in found]
    other = median(other for _, other in found)
    return Paired(median(ratios), min(ratios), max(ratios), other)


def medians(contestants: Sequence[Contestant], *, turns: int) -> list[float]:
    """Return the median work per CPU second of each of several contestants, which take turns."""
    found = [[rate(contestant) for contestant in contestants] for _ in range(turns)]
    return [median(own) for own in zip(*found, strict=True)]
