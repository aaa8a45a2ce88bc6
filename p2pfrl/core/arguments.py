"""Checks of the arguments of public functions against their annotations.

`@checked_call` on a public function compares every argument with its annotation when it is called,
and raises one `ArgumentError` that names all that do not fit.
"""

from __future__ import annotations

import inspect
import types
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, wraps
from pathlib import Path
from typing import (
    Annotated,
    Any,
    Literal,
    ParamSpec,
    TypeVar,
    Union,
    get_args,
    get_origin,
    get_type_hints,
)

import numpy as np

from p2pfrl.core.errors import ArgumentError
from p2pfrl.core.wording import did_you_mean, show

P = ParamSpec("P")
T = TypeVar("T")


@dataclass(frozen=True)
class Kind:
    """Part of an annotation: what messages call a value of this kind, and what it must satisfy.

    Attributes:
        words: such as "a number of processes from 1 on".
        holds: whether a value of the annotated type is one.
    """

    words: str
    holds: Callable[[Any], bool] = lambda _: True


File = Annotated[str | Path, Kind("the file or name of a scenario")]
"""A scenario file."""
Overrides = Annotated[
    Mapping[str, object], Kind("values by dotted key, such as {'stop.rounds': 20}")
]
"""Values that replace those of a scenario file."""
Processes = Annotated[int, Kind("a number of processes from 1 on", lambda count: count >= 1)]
"""How many processes run the members of a series."""
Seeds = Annotated[
    Sequence[int],
    Kind(
        "different whole numbers, such as range(5)",
        lambda seeds: not isinstance(seeds, Collection) or len({*seeds}) == len(seeds) > 0,
    ),
]
"""Seeds of a series of runs."""


def checked_call(function: Callable[P, T]) -> Callable[P, T]:
    """Return the function, which compares its arguments with their annotations when it is called.

    An argument without a hint that can be read here, as one for types alone, is not compared: its
    function does so itself. `**` arguments are not, either.

    Raises:
        ArgumentError: arguments do not fit, or have no such name.
    """
    signature = inspect.signature(function)
    known = [name for name, p in signature.parameters.items() if p.kind is not p.VAR_KEYWORD]
    takes_more = len(known) < len(signature.parameters)

    @wraps(function)
    def call(*args: P.args, **kwargs: P.kwargs) -> T:
        unknown = [] if takes_more else [name for name in kwargs if name not in known]
        problems = [f"there is no argument {name!r}{did_you_mean(name, known)}" for name in unknown]
        if problems:
            raise ArgumentError(problems)
        try:
            given = signature.bind(*args, **kwargs).arguments
        except TypeError as error:
            raise ArgumentError([str(error)]) from None
        hints = _hints(function)
        for name, value in given.items():
            if name in hints and not fits(value, hints[name]):
                expected = " or ".join(dict.fromkeys(_words(hints[name])))
                problems.append(f"{name}: expected {expected}, got {show(value)}")
        if problems:
            raise ArgumentError(problems)
        return function(*args, **kwargs)

    return call


@cache
def _hints(function: Callable[..., object]) -> dict[str, Any]:
    """Return the types of a function's arguments, of those that can be read."""
    found: dict[str, Any] = {}
    for name, hint in inspect.get_annotations(function).items():
        parameter = inspect.signature(function).parameters.get(name)
        if parameter is None or parameter.kind is parameter.VAR_KEYWORD:
            continue
        try:
            alone = types.SimpleNamespace(__annotations__={name: hint})
            found |= get_type_hints(alone, function.__globals__, include_extras=True)
        except (NameError, TypeError):
            continue
    return found


def fits(value: object, hint: Any) -> bool:
    """Return whether a value is of the type of a hint; numbers of NumPy are numbers.

    >>> fits("2", int), fits(np.int64(2), int), fits(True, int), fits("abc", Sequence[str])
    (False, True, False, False)
    """
    origin, inner = get_origin(hint), get_args(hint)
    if origin is Annotated:
        marks = [mark for mark in inner[1:] if isinstance(mark, Kind)]
        return fits(value, inner[0]) and all(mark.holds(value) for mark in marks)
    if origin in (Union, types.UnionType):
        return any(fits(value, one) for one in inner)
    if origin is Literal:
        return any(type(value) is type(one) and value == one for one in inner)
    if hint in (Any, object):
        return True
    if hint in (None, types.NoneType):
        return value is None
    if hint is bool:
        return isinstance(value, bool | np.bool_)
    if hint is int:
        return isinstance(value, int | np.integer) and not isinstance(value, bool)
    if hint is float:
        return isinstance(value, int | float | np.number) and not isinstance(value, bool)
    return _fits_container(value, origin, inner) if origin else _is_a(value, hint)


def _fits_container(value: object, origin: Any, inner: tuple[Any, ...]) -> bool:
    if origin is Callable or issubclass(origin, Callable):  # type: ignore[arg-type]  # an ABC
        return callable(value)
    if issubclass(origin, Mapping):
        return isinstance(value, Mapping) and all(
            fits(name, inner[0]) and fits(own, inner[1]) for name, own in value.items()
        )
    if not isinstance(value, Iterable) or isinstance(value, str | bytes | Mapping):
        return False
    if not isinstance(value, Collection):
        return True  # whose elements are seen once alone
    if issubclass(origin, tuple) and inner[-1:] != (...,):
        return len(value) == len(inner) and all(map(fits, value, inner))
    return all(fits(one, inner[0]) for one in value)


def _is_a(value: object, hint: Any) -> bool:
    return not isinstance(hint, type) or isinstance(value, hint)


_WORDS: dict[Any, str] = {
    bool: "True or False",
    int: "a whole number",
    float: "a number",
    str: "a text",
    bytes: "bytes",
    Path: "a path",
}
_MANY: dict[Any, str] = {int: "whole numbers", str: "texts", Path: "paths"}


def _words(hint: Any) -> Iterator[str]:
    """Yield what messages call the kinds of values of a hint."""
    origin, inner = get_origin(hint), get_args(hint)
    if origin is Annotated:
        marks = [mark.words for mark in inner[1:] if isinstance(mark, Kind)]
        yield from marks or _words(inner[0])
    elif origin in (Union, types.UnionType):
        for one in inner:
            if one is not types.NoneType and not (one is str and Path in inner):
                yield from _words(one)
    elif origin is Literal:
        yield from (repr(one) for one in inner)
    elif origin is None:
        yield _WORDS.get(hint, f"a {getattr(hint, '__name__', hint)}")
    elif origin is Callable or issubclass(origin, Callable):  # type: ignore[arg-type]  # an ABC
        yield "a function"
    elif issubclass(origin, Mapping):
        yield "a table"
    elif issubclass(origin, tuple) and inner[-1:] != (...,):
        yield f"({', '.join(' or '.join(_words(one)) for one in inner)})"
    else:
        kinds = get_args(inner[0]) if get_origin(inner[0]) else inner[:1]
        yield f"a list of {' or '.join(_MANY.get(kind, 'values') for kind in kinds)}"
