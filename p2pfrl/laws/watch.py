"""Recorder of a rule's calls during a run."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

Call = tuple[tuple[Any, ...], Any]
"""(arguments, result)"""


@contextmanager
def watched(rule: type, method: str) -> Iterator[list[Call]]:
    """Record the calls of a rule's method in this thread's runs until the block ends."""
    calls: list[Call] = []
    original = getattr(rule, method)

    def noted(self: object, *arguments: Any) -> Any:
        result = original(self, *arguments)
        calls.append((arguments, result))
        return result

    setattr(rule, method, noted)
    try:
        yield calls
    finally:
        setattr(rule, method, original)
