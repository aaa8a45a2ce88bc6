"""The form of a law: its statement, its scenario, and the figures that are measured."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from math import inf


@dataclass(frozen=True)
class Figure:
    """One measured number of a law.

    Attributes:
        what: it is.
        expected: what theory or the literature says, in words: ".949253", "<= 1e-12", "-1".
        measured: what came out.
        low: the least that agrees.
        high: the most that agrees.
    """

    what: str
    expected: str
    measured: float
    low: float = -inf
    high: float = inf

    @property
    def holds(self) -> bool:
        """Whether the measured number holds."""
        return bool(self.low <= self.measured <= self.high)


@dataclass(frozen=True)
class Law:
    """A statement with the figures that prove it.

    Attributes:
        name: lower case with underscores.
        title: what it states, in one line.
        source: authors, venue, year, arXiv id; or "computed" for one that has no paper.
        measure: yields its figures.
        is_slow: takes more than a few seconds.
    """

    name: str
    title: str
    source: str
    measure: Callable[[], Iterator[Figure]]
    is_slow: bool = False


def near(what: str, expected: float, measured: float, tolerance: float, digits: int = 6) -> Figure:
    """Return a figure that holds within `tolerance` of `expected`."""
    return Figure(
        what, f"{expected:.{digits}g}", measured, expected - tolerance, expected + tolerance
    )


def at_most(what: str, bound: float, measured: float) -> Figure:
    """Return a figure that holds up to `bound`."""
    return Figure(what, f"<= {bound:g}", measured, -inf, bound)


def at_least(what: str, bound: float, measured: float) -> Figure:
    """Return a figure that holds from `bound` on."""
    return Figure(what, f">= {bound:g}", measured, bound, inf)
