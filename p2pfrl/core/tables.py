"""Nested tables, as TOML and JSON give them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

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
