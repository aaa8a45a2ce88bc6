"""Numbers with units for figures, tables and the command line."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from p2pfrl.results.statistics import Estimate

_UNITS: dict[str, tuple[str, tuple[tuple[float, str], ...]]] = {
    "round": ("round", ()),
    "virtual_seconds": (
        "virtual time",
        ((3600.0, "h"), (60.0, "min"), (1.0, "s"), (1e-3, "ms"), (1e-6, "µs")),
    ),
    "bytes_sent": ("bytes sent, all agents", ((1e9, "GB"), (1e6, "MB"), (1e3, "kB"), (1.0, "B"))),
    "env_steps": ("environment steps, all agents", ((1e6, "millions"), (1e3, "thousands"))),
}


@dataclass(frozen=True)
class Scale:
    """The unit of a horizontal axis: it plots `values / divisor` and has the label `label`."""

    divisor: float
    label: str


def scale(column: str, largest: float) -> Scale:
    """Return the unit in which `largest` of `column` is easy to read.

    >>> scale("virtual_seconds", 90.0)
    Scale(divisor=1.0, label='virtual time (s)')
    >>> scale("bytes_sent", 4.2e6)
    Scale(divisor=1000000.0, label='bytes sent, all agents (MB)')
    """
    name, units = _UNITS[column]
    for divisor, unit in units:
        if largest >= 2 * divisor:
            return Scale(divisor, f"{name} ({unit})")
    return (
        Scale(units[-1][0], f"{name} ({units[-1][1]})")
        if units and largest > 0 and column != "env_steps"
        else Scale(1.0, name)
    )


LARGEST = 1e100
"""The largest number that figures show, and the inverse of the smallest."""


def drawable(values: ArrayLike) -> NDArray[np.float64]:
    """Return `values` with nan in place of numbers that no axis can show.

    Matplotlib computes powers, differences and ratios of what it draws. They overflow or vanish if
    numbers are infinite, beyond `LARGEST`, or below its inverse without being zero.
    """
    numbers = np.array(values, dtype=np.float64)
    size = np.abs(numbers)
    with np.errstate(invalid="ignore"):
        numbers[~(size <= LARGEST) | ((size > 0) & (size < 1 / LARGEST))] = np.nan
    return numbers


def amount(value: float, column: str) -> str:
    """Return a number of `column` with its unit, for example "3.2 MB"."""
    if not math.isfinite(value):
        return "-"
    for divisor, unit in _UNITS[column][1]:
        if abs(value) >= divisor:
            return f"{value / divisor:.3g} {unit}"
    return (
        f"{value:.6g}"
        if column in ("round", "env_steps")
        else f"{value:.3g} {_UNITS[column][1][-1][1]}"
    )


def number(value: float) -> str:
    """Return a number as text: four digits, commas between thousands, "-" if undefined.

    >>> number(1234567.0), number(0.00123456), number(475.0), number(float("nan"))
    ('1,234,567', '0.001235', '475', '-')
    """
    if not np.isfinite(value):
        return "-"
    if value == int(value) and abs(value) < 1e15:
        return f"{int(value):,}"
    if abs(value) >= 1e15:
        return f"{value:.4g}"
    if abs(value) >= 1000:
        return f"{value:,.0f}" if abs(value) >= 10_000 else f"{value:,.1f}"
    return f"{value:.4g}"


def interval(value: Estimate, show: Callable[[float], str] = number) -> str:
    """Return "mean [low, high]", or "mean" alone if there is no interval or it is a point."""
    if not np.isfinite(value.low) or value.low == value.high:
        return show(value.mean)
    return f"{show(value.mean)} [{show(value.low)}, {show(value.high)}]"


def dig(summary: Any, path: str) -> float:
    """Return the number at a dotted `path` of a summary, nan if there is none."""
    for key in path.split("."):
        summary = summary.get(key) if isinstance(summary, dict) else None
    try:
        return float(summary) if isinstance(summary, int | float) else float("nan")
    except OverflowError:  # an integer beyond any float
        return float("inf")


def duration(seconds: float) -> str:
    """Return seconds with a unit, for example "3.9 s"."""
    return amount(seconds, "virtual_seconds")


def size(count: float) -> str:
    """Return bytes with a unit, for example "70.7 MB"."""
    return amount(count, "bytes_sent")
