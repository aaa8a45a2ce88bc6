"""Sizes of environments that are known without opening them.

A process over TCP opens the environments of its own agents only: those of others may be machines.
So it takes the sizes of another environment from one with the same id (`borrowing`), and `collect`
takes those that the processes have written (`given`).
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import asdict, dataclass, field
from typing import Any

from pydantic import TypeAdapter

from p2pfrl.core.rule import rule
from p2pfrl.learning.environments.base import Spec


@rule
class Opened:
    """An environment that a process has opened, and its sizes.

    Attributes:
        id: its id.
        options: its other options, as JSON.
        spec: its sizes.
    """

    id: str
    options: str
    spec: Spec


@dataclass
class _Known:
    exact: dict[tuple[str, str], Spec] = field(default_factory=dict)
    by_id: dict[str, Spec] = field(default_factory=dict)


_KNOWN: ContextVar[_Known | None] = ContextVar("known", default=None)


def options(values: Mapping[str, object]) -> str:
    """Return options as text that is equal for equal options."""
    return json.dumps(values, sort_keys=True, default=repr)


def find(id: str, options: str) -> Spec | None:
    """Return the sizes of an environment, if they are known here without opening it."""
    known = _KNOWN.get()
    return None if known is None else known.exact.get((id, options)) or known.by_id.get(id)


def note(id: str, spec: Spec) -> None:
    """Note the sizes of an environment that was opened, for others with its id."""
    known = _KNOWN.get()
    if known is not None:
        known.by_id.setdefault(id, spec)


@contextmanager
def borrowing(opened: Sequence[Opened] = ()) -> Iterator[None]:
    """In the block, take the sizes of an environment from `opened`, or from one with its id."""
    known = _Known({(one.id, one.options): one.spec for one in opened})
    for one in opened:
        known.by_id.setdefault(one.id, one.spec)
    token = _KNOWN.set(known)
    try:
        yield
    finally:
        _KNOWN.reset(token)


def encode(opened: Sequence[Opened]) -> bytes:
    """Return JSON that `decode` reads."""
    return json.dumps([asdict(one) for one in opened], indent=2).encode()


def decode(content: bytes) -> list[Opened]:
    """Return what `encode` was given.

    Raises:
        ValueError: the content is something else.
    """
    adapter: TypeAdapter[Any] = TypeAdapter(list[Opened])
    found: list[Opened] = adapter.validate_json(content, strict=True)
    return found
