"""Form of a law: its statement, its scenario, and its measured figures."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from math import inf


@dataclass(frozen=True)
class Figure:
    """One measured number of a law.

    Attributes:
        what: name of the number.
        expected: value in theory or literature, as text: ".949253", "<= 1e-12", "-1".
        measured: the measured value.
        low: smallest value that agrees.
        high: largest value that agrees.
    """

    what: str
    expected: str
    measured: float
    low: float = -inf
    high: float = inf

    @property
    def holds(self) -> bool:
        """Whether the measured value agrees."""
        return bool(self.low <= self.measured <= self.high)


@dataclass(frozen=True)
class Law:
    """A statement with the figures that test it.

    Attributes:
        name: lower case with underscores.
        title: the statement, in one line.
        source: authors, venue, year, arXiv id; or "computed" for a law without a paper.
        measure: yields its figures.
        is_slow: whether it takes more than a few seconds.
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
    """Return a figure that holds from `bound` up."""
    return Figure(what, f">= {bound:g}", measured, bound, inf)
