"""The decorator that makes a class a rule: one frozen dataclass.

The fields of a rule are its options, its scenario schema and its `repr` in the record.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import FrozenInstanceError, fields
from functools import wraps
from typing import Any, NoReturn, TypeVar, dataclass_transform

from pydantic import ConfigDict, Field, ValidationError
from pydantic.dataclasses import dataclass
from pydantic_core import InitErrorDetails

from p2pfrl.core.errors import ScenarioError
from p2pfrl.core.problems import phrases, problem, refuse
from p2pfrl.core.wording import show

T = TypeVar("T")

_SMALLEST, _LARGEST = 1e-45, 3.4e38
_HELD = "must be a number that 32 bits can hold, 1e-45 to 3.4e38 in size"


@dataclass_transform(kw_only_default=True, frozen_default=True, field_specifiers=(Field,))
def rule(cls: type[T]) -> type[T]:
    """Make `cls` a rule: a frozen, keyword-only dataclass whose options are validated.

    Unknown options, infinity and nan are refused, and so are numbers that 32 bits cannot hold. A
    rule is compared, hashed, shown and protected like any frozen dataclass. All rules share the
    methods for that, because compiling them for each class would take half of the time of its
    import.
    """
    config = ConfigDict(
        extra="forbid",
        allow_inf_nan=False,
        strict=False,
        validate_default=False,
        defer_build=True,
        validate_by_name=True,
        validate_by_alias=True,
    )
    with suppress(NameError):  # where a name is not one of the module, pydantic looks further
        cls.__annotations__ = inspect.get_annotations(cls, eval_str=True)
    for name, method in _METHODS.items():
        if vars(cls).get(name) is None:
            setattr(cls, name, method)
    make = dataclass(kw_only=True, repr=False, eq=False, config=config)
    made = make(cls)
    in_our_words(made)
    return made  # type: ignore[return-value]  # adds to cls


def in_our_words(cls: type[Any]) -> None:
    """Let the constructor of a rule report problems as scenario files do, in a `ScenarioError`.

    pydantic completes a class when it is first used, and replaces its constructor then. So this is
    called again afterwards; it does nothing if nothing was replaced.
    """
    construct = cls.__init__
    if hasattr(construct, "__wrapped__"):
        return

    @wraps(construct)
    def __init__(self: Any, *args: object, **options: object) -> None:  # noqa: N807
        try:
            construct(self, *args, **options)
        except ValidationError as error:
            problems = error
        else:
            in_our_words(cls)
            if not (strange := unrepresentable(self)):
                return
            problems = refuse(*strange)
        in_our_words(cls)
        lines = phrases(cls, problems)
        raise ScenarioError([f"{cls.__name__}.{line}".replace(".: ", ": ", 1) for line in lines])

    cls.__init__ = __init__


def unrepresentable(rule: Any) -> list[InitErrorDetails]:
    """Return a problem for each number of a rule that is infinite or zero in 32 bits, and is not.

    Networks, physics and payloads compute with 32 bits, where such a number would be another one.
    Quadratic and tabular learners, which compute with 64 bits, have the same bounds: a rule does
    not know who computes with it, and a file stays valid with another learner. What a user's own
    code is given (`kwargs`) may be any number.
    """
    return [
        problem(f"{_HELD}, got {show(number)}", *place)
        for name in rule.__pydantic_fields__
        for place, number in _numbers(getattr(rule, name), name)
        if number and not _SMALLEST <= abs(number) <= _LARGEST
    ]


def _numbers(value: object, *place: str | int) -> Iterator[tuple[tuple[str | int, ...], float]]:
    """Yield the real numbers of an option, and those in its lists."""
    if type(value) is float:
        yield place, value
    elif type(value) is tuple or type(value) is list:
        for index, item in enumerate(value):
            yield from _numbers(item, *place, index)


def _values(rule: Any) -> tuple[object, ...]:
    return tuple(getattr(rule, field.name) for field in fields(rule) if field.compare)


def _equal(rule: object, other: object) -> bool:
    return _values(rule) == _values(other) if type(other) is type(rule) else NotImplemented


def _hash(rule: object) -> int:
    return hash(_hashable(_values(rule)))


def _hashable(value: object) -> object:
    """Return a value that is equal for equal values and has a hash, for options that are tables."""
    if isinstance(value, dict):
        return frozenset((name, _hashable(item)) for name, item in value.items())
    if isinstance(value, tuple | list):
        return tuple(map(_hashable, value))
    return value


def _repr(rule: Any) -> str:
    options = (
        f"{field.name}={getattr(rule, field.name)!r}" for field in fields(rule) if field.repr
    )
    return f"{type(rule).__qualname__}({', '.join(options)})"


def _set(rule: object, name: str, value: object) -> NoReturn:
    raise FrozenInstanceError(f"cannot assign to field {name!r}")


def _delete(rule: object, name: str) -> NoReturn:
    raise FrozenInstanceError(f"cannot delete field {name!r}")


_METHODS = {
    "__eq__": _equal,
    "__hash__": _hash,
    "__repr__": _repr,
    "__setattr__": _set,
    "__delattr__": _delete,
}
