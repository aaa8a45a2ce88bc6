"""Layers of a scenario: overrides, the file, and the files that it extends, in this order.

Merging keeps the place of every key for messages.
"""

from __future__ import annotations

import datetime
import math
import numbers
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

from p2pfrl.catalog import table
from p2pfrl.core.errors import ScenarioError
from p2pfrl.core.files import OversizeError, read_regular
from p2pfrl.core.finder import is_file
from p2pfrl.core.options import options_of
from p2pfrl.core.tables import KeyPath, walk
from p2pfrl.core.wording import did_you_mean, show
from p2pfrl.scenario import positions
from p2pfrl.scenario.find import find, recipes
from p2pfrl.scenario.modes import MODES, RULES_OF_ALL
from p2pfrl.scenario.positions import Document

MAX_EXTENDS = 8
MAX_PROBLEMS = 100

RULE_SECTIONS: dict[tuple[str, ...], str] = {
    ("learner",): "learners",
    **{key.path: key.axis for key in RULES_OF_ALL},
    **{key.path: key.axis for mode in MODES.values() for key in mode.rules},
}
"""The path of every section that is a rule -> its axis."""


@dataclass(frozen=True)
class Layers:
    """Documents in order of precedence, and their merged values."""

    documents: tuple[Document, ...]
    values: dict[str, Any]

    def place(self, path: Sequence[str | int]) -> tuple[str, int, int]:
        """Return (file, line, column) of a key, or of the closest enclosing table in a file."""
        for length in range(len(path), 0, -1):
            prefix = tuple(path[:length])
            for document in self.documents:
                if prefix in document.places:
                    return (document.source, *document.places[prefix])
        main = next(document for document in self.documents if not isinstance(document, Overrides))
        return main.source, 1, 1

    def say(self, problems: Iterable[tuple[Sequence[str | int], str]]) -> ScenarioError:
        """Return the error that lists problems, each with its place, in order.

        A problem is (path of the key, message).
        """
        placed = sorted(
            {(self.place(path), ".".join(map(str, path)), message) for path, message in problems}
        )
        lines = []
        hidden = len(placed) - MAX_PROBLEMS
        for (source, line, column), key, message in placed[:MAX_PROBLEMS]:
            where = f"--set {key}" if source == OVERRIDES else f"{source}:{line}:{column}: {key}"
            lines.append(f"{where}: {message}" if key else f"{where}{message}")
        return ScenarioError([*lines, f"... and {hidden} more"] if hidden > 0 else lines)


OVERRIDES = "--set"


class Overrides(Document):
    """Settings that override the file, from Python or `--set`."""


def read(path: str | Path, overrides: Mapping[str, object] | None = None) -> Layers:
    """Return the layers of a scenario file: overrides, the file, and the files that it extends.

    Raises:
        ScenarioError: a file is missing, is not TOML, exceeds a limit, or extends itself.
    """
    found = find(str(path), "scenarios", ".toml")
    return stack(_chain(_read(found), found), overrides)


def read_text(text: bytes, source: str, overrides: Mapping[str, object] | None = None) -> Layers:
    """Return the layers of a TOML text.

    Files that it extends are searched in the working directory.

    Raises:
        ScenarioError: as `read`.
    """
    return stack(_chain(positions.parse(text, source), Path(source)), overrides)


def stack(documents: Sequence[Document], overrides: Mapping[str, object] | None = None) -> Layers:
    """Return the layers of parsed documents in order of precedence, with overrides on top."""
    if overrides:
        documents = [_overrides(overrides), *documents]
    merged: dict[str, Any] = {}
    for document in reversed(documents):
        merged = _merge(merged, document.values, ())
    merged.pop("extends", None)
    layers = Layers(tuple(documents), merged)
    problems = [(path, reason) for path, value in walk(merged) if (reason := _unfit(value))]
    if problems:
        raise layers.say(problems)
    return layers


def _unfit(value: object) -> str:
    """Return why a value cannot be in a scenario, or ""."""
    if isinstance(value, float) and not math.isfinite(value):
        return f"expected a finite number, got {value}"
    if isinstance(value, int) and abs(value) >= 2**63:
        return "an integer of more than 64 bits"
    if isinstance(value, datetime.date | datetime.time):
        return f"dates and times are not used, got {value}"
    if value is None or isinstance(value, str | int | float | dict | list):
        return ""
    return f"expected a value that TOML can hold, got {show(value)}"


def _read(path: Path) -> Document:
    try:
        return positions.parse(read_regular(path, positions.MAX_BYTES), str(path))
    except OversizeError as error:
        raise ScenarioError([f"{path}:1:1: {error.strerror}"]) from error
    except OSError as error:
        raise ScenarioError([f"{path}: cannot be read: {error.strerror}"]) from error


