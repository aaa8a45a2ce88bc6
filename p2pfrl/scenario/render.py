"""Rendering of a `Scenario` as TOML that loads as the same scenario."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from hashlib import blake2b
from typing import Any

from p2pfrl.core.options import dump
from p2pfrl.scenario.sections import Scenario
from p2pfrl.scenario.sources import sources

_BARE = re.compile(r"[A-Za-z0-9_-]+")


def resolved(scenario: Scenario) -> str:
    """Return the scenario as TOML with all keys, in SI units and without `extends`."""
    return to_toml(dump(scenario))


def hash8(scenario: Scenario) -> str:
    """Return eight hexadecimal digits that identify the resolved scenario and its sources."""
    found = sources(scenario)
    text = "".join(f"{name}: {content}\n" for name, content in found.items())
    return blake2b((resolved(scenario) + text).encode(), digest_size=4).hexdigest()


def to_toml(values: Mapping[str, Any]) -> str:
    """Return nested tables as TOML: plain keys, then sections, then arrays of tables.

    >>> print(to_toml({"a": 1, "b": {"c": [1.5, "x"]}}), end="")
    a = 1
    <BLANKLINE>
    [b]
    c = [1.5, "x"]
    """
    lines = [
        f"{_key(name)} = {_inline(value)}"
        for name, value in values.items()
        if not _is_section(value)
    ]
    for name, value in values.items():
        if isinstance(value, Mapping):
            inner = {
                key: element
                for key, element in value.items()
                if isinstance(element, list) and _is_section(element)
            }
            lines += [
                "",
                f"[{_key(name)}]",
                *_pairs({k: v for k, v in value.items() if k not in inner}),
            ]
            for key, tables in inner.items():
                for table in tables:
                    lines += ["", f"[[{_key(name)}.{_key(key)}]]", *_pairs(table)]
        elif _is_section(value):
            for element in value:
                lines += ["", f"[[{_key(name)}]]", *_pairs(element)]
    return "\n".join(lines) + "\n"


def _is_section(value: Any) -> bool:
    return isinstance(value, Mapping) or (
        isinstance(value, list) and bool(value) and isinstance(value[0], Mapping)
    )


def _pairs(table: Mapping[str, Any]) -> list[str]:
    return [f"{_key(name)} = {_inline(value)}" for name, value in table.items()]


def _key(name: str) -> str:
    return name if _BARE.fullmatch(name) else _string(name)


def _string(text: str) -> str:
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")


def _inline(value: Any) -> str:
    if isinstance(value, Mapping):
        return "{" + ", ".join(_pairs(value)) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(_inline(element) for element in value) + "]"
    if isinstance(value, bool):
        return "true" if value else "false"
    return _string(value) if isinstance(value, str) else repr(value)
