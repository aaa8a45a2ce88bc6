"""Nested tables, as TOML and JSON give them."""

from __future__ import annotations

import numbers
import os
from collections.abc import Iterator, Mapping
from decimal import Decimal

KeyPath = tuple[str | int, ...]


def walk(value: object, path: KeyPath = ()) -> Iterator[tuple[KeyPath, object]]:
    """Yield every value of nested tables and arrays with its path."""
    yield path, value
    if isinstance(value, Mapping):
        for name, child in value.items():
            yield from walk(child, (*path, name))
    elif isinstance(value, list):
        for index, child in enumerate(value):
            yield from walk(child, (*path, index))


def leaves(table: Mapping[str, object], prefix: str = "") -> Iterator[tuple[str, object]]:
    """Yield what is no table of nested tables, by dotted key.

    >>> dict(leaves({"stop": {"rounds": 3}, "agents": 2}))
    {'stop.rounds': 3, 'agents': 2}
    """
    for name, value in table.items():
        if isinstance(value, Mapping):
            yield from leaves(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def plain(value: object) -> object:
    """Return a value from Python as the value that a TOML file would give.

    numpy's numbers and arrays, tensors, paths, decimals and fractions become plain values.
    """
    if isinstance(value, Mapping):
        return {str(name): plain(child) for name, child in value.items()}
    if isinstance(value, list | tuple | range):
        return [plain(child) for child in value]
    if isinstance(value, str):
        return str.__str__(value)
    if value is None or type(value) in (bool, int, float):
        return value
    try:
        if isinstance(value, os.PathLike):
            return os.fspath(value)
        if callable(listed := getattr(value, "tolist", None)):
            return plain(listed())
        if isinstance(value, numbers.Integral):
            return int(value)
        if isinstance(value, numbers.Real | Decimal):
            return float(value)
    except (ValueError, OverflowError, TypeError):
        return value
    return value
