"""Options: a table of a scenario file becomes a rule, named by `kind`, with strict types.

`Slot` and `Rule` annotate fields that hold a section or a rule. Both read their table with
`construct`, which finds all problems of the table at once and words them alike: what was expected,
what was got, how to fix it.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cache
from typing import Annotated, Any, TypeVar, get_args, get_origin

from pydantic import GetCoreSchemaHandler, GetJsonSchemaHandler, TypeAdapter, ValidationError
from pydantic.fields import FieldInfo
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, core_schema

from p2pfrl.core.members import Members
from p2pfrl.core.modules import find_class, is_of_package, is_place, place_of
from p2pfrl.core.problems import details, problem, refuse
from p2pfrl.core.rule import in_our_words, unrepresentable
from p2pfrl.core.wording import closest, did_you_mean, show

T = TypeVar("T")


@cache
def _adapter(cls: Any) -> TypeAdapter[Any]:
    return TypeAdapter(cls)


def adapter(cls: type[T]) -> TypeAdapter[T]:
    """Return the validator of a class, made once."""
    found: TypeAdapter[T] = _adapter(cls)  # type: ignore[arg-type]
    in_our_words(cls)
    return found


def options_of(cls: type) -> dict[str, dataclasses.Field[Any]]:
    """Return the options of a rule: its fields, by the name that they have in files."""
    infos: Mapping[str, FieldInfo] = cls.__pydantic_fields__  # type: ignore[attr-defined]
    return {_name(field.name, infos): field for field in dataclasses.fields(cls) if field.init}


def _name(field: str, infos: Mapping[str, FieldInfo]) -> str:
    """Return the name of a field in files, which may be a word that Python keeps for itself."""
    alias = infos[field].validation_alias
    return alias if isinstance(alias, str) else field


def construct(
    cls: type[T],
    options: Mapping[str, object],
    meant: Callable[[str, Iterable[str]], str] = did_you_mean,
) -> T:
    """Return `cls(**options)`, or raise an error with all problems of the options.

    Problems are unknown keys, missing keys, wrong types and wrong values.

    Args:
        cls: a section or a rule.
        options: its table.
        meant: returns what to say of an unknown key, given the known ones.
    """
    if not options and (default := _default(cls)) is not None:
        return default
    known = options_of(cls)
    problems = [
        problem(f"unknown key{meant(name, known)}", name, value=options[name])
        for name in options
        if name not in known
    ]
    own = {name: value for name, value in options.items() if name in known}
    try:
        made: T = adapter(cls).validate_json(json.dumps(own), strict=True)
    except ValidationError as error:
        problems += details(error)
    else:
        problems += unrepresentable(made)
    if problems:
        raise refuse(*problems)
    return made


def _default(cls: type[T]) -> T | None:
    """Return `cls()`, made without a validator, or None where an option or a check needs one.

    To build the validator takes most of the time of reading a table.
    """
    checks: Any = cls.__pydantic_decorators__  # type: ignore[attr-defined]
    if checks.model_validators or checks.field_validators:
        return None
    infos: Mapping[str, FieldInfo] = cls.__pydantic_fields__  # type: ignore[attr-defined]
    made = object.__new__(cls)
    for name, info in infos.items():
        marks = [mark for mark in info.metadata if isinstance(mark, Slot)]
        if info.is_required() or (info.validate_default and info.metadata != marks):
            return None
        value = info.get_default(call_default_factory=True)
        for mark in marks if info.validate_default else ():
            value = mark.read(value)
        object.__setattr__(made, name, value)
    if hasattr(made, "__post_init__"):
        try:
            made.__post_init__()
        except ValueError:  # the validator makes a problem of it
            return None
    return made


def is_of_file(value: object) -> bool:
    """Return whether a value is of a kind that files hold."""
    return value is None or isinstance(value, str | int | float | list | tuple | Mapping)


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
        return self.short(value) if is_of_file(value) else value

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


def find_slot(cls: type, field: str) -> Slot | None:
    """Return the annotation of a field that holds a section or a rule; None for other fields."""
    infos: Mapping[str, FieldInfo] = cls.__pydantic_fields__  # type: ignore[attr-defined]
    return next((mark for mark in infos[field].metadata if isinstance(mark, Slot)), None)


def slot_of(cls: type, field: str) -> Slot:
    """Return the annotation of a field that holds a section or a rule."""
    found = find_slot(cls, field)
    assert found is not None, f"{cls.__name__}.{field} holds no section or rule"
    return found


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
        options = {name: option for name, option in value.items() if name != "kind"}
        return construct(cls, options, self._meant)

    def _meant(self, key: str, known: Iterable[str]) -> str:
        """Return what an unknown key was meant to be: a known one, or one of another kind."""
        own = list(known)
        rules = self.rules().items()
        others = [repr(kind) for kind, cls in rules if key in options_of(cls)]
        if others and closest(key, own) is None:
            return f"; it is an option of kind {', '.join(others)}"
        return did_you_mean(key, own) if own else "; this kind has no options"

    def choose(self, value: Mapping[str, object]) -> type:
        """Return the class that `kind` names."""
        rules = self.rules()
        kind = value.get("kind", self.default)
        if kind is None:
            raise refuse(problem(f"kind is required: one of {', '.join(rules)}", value=value))
        if not isinstance(kind, str):
            raise refuse(problem(f"expected a string, got {show(kind)}", "kind", value=kind))
        if kind in rules:
            return rules[kind]
        if not is_place(kind):
            message = f"no {show(kind)} among {self.what}{did_you_mean(kind, rules)}"
            if rules and closest(kind, [*rules]) is None:
                message += '; a rule of your own is named "module:Class"'
            raise refuse(problem(message, "kind", value=kind))
        try:
            found = find_class(kind)
        except ValueError as error:
            raise refuse(problem(str(error), "kind", value=kind)) from error
        if wrong := self._misfit(found):
            way = getattr(found, "IN_A_SCENARIO", "").format(place=kind)
            fix = f"; write {way}" if way else ""
            raise refuse(problem(f"{kind!r} {wrong}{fix}", "kind", value=kind))
        return found

    def read(self, value: object) -> object:
        """Return the rule that a table describes; a rule made in Python passes."""
        if is_of_file(value) or is_of_package(type(value)):
            return super().read(value)
        if isinstance(value, type):
            raise refuse(
                problem(
                    f"expected a rule, got the class {value.__name__}; write {value.__name__}()"
                )
            )
        if wrong := self._misfit(type(value)):
            raise refuse(problem(f"{show(value)} {wrong}"))
        return value

    def _misfit(self, cls: type) -> str:
        """Return why a class of a user cannot be one of these rules, or ""."""
        first: type = next(iter(self.rules().values()), object)
        bases = [base for base in first.__mro__ if base.__module__.endswith(".base")]
        if bases and not issubclass(cls, bases[-1]):
            return f"is no {bases[-1].__name__}, the contract of {self.what}"
        if lacking := sorted(getattr(cls, "__abstractmethods__", ())):
            return f"lacks {', '.join(lacking)}, which {bases[-1].__name__} demands"
        if "__pydantic_fields__" not in vars(cls):
            return f"is no rule; decorate class {cls.__name__} with @p2pfrl.rule"
        return ""

    def short(self, value: object) -> object:
        """Refuse: a rule is a table."""
        example = f'{{kind = "{self.default or next(iter(self.rules()), "...")}"}}'
        raise refuse(problem(f"expected a table such as {example}, got {show(value)}", value=value))

    def dump(self, value: object) -> object:
        """Return the table that would be read as `value`.

        A class of the user's own is named by its module and its name in it: "module:Class".
        """
        kind = self.rules().name_of(type(value)) or place_of(type(value))
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
    from p2pfrl.core.docs import attributes, summary

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
