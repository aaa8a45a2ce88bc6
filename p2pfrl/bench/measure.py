"""Paired measurement: contestants take turns, timed in CPU seconds, by their medians."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from statistics import median

from p2pfrl.experiment.run import fewer_collections

Work = Callable[[], float]
"""Does some work and returns how much: this is timed."""

Contestant = Callable[[], Work]
"""Prepares some work: this is not timed."""


@dataclass(frozen=True, slots=True)
class Result:
    """One figure.

    Attributes:
        name: of the figure.
        value: measured in this run.
        unit: of the value; "x" for a ratio of rates.
        against: what it was measured against, and the bound it should keep.
    """

    name: str
    value: float
    unit: str
    against: str


def rate(contestant: Contestant) -> float:
    """Return the amount of work per CPU second."""
    work = contestant()
    with fewer_collections():
        start = time.process_time()
        amount = work()
        return amount / (time.process_time() - start)


def rates(first: Contestant, second: Contestant, *, turns: int) -> tuple[float, float]:
    """Return the median work per CPU second of each of two contestants, timed in turns A B A B ...

    So whatever else the machine does meanwhile slows both alike.
    """
    pairs = [(rate(first), rate(second)) for _ in range(turns)]
    return median(a for a, _ in pairs), median(b for _, b in pairs)
