"""Shrinking: a scenario that fails becomes a smaller one that fails in the same way."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from copy import deepcopy
from typing import Any

from p2pfrl.fuzz.draws import Table

MOST_TRIES = 250
MOST_SECONDS = 300.0
_KEPT = ("name", "agents", "stop", "learner", "seed", "mode")
_SMALLER = {"agents": (2, 3, 4, 5, 6), "rounds": (1, 2, 3, 4, 6), "dimension": (1, 2)}
"""Numbers that may be made smaller, with values in the order in which they are tried."""

Path = tuple[str | int, ...]


def shrink(values: Table, fails: Callable[[Table], bool], tries: int = MOST_TRIES) -> Table:
    """Return smaller tables that still fail.

    Sections, keys and elements of lists are taken away one at a time, and agents, rounds and
    dimensions made fewer, until nothing more can be, or until `MOST_SECONDS` of processor time have
    passed.

    Args:
        values: tables of a scenario that fails.
        fails: whether tables fail in the same way; False for those that are refused.
        tries: calls of `fails` at most.
    """
    left, end = tries, time.process_time() + MOST_SECONDS
    is_smaller = True
    while is_smaller:
        is_smaller = False
        for smaller in _smaller(values):
            if left <= 0 or time.process_time() > end:
                return values
            left -= 1
            if fails(smaller):
                values, is_smaller = smaller, True
                break
    return values


def _smaller(values: Table) -> Iterator[Table]:
    """Yield tables that are smaller by one thing, the largest things first."""
    places, kept = sorted(_places(values), key=len), [(name,) for name in _KEPT]
    for path in places:
        if path not in kept and path[0] != "stop" and path[-1] not in ("kind", "id"):
            yield _without(values, path)
    for path in places:
        now = _at(values, path)
        if path[-1] in _SMALLER and isinstance(now, int):
            for number in _SMALLER[str(path[-1])]:
                if number < now:
                    yield _put(values, path, number)


def _places(node: Any, path: Path = ()) -> Iterator[Path]:
    """Yield the paths of all keys, and of all elements of lists of tables and of agents."""
    items: Iterator[tuple[str | int, Any]] = iter(())
    if isinstance(node, dict):
        items = iter(node.items())
    elif isinstance(node, list) and len(node) > (0 if node and isinstance(node[0], dict) else 1):
        items = iter(enumerate(node))
    for name, value in items:
        yield (*path, name)
        yield from _places(value, (*path, name))


def _at(values: Table, path: Path) -> Any:
    node: Any = values
    for name in path:
        node = node[name]
    return node


def _without(values: Table, path: Path) -> Table:
    made = deepcopy(values)
    del _at(made, path[:-1])[path[-1]]
    return made


def _put(values: Table, path: Path, value: object) -> Table:
    made = deepcopy(values)
    _at(made, path[:-1])[path[-1]] = value
    return made