def _chain(document: Document, path: Path) -> list[Document]:
    """Return a document and all documents that it extends, in order of precedence."""
    documents, seen = [document], [path.resolve()]
    while "extends" in document.values:

        def refuse(reason: str, here: Document = document) -> ScenarioError:
            return Layers((here,), {}).say([(("extends",), reason)])

        path = _base(document.values["extends"], path, refuse)
        if path.resolve() in seen or len(seen) > MAX_EXTENDS:
            what = (
                "in a circle"
                if path.resolve() in seen
                else f"through more than {MAX_EXTENDS} files"
            )
            chain = " -> ".join([*(d.source for d in documents), str(path)])
            raise refuse(f"scenarios extend each other {what}: {chain}")
        seen.append(path.resolve())
        document = _read(path)
        documents.append(document)
    return documents


def _base(name: object, beside: Path, refuse: Callable[[str], ScenarioError]) -> Path:
    """Return the file that `extends` names: a recipe, or a scenario file in the same folder."""
    known = recipes()
    if not isinstance(name, str) or "\0" in name:
        raise refuse(f"expected the name of a recipe or file, got {show(name)}")
    if name in known:
        return known[name]
    for candidate in (beside.parent / name, beside.parent / f"{name}.toml"):
        if is_file(candidate):
            return candidate
    near = [path.name for path in beside.parent.glob("*.toml")]
    raise refuse(
        f"no recipe and no file beside this one is called {show(name)}{did_you_mean(name, [*known, *near])}"
    )


def _merge(base: dict[str, Any], over: Mapping[str, Any], path: tuple[str, ...]) -> dict[str, Any]:
    """Return `base` with `over` on top, table by table. None removes a key."""
    merged = _compatible(base, over, path)
    for name, value in over.items():
        if value is None:
            merged.pop(name, None)
        elif isinstance(value, dict):
            below = merged.get(name)
            merged[name] = _merge(below if isinstance(below, dict) else {}, value, (*path, name))
        else:
            merged[name] = value
    return merged


def _compatible(
    base: dict[str, Any], over: Mapping[str, Any], path: tuple[str, ...]
) -> dict[str, Any]:
    """Return the keys of `base` that are valid under `over`.

    If `over` chooses another kind of rule, these are the options that both kinds have.
    """
    if path == ("environment",) and over.get("id", base.get("id")) != base.get("id"):
        return {name: value for name, value in base.items() if name == "instances"}
    kind = over.get("kind")
    if kind is None or kind == base.get("kind"):
        return dict(base)
    axis = RULE_SECTIONS.get(path)
    # An unknown kind keeps nothing; validation reports it with its place.
    cls = table(axis).get(kind) if axis and isinstance(kind, str) else None
    return {name: value for name, value in base.items() if cls and name in options_of(cls)}


def _overrides(overrides: Mapping[str, object]) -> Document:
    values: dict[str, Any] = {}
    places: dict[KeyPath, tuple[int, int]] = {}
    problems: list[str] = []
    for key, value in overrides.items():
        parts = key.split(".")
        if not all(parts) or len(parts) > positions.MAX_DEPTH:
            problems.append(f"{OVERRIDES} {show(key)}: expected a key such as learner.lr")
            continue
        node = values
        for depth, part in enumerate(parts[:-1], 1):
            places.setdefault(tuple(parts[:depth]), (depth, 0))
            node = node.setdefault(part, {})
            if not isinstance(node, dict):
                problems.append(
                    f"{OVERRIDES} {key}: {'.'.join(parts[:depth])} is also set to a value"
                )
                node = {}
        node[parts[-1]] = _plain(value)
        places[tuple(parts)] = (len(parts), 0)
    if problems:
        raise ScenarioError(problems)
    return Overrides(OVERRIDES, values, places)


def _plain(value: object) -> object:
    """Return a value from Python as the value that a TOML file would give.

    numpy's numbers and arrays, tensors, paths, decimals and fractions become plain values.
    """
    if isinstance(value, Mapping):
        return {str(name): _plain(child) for name, child in value.items()}
    if isinstance(value, list | tuple | range):
        return [_plain(child) for child in value]
    if isinstance(value, str):
        return str.__str__(value)
    if value is None or type(value) in (bool, int, float):
        return value
    try:
        if isinstance(value, os.PathLike):
            return os.fspath(value)
        if callable(listed := getattr(value, "tolist", None)):
            return _plain(listed())
        if isinstance(value, numbers.Integral):
            return int(value)
        if isinstance(value, numbers.Real | Decimal):
            return float(value)
    except (ValueError, OverflowError, TypeError):
        return value
    return value
