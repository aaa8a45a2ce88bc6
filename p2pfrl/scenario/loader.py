"""Loader of scenario files: it returns a `Scenario` or raises all problems with their places."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from pydantic import ValidationError

from p2pfrl.core.options import construct, phrase
from p2pfrl.scenario.checks.sections import check
from p2pfrl.scenario.layers import Layers, read, read_text
from p2pfrl.scenario.sections import Scenario


def load(path: str | Path, overrides: Mapping[str, object] | None = None) -> Scenario:
    """Return the scenario of a file.

    Args:
        path: searched as a path, in ./scenarios, and in the package's scenarios; ".toml" is
            optional.
        overrides: values by dotted key, such as {"stop.rounds": 20}; None removes a key.

    Raises:
        ScenarioError: with every problem and its file:line:column.
    """
    layers = read(path, overrides)
    layers.values.setdefault("name", Path(str(path)).stem)
    return validate(layers)


def loads(
    text: str | bytes, overrides: Mapping[str, object] | None = None, source: str = "<text>"
) -> Scenario:
    """Return the scenario of a TOML text.

    Raises:
        ScenarioError: with every problem and its line and column.
    """
    return validate(read_text(text.encode() if isinstance(text, str) else text, source, overrides))


def validate(layers: Layers) -> Scenario:
    """Return the scenario that layers describe.

    Raises:
        ScenarioError: with every problem and its place.
    """
    try:
        scenario = construct(Scenario, layers.values)
    except ValidationError as error:
        details = error.errors(include_url=False)
        raise layers.say(
            [(_path(layers.values, detail["loc"]), phrase(detail)) for detail in details]
        ) from error
    problems = check(scenario)
    if problems:
        raise layers.say(problems)
    return scenario


def _path(values: object, loc: Sequence[str | int]) -> tuple[str | int, ...]:
    """Return the key path of a location in pydantic's errors, without union members."""
    path: list[str | int] = []
    for position, part in enumerate(loc):
        child = _child(values, part)
        if child is not None:
            values = child
        elif position < len(loc) - 1 or not isinstance(values, dict):
            continue
        path.append(part)
    return tuple(path)


def _child(values: object, part: str | int) -> object | None:
    if isinstance(values, dict):
        return values.get(part)
    return (
        values[part]
        if isinstance(values, list) and isinstance(part, int) and part < len(values)
        else None
    )
