"""Options: a table of a scenario file becomes a rule, named by `kind`, with strict types.

`Slot` and `Rule` annotate fields that hold a section or a rule. Both read their table with
`construct`, which finds all problems of the table at once and words them alike: what was expected,
what was got, how to fix it.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from typing import Annotated, Any, TypeVar, get_args, get_origin

from pydantic import GetCoreSchemaHandler, GetJsonSchemaHandler, TypeAdapter, ValidationError
from pydantic.fields import FieldInfo
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, InitErrorDetails, PydanticCustomError, core_schema

from p2pfrl.core.docs import attributes, summary
from p2pfrl.core.members import Members
from p2pfrl.core.wording import as_number, closest, did_you_mean, show

T = TypeVar("T")
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


@cache
def _adapter(cls: Any) -> TypeAdapter[Any]:
    return TypeAdapter(cls)


def adapter(cls: type[T]) -> TypeAdapter[T]:
    """Return the validator of a class, made once."""
    found: TypeAdapter[T] = _adapter(cls)  # type: ignore[arg-type]
    return found


def options_of(cls: type) -> dict[str, dataclasses.Field[Any]]:
    """Return the options of a rule: its fields, by the name that they have in files."""
    infos: Mapping[str, FieldInfo] = cls.__pydantic_fields__  # type: ignore[attr-defined]
    return {_name(field.name, infos): field for field in dataclasses.fields(cls) if field.init}


def _name(field: str, infos: Mapping[str, FieldInfo]) -> str:
    """Return the name of a field in files, which may be a word that Python keeps for itself."""
    alias = infos[field].validation_alias
    return alias if isinstance(alias, str) else field


def construct(cls: type[T], options: Mapping[str, object]) -> T:
    """Return `cls(**options)`, or raise an error with all problems of the options.

    Problems are unknown keys, missing keys, wrong types and wrong values.
    """
    known = options_of(cls)
    problems = [
        problem(f"unknown key{did_you_mean(name, known)}", name, value=options[name])
        for name in options
        if name not in known
    ]
    own = {name: value for name, value in options.items() if name in known}
    try:
        made: T = adapter(cls).validate_json(json.dumps(own), strict=True)
    except ValidationError as error:
        problems += details(error)
    if problems:
        raise refuse(*problems)
    return made


class Slot:
    """Annotation of a field whose table is an instance of one class."""

    def __init__(self, cls: type) -> None:
        self.cls = cls

    def __get_pydantic_core_schema__(
        self, source: object, handler: GetCoreSchemaHandler
    ) -> CoreSchema:
        """Validate with `read`, whatever the field's own type says."""
        return core_schema.no_info_plain_validator_function(self.read)

    def __get_pydantic_json_schema__(
        self, schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> JsonSchemaValue:
        """Return the JSON schema of the table."""
        return self.json_schema()

    def read(self, value: object) -> object:
        """Return the instance that a table describes; an instance made in Python passes."""
        if isinstance(value, Mapping):
            return self.make(value)
        if value is None or isinstance(value, str | int | float | list | tuple):
            return self.short(value)
        return value

    def make(self, value: Mapping[str, object]) -> object:
        """Return the instance that a table describes."""
        return construct(self.cls, value)

    def short(self, value: object) -> object:
        """Return what a value that is not a table stands for."""
        raise refuse(problem(f"expected a table, got {show(value)}", value=value))

    def dump(self, value: object) -> object:
        """Return the table that would be read as `value`."""
        return dump(value)

    def json_schema(self) -> JsonSchemaValue:
        """Return the JSON schema of the table."""
        return schema_of(self.cls)


def slot_of(cls: type, field: str) -> Slot:
    """Return the annotation of a field that holds a section or a rule."""
    infos: Mapping[str, FieldInfo] = cls.__pydantic_fields__  # type: ignore[attr-defined]
    return next(mark for mark in infos[field].metadata if isinstance(mark, Slot))


class Rule(Slot):
    """Annotation of a field whose table is a rule, named by `kind`.

    Args:
        what: what the rules are called together, in messages.
        rules: returns the rules to choose from; asked for when a table is read, not before.
        default: the kind of a table that names none; None where it must.
    """

    def __init__(
        self, what: str, rules: Callable[[], Members[object]], default: str | None = None
    ) -> None:
        self.what = what
        self.rules = rules
        self.default = default

    def make(self, value: Mapping[str, object]) -> object:
        """Return the rule that `kind` names, with the other keys as its options."""
        cls = self.choose(value)
        return construct(cls, {name: option for name, option in value.items() if name != "kind"})

    def choose(self, value: Mapping[str, object]) -> type:
        """Return the class that `kind` names."""
        rules = self.rules()
        kind = value.get("kind", self.default)
        if kind is None:
            raise refuse(problem(f"kind is required: one of {', '.join(rules)}", value=value))
        if not isinstance(kind, str):
            raise refuse(problem(f"expected a string, got {show(kind)}", "kind", value=kind))
        if kind not in rules:
            message = f"no {show(kind)} among {self.what}{did_you_mean(kind, rules)}"
            raise refuse(problem(message, "kind", value=kind))
        return rules[kind]

    def short(self, value: object) -> object:
        """Refuse: a rule is a table."""
        example = f'{{kind = "{self.default or next(iter(self.rules()), "...")}"}}'
        raise refuse(problem(f"expected a table such as {example}, got {show(value)}", value=value))

    def dump(self, value: object) -> object:
        """Return the table that would be read as `value`.

        A class of the user's own is named by its module and its name in it.
        """
        kind = self.rules().name_of(type(value))
        kind = kind or f"{type(value).__module__}.{type(value).__qualname__}"
        return {"kind": kind, **(dump(value) if dataclasses.is_dataclass(value) else {})}

    def json_schema(self) -> JsonSchemaValue:
        """Return one alternative per rule, told apart by `kind`."""
        return {
            "oneOf": [rule_schema(kind, cls, self.default) for kind, cls in self.rules().items()]
        }


def rule_schema(kind: str, cls: type, default: str | None) -> JsonSchemaValue:
    """Return the JSON schema of a rule's table, `kind` included."""
    schema = schema_of(cls)
    schema["properties"] = {"kind": {"const": kind}, **schema.get("properties", {})}
    if kind != default:
        schema["required"] = ["kind", *schema.get("required", [])]
    return schema


def schema_of(cls: type) -> JsonSchemaValue:
    """Return the JSON schema of a class, with the descriptions of its docstring."""
    schema = adapter(cls).json_schema()
    schema["description"] = summary(cls.__doc__)
    infos: Mapping[str, FieldInfo] = cls.__pydantic_fields__  # type: ignore[attr-defined]
    known = {_name(name, infos): text for name, text in attributes(cls).items() if name in infos}
    for name, option in schema.get("properties", {}).items():
        if name in known:
            option["description"] = known[name]
    return schema


def dump(value: Any) -> dict[str, Any]:
    """Return the options of a section or rule as a table; options that are None are left out."""
    fields: Mapping[str, FieldInfo] = type(value).__pydantic_fields__
    table = {}
    for name, field in fields.items():
        option = getattr(value, name)
        if option is not None:
            table[_name(name, fields)] = _dump(option, field.annotation, field.metadata)
    return table


def _dump(value: Any, annotation: Any, metadata: Sequence[object]) -> Any:
    for mark in metadata:
        if isinstance(mark, Slot):
            return mark.dump(value)
    inner = get_args(annotation)
    if isinstance(value, Mapping):
        return {
            name: _dump_inner(child, inner[-1] if inner else Any) for name, child in value.items()
        }
    if isinstance(value, tuple | list):
        return [_dump_inner(child, inner[0] if inner else Any) for child in value]
    return value


def _dump_inner(value: Any, annotation: Any) -> Any:
    if get_origin(annotation) is Annotated:
        return _dump(value, annotation.__origin__, annotation.__metadata__)
    return _dump(value, annotation, ())
