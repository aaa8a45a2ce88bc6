"""Random options of rules, drawn from their types and bounds.

A new rule, or a new option of one, is drawn as soon as it is in a table.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, TypeVar, Union, get_args, get_origin

import numpy as np
from pydantic.fields import FieldInfo

from p2pfrl.catalog import table
from p2pfrl.core.options import Rule, Slot, options_of

Table = dict[str, Any]
T = TypeVar("T")
_DEPTH = 3
"""Rules within rules that are drawn."""
_USUAL = 0.3
"""Probability that an option that may be left out is drawn."""
_ELSEWHERE = ("agents", "from", "until", "count", "path", "make", "on_loss")
"""Options that need to know the scenario, or files; who needs them draws them."""


class Undrawable(Exception):  # noqa: N818  # a result, not an error
    """A required option has a type of which no value is known."""


def pick(rng: np.random.Generator, values: Sequence[T]) -> T:
    """Return one of some values."""
    return values[int(rng.integers(len(values)))]


def chance(rng: np.random.Generator, probability: float) -> bool:
    """Return True with this probability."""
    return bool(rng.random() < probability)


def member(rng: np.random.Generator, axis: str, *, without: Sequence[str] = ()) -> Table:
    """Return the table of a rule of an axis, with random options."""
    rules = table(axis)
    return _of_kinds(rng, rules, [kind for kind in rules if kind not in without], 0)


def _of_kinds(
    rng: np.random.Generator, rules: Mapping[str, type], kinds: Sequence[str], depth: int
) -> Table:
    for _ in range(8):
        kind = pick(rng, kinds)
        try:
            return {"kind": kind, **options(rng, rules[kind], depth)}
        except Undrawable:
            continue
    raise Undrawable


def options(rng: np.random.Generator, cls: type, depth: int = 0) -> Table:
    """Return random options of a rule or section: those that are required, and some others.

    Raises:
        Undrawable: of one that is required no value is known.
    """
    found: Table = {}
    infos: Mapping[str, FieldInfo] = cls.__pydantic_fields__  # type: ignore[attr-defined]
    for name, field in options_of(cls).items():
        info = infos[field.name]
        if name in _ELSEWHERE or not (info.is_required() or chance(rng, _USUAL)):
            continue
        try:
            found[name] = _value(rng, info.annotation, info.metadata, info.default, depth)
        except Undrawable:
            if info.is_required():
                raise
    return found


def _value(
    rng: np.random.Generator, annotation: Any, marks: Sequence[Any], default: Any, depth: int
) -> Any:
    slot = next((mark for mark in marks if isinstance(mark, Slot)), None)
    if isinstance(slot, Rule):
        if depth >= _DEPTH:
            raise Undrawable
        rules = slot.rules()
        return _of_kinds(rng, rules, list(rules), depth + 1)
    if slot is not None:
        if slot.cls in (int, float):
            raise Undrawable
        return options(rng, slot.cls, depth + 1)
    origin, inner = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return _value(rng, inner[0], (*inner[1:], *marks), default, depth)
    if origin in (Union, UnionType):
        chosen = [one for one in inner if one is not NoneType]
        return _value(rng, pick(rng, chosen), marks, default, depth)
    if origin is Literal:
        return pick(rng, inner)
    if annotation is bool:
        return chance(rng, 0.5)
    if annotation is int:
        return _integer(rng, marks, default)
    if annotation is float:
        return _number(rng, marks, default)
    raise Undrawable


def _bounds(marks: Sequence[Any]) -> tuple[float, float]:
    """Return the bounds that the type of a number states, the open ones moved inwards."""
    flat = [one for mark in marks for one in (mark, *getattr(mark, "metadata", ()))]
    low, high = -np.inf, np.inf
    for mark in flat:
        for name in ("ge", "gt"):
            if (bound := getattr(mark, name, None)) is not None:
                low = max(low, float(bound) + (1e-3 if name == "gt" else 0.0))
        for name in ("le", "lt"):
            if (bound := getattr(mark, name, None)) is not None:
                high = min(high, float(bound) - (1e-3 if name == "lt" else 0.0))
    return low, high


def _integer(rng: np.random.Generator, marks: Sequence[Any], default: Any) -> int:
    low, high = _bounds(marks)
    usual = default if isinstance(default, int) else 1
    least = int(np.ceil(low)) if np.isfinite(low) else 0
    drawn = pick(rng, (least, least + 1, least + 2, usual, usual + 1))
    return int(min(max(drawn, least), high))


def _number(rng: np.random.Generator, marks: Sequence[Any], default: Any) -> float:
    low, high = _bounds(marks)
    if np.isfinite(low) and np.isfinite(high) and not isinstance(default, float):
        drawn = low + (high - low) * float(rng.random())
    else:
        usual = float(default) if isinstance(default, int | float) and default else 0.5
        drawn = usual * pick(rng, (0.25, 0.5, 1.0, 2.0))
    return round(float(min(max(drawn, low), high)), 6)
