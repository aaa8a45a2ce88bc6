"""Descriptions of one rule or section: what it computes, its options, and an example."""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import takewhile
from typing import Any

from p2pfrl.catalog import table
from p2pfrl.commands.environments import Facts, facts
from p2pfrl.core.docs import reference
from p2pfrl.core.errors import ScenarioError
from p2pfrl.core.members import Members
from p2pfrl.core.options import Rule, Slot, find_slot, options_of, schema_of
from p2pfrl.core.wording import did_you_mean, show
from p2pfrl.scenario.find import recipes

Schema = Mapping[str, Any]
_UNITS = {"20ms": "seconds", "18KiB": "bytes", "100Mbit/s": "bytes per second"}
"""Example of a value with a unit -> the unit of a plain number."""
_PLACES = {
    "drifts": "[environment.drift.NAME]",
    "learners": "[learner]",
    "schedules": "[schedule]",
    "topologies": "[topology]",
    "gates": "[gate]",
    "compressors": "[compressor]",
    "corrections": "[correction]",
    "aggregators": "[coordinator.aggregator]",
    "server_optimizers": "[coordinator.server_optimizer]",
    "faults": "[[faults]]",
    "attacks": "[[attacks]]",
}
"""Axis -> the header of its table in a scenario, where it is not the name of the axis."""
_EXAMPLES: dict[tuple[str, str], object] = {
    ("file", "path"): "abilene.graphml",
    ("trace", "path"): "demand.csv",
    ("start", "path"): "runs/first",
    ("step", "at"): 50,
    ("ramp", "length"): 20,
    ("distributed_noise", "parts"): 3,
    ("sine", "period"): 100,
    **{(kind, "factor"): 1.5 for kind in ("step", "ramp", "sine")},
    ("*", "agents"): [0],
    ("*", "groups"): [[0], [1]],
    ("*", "at"): "10s",
    ("*", "id"): "CartPole-v1",
    ("*", "name"): "first",
    ("*", "low"): 1.0,
    ("*", "high"): 2.0,
}
"""(kind, option) or ("*", required option) -> a value for examples."""


@dataclass(frozen=True)
class Option:
    """One option.

    Attributes:
        name: in scenario files.
        type: its type, and its range or choices.
        unit: unit of a plain number; "" if there is none.
        default: as in a scenario file; None if the option is required or unset.
        is_required: whether it must be given.
        meaning: a sentence.
    """

    name: str
    type: str
    unit: str
    default: str | None
    is_required: bool
    meaning: str


@dataclass(frozen=True)
class Description:
    """One rule or section.

    Attributes:
        name: in scenario files.
        text: what it computes, with its formula.
        reference: where it was published; "" if it was not.
        options: its options.
        example: TOML.
        facts: of an environment.
    """

    name: str
    text: str
    reference: str
    options: tuple[Option, ...]
    example: str
    facts: Facts | None = None


def describe(axis: str, name: str) -> Description:
    """Return the description of a rule of an axis, of a section, or of a recipe.

    Raises:
        ScenarioError: there is no such rule.
    """
    if axis == "sections":
        return _section(name)
    if axis == "recipes":
        return _recipe(name)
    rules: Members[Any] = table(axis)
    if name not in rules:
        raise ScenarioError([f"list {axis}: there is no {show(name)}{did_you_mean(name, rules)}"])
    cls = rules[name]
    options = tuple(_options(cls)) if dataclasses.is_dataclass(cls) else ()
    return Description(
        name,
        _text(cls),
        reference(cls.__doc__),
        options,
        _example(axis, name, cls),
        facts(name, cls) if axis == "environments" else None,
    )


def _recipe(name: str) -> Description:
    """Return what a recipe is, and what it sets, as TOML."""
    known = recipes()
    if name not in known:
        raise ScenarioError([f"list recipes: there is no {show(name)}{did_you_mean(name, known)}"])
    lines = known[name].read_text(encoding="utf-8").splitlines()
    comment = [*takewhile(lambda line: line.startswith("#"), lines)]
    text = "\n".join(line.lstrip("# ") for line in comment)
    example = "\n".join([f'# extends = "{name}" sets', *lines[len(comment) :]])
    return Description(name, text, "", (), example)


def sections() -> dict[str, type]:
    """Return the sections of a scenario that are no rules of an axis: name -> class."""
    from p2pfrl.scenario.environment import OwnKeys
    from p2pfrl.scenario.groups import Group
    from p2pfrl.scenario.sections import Scenario

    found = {name: find_slot(Scenario, field.name) for name, field in options_of(Scenario).items()}
    rest = {name: slot.cls for name, slot in found.items() if slot and not isinstance(slot, Rule)}
    return {"scenario": Scenario, **rest, "environment": OwnKeys, "groups": Group}


