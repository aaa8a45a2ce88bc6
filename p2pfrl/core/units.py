"""Durations, sizes, rates and energies: strings with units in files, SI numbers inside.

>>> seconds("10min"), seconds("20ms"), size("18KiB"), rate("100Mbit/s")
(600.0, 0.02, 18432.0, 12500000.0)
"""

from __future__ import annotations

import math
import re
from typing import Annotated

from pydantic import BeforeValidator, WithJsonSchema

SECOND = 1_000_000_000
"""Nanoseconds, the unit of all clocks inside."""

_NUMBER = re.compile(r"\s*([+-]?[0-9]*\.?[0-9]+(?:[eE][+-]?[0-9]+)?)\s*([A-Za-zµ/]*)\s*")
_SECONDS = {
    "ns": 1e-9,
    "us": 1e-6,
    "µs": 1e-6,
    "ms": 1e-3,
    "s": 1.0,
    "min": 60.0,
    "h": 3600.0,
    "d": 86400.0,
}
_BYTES = {
    "B": 1.0,
    "kB": 1e3,
    "KB": 1e3,
    "MB": 1e6,
    "GB": 1e9,
    "KiB": 2.0**10,
    "MiB": 2.0**20,
    "GiB": 2.0**30,
}
_BITS = {"bit": 0.125, "kbit": 125.0, "Kbit": 125.0, "Mbit": 1.25e5, "Gbit": 1.25e8}
_JOULES = {
    "nJ": 1e-9,
    "uJ": 1e-6,
    "µJ": 1e-6,
    "mJ": 1e-3,
    "J": 1.0,
    "kJ": 1e3,
    "Wh": 3.6e3,
    "kWh": 3.6e6,
}
_RATES = {f"{unit}/s": factor for unit, factor in (_BYTES | _BITS).items()}


_LONGEST = 9e9
"""Seconds of the longest duration, 285 years: clocks of 64 bits end after 292."""
_SLOWEST = 1e-3
"""Bytes per second of the slowest rate that is not 0."""


def _parse(value: object, units: dict[str, float], what: str, example: str) -> float:
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise ValueError(f"expected {what} such as {example!r}, got {value!r}")
    if isinstance(value, str):
        match = _NUMBER.fullmatch(value)
        if not match or match[2] not in units:
            raise ValueError(
                f"expected {what} such as {example!r} (units: {', '.join(units)}), got {value!r}"
            )
        number = float(match[1]) * units[match[2]]
    else:
        number = float(value)
    if not math.isfinite(number) or number < 0:
        raise ValueError(
            f"expected {what} such as {example!r}, finite and not negative, got {value!r}"
        )
    return number


def seconds(value: object) -> float:
    """Return seconds from "20ms" or a plain number of seconds."""
    found = _parse(value, _SECONDS, "a duration", "20ms")
    if found > _LONGEST:
        raise ValueError(
            f"expected a duration such as '20ms', at most {_LONGEST:g} s, got {value!r}"
        )
    return found


def size(value: object) -> float:
    """Return bytes from "18KiB" or a plain number of bytes."""
    return _parse(value, _BYTES, "a size", "18KiB")


def rate(value: object) -> float:
    """Return bytes per second from "100Mbit/s" or a plain number of bytes per second."""
    found = _parse(value, _RATES, "a rate", "100Mbit/s")
    if 0 < found < _SLOWEST:
        raise ValueError(
            f"expected a rate such as '100Mbit/s', at least {_SLOWEST:g} B/s, got {value!r}"
        )
    return found


def joules(value: object) -> float:
    """Return joules from "2mJ" or a plain number of joules."""
    return _parse(value, _JOULES, "an energy", "2mJ")


def _schema(pattern: str) -> WithJsonSchema:
    return WithJsonSchema(
        {"anyOf": [{"type": "number", "minimum": 0}, {"type": "string", "examples": [pattern]}]}
    )


Seconds = Annotated[float, BeforeValidator(seconds), _schema("20ms")]
Bytes = Annotated[float, BeforeValidator(size), _schema("18KiB")]
Rate = Annotated[float, BeforeValidator(rate), _schema("100Mbit/s")]
