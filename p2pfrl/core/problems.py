"""Problems of options, in our words: what was expected, what was got, how to fix it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError
from pydantic_core import InitErrorDetails, PydanticCustomError

from p2pfrl.core.wording import as_number, closest, did_you_mean, show

_OURS = "p2pfrl"
_NOUNS = {
    "int_type": "an integer",
    "int_from_float": "an integer",
    "float_type": "a number",
    "bool_type": "true or false",
    "string_type": "a string",
    "tuple_type": "a list",
    "list_type": "a list",
    "dict_type": "a table",
    "dataclass_type": "a table",
}
_BOUNDS = {
    "greater_than_equal": "at least",
    "greater_than": "above",
    "less_than_equal": "at most",
    "less_than": "below",
}


def problem(message: str, *loc: str | int, value: object = None) -> InitErrorDetails:
    """Return one problem, at `loc` within the table that is being read."""
    return InitErrorDetails(type=PydanticCustomError(_OURS, message), loc=loc, input=value)


def refuse(*problems: InitErrorDetails) -> ValidationError:
    """Return the error to raise inside a validator.

    Pydantic puts the outer location before the location of each problem.
    """
    return ValidationError.from_exception_data("scenario", list(problems))


def details(error: ValidationError) -> list[InitErrorDetails]:
    """Return the problems of an error, in our words.

    A list that is too short because its elements are wrong is not named beside them.
    """
    errors = error.errors(include_url=False)
    places = {found["loc"][:-1] for found in errors}
    return [
        problem(phrase(found), *found["loc"], value=found["input"])
        for found in errors
        if found["type"] != "too_short" or found["loc"] not in places
    ]


def phrases(cls: type[Any], error: ValidationError) -> list[str]:
    """Return the problems of a constructor's arguments, each a line, first its key."""
    lines = []
    for found in error.errors(include_url=False):
        path = [str(part) for part in found["loc"]]
        text = phrase(found)
        if found["type"] == "unexpected_keyword_argument":
            text = f"unknown key{did_you_mean(path[-1], cls.__pydantic_fields__)}"
        if found["type"] == "unexpected_positional_argument":
            name = next(iter(cls.__pydantic_fields__), None)
            example = f", such as {cls.__name__}({name}=...)" if name else "; this rule has none"
            lines.append(f": options are given by name{example}, got {show(found['input'])}")
            continue
        lines.append(f"{'.'.join(path)}: {text}")
    return lines


def phrase(error: Mapping[str, Any]) -> str:
    """Return the message for one of pydantic's error details.

    It says what was expected, what was got and how to fix it.
    """
    kind, value, context = error["type"], error["input"], error.get("ctx", {})
    if kind == _OURS:
        return str(error["msg"])
    if kind.startswith("missing"):
        return "this key is required"
    if kind in _NOUNS:
        expected = _NOUNS[kind]
        return f"expected {expected}, got {show(value)}{_rewritten(value, expected)}"
    if kind in _BOUNDS:
        return f"must be {_BOUNDS[kind]} {next(iter(context.values()))}, got {show(value)}"
    if kind == "too_short":
        least = context["min_length"]
        return f"expected at least {least} value{'s' if least > 1 else ''}, got {show(value)}"
    if kind == "literal_error":
        words = str(context["expected"]).replace("'", "").replace(" or ", ", ").split(", ")
        return f"expected {context['expected']}, got {show(value)}" + _close(value, words)
    if kind == "value_error":
        return str(error["msg"]).removeprefix("Value error, ")
    return f"{str(error['msg'])[:1].lower()}{str(error['msg'])[1:]}, got {show(value)}"


def _rewritten(value: object, expected: str) -> str:
    """Return how to write a value of the wrong type that is probably meant as the expected one."""
    if expected == "a string" and isinstance(value, bool | int | float):
        return f"; write it in quotes: {json.dumps(str(value).lower())}"
    if not isinstance(value, str):
        return ""
    if expected == "true or false" and value.lower() in ("true", "false"):
        return "; write it without quotes" if value.islower() else f"; write {value.lower()}"
    number = as_number(value) if expected in ("a number", "an integer") else ""
    if not number or (expected == "an integer" and not number.lstrip("+-").isdecimal()):
        return ""
    return "; write it without quotes" if number == value else f"; write {number}"


def _close(value: object, names: list[str]) -> str:
    close = closest(value, names) if isinstance(value, str) else None
    return f"; did you mean {close!r}?" if close else ""