def _section(name: str) -> Description:
    known = sections()
    if name not in known:
        message = f"list sections: there is no {show(name)}{did_you_mean(name, known)}"
        raise ScenarioError([message])
    cls = known[name]
    options = tuple(_options(cls))
    given = {
        option.name: _toml(_EXAMPLES[name, option.name])
        if (name, option.name) in _EXAMPLES
        else option.default
        for option in options
    }
    lines = [f"{key} = {value}" for key, value in given.items() if value]
    header = [] if name == "scenario" else [f"[[{name}]]" if name == "groups" else f"[{name}]"]
    lines = [*header, *(line for line in lines if "{}" not in line)]
    return Description(name, _text(cls), "", options, "\n".join(lines))


def _text(cls: type) -> str:
    """Return the docstring of a class up to its first section, each paragraph on one line."""
    paragraphs = []
    for block in inspect.cleandoc(cls.__doc__ or "").split("\n\n"):
        if block.startswith(("Attributes:", "Reference", "Class variables", "Example", ">>>")):
            break
        paragraphs.append(" ".join(block.split()))
    return "\n".join(paragraphs)


def _options(cls: type) -> Iterator[Option]:
    schema = schema_of(cls)
    required = set(schema.get("required", ()))
    for name, option in schema.get("properties", {}).items():
        field = options_of(cls)[name]
        slot = find_slot(cls, field.name)
        default = option.get("default")
        yield Option(
            name,
            _rule_type(slot) if isinstance(slot, Rule) else _type(option),
            _unit(option),
            None if default is None else _toml(default),
            name in required,
            " ".join(str(option.get("description", "")).split()),
        )


def _rule_type(slot: Slot) -> str:
    assert isinstance(slot, Rule)
    short = "a number, or " if type(slot) is not Rule else ""
    if short and "values" in slot.rules():
        short = "a number, a list with one per agent, or "
    return f"{short}{{kind = {' | '.join(slot.rules())}}}"


def _type(schema: Schema) -> str:
    """Return the type of an option with its range or choices."""
    if "enum" in schema or "const" in schema:
        return " | ".join(map(_toml, schema.get("enum", [schema.get("const")])))
    for key in ("anyOf", "oneOf"):
        if key in schema:
            kinds = [_type(other) for other in schema[key] if other.get("type") != "null"]
            return " or ".join(dict.fromkeys(filter(None, kinds)))
    kind = str(schema.get("type", "value"))
    if kind == "array":
        inner = _type(schema.get("items", {}))
        return f"list of {inner}" if inner != "value" else "list"
    return f"{kind}{_range(schema)}"


def _range(schema: Schema) -> str:
    words = {
        "minimum": ">=",
        "exclusiveMinimum": ">",
        "maximum": "<=",
        "exclusiveMaximum": "<",
    }
    limits = [f"{sign} {schema[word]:g}" for word, sign in words.items() if word in schema]
    return f" {', '.join(limits)}" if limits else ""


def _unit(schema: Schema) -> str:
    examples = [
        example for other in schema.get("anyOf", ()) for example in other.get("examples", ())
    ]
    return next((f'{_UNITS[e]} or "{e}"' for e in examples if e in _UNITS), "")


def _toml(value: object) -> str:
    from p2pfrl.scenario.render import to_toml

    return to_toml({"x": [value]}).partition("= [")[2].rstrip("\n")[:-1]


def _example(axis: str, name: str, cls: type) -> str:
    """Return a table that chooses the rule, with its defaults."""
    if axis == "environments":
        lines = ["[environment]", f'id = "{name}"']
    elif axis == "payloads":
        return f'[exchange]\npayload = "{name}"'
    elif axis == "distributions":
        lines = []
    else:
        lines = [_PLACES.get(axis, f"[{'coordinator.' if axis == 'participation' else ''}{axis}]")]
        lines.append(f'kind = "{name}"')
    values = {}
    for option in _options(cls):
        given = _EXAMPLES.get((name, option.name), _EXAMPLES.get(("*", option.name)))
        value = option.default
        is_attack = axis == "attacks" and option.name == "agents"
        if (name, option.name) in _EXAMPLES or is_attack or (value is None and option.is_required):
            value = _toml(given) if given is not None else _least(option.type)
        if value is not None:
            values[option.name] = value
    if axis == "distributions":
        pairs = "".join(f", {key} = {value}" for key, value in values.items())
        return f'speed = {{kind = "{name}"{pairs}}}'
    return "\n".join([*lines, *(f"{key} = {value}" for key, value in values.items())])


def _least(kind: str) -> str:
    """Return a small value of a type, for an example."""
    if kind.startswith("list"):
        return "[1.0, 2.0]"
    if "{kind" in kind:
        return '{kind = "' + kind.partition("= ")[2].partition(" ")[0].rstrip("}") + '"}'
    return "1" if kind.startswith("integer") else "0.5" if "number" in kind else '"x"'
