"""A scenario is layers: overrides over the file over what it extends. Merging them keeps where every key came from."""

from __future__ import annotations

import datetime
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from p2pfrl.catalog import table
from p2pfrl.core.errors import ScenarioError
from p2pfrl.core.options import did_you_mean, options_of, show
from p2pfrl.scenario import positions
from p2pfrl.scenario.find import find, recipes
from p2pfrl.scenario.positions import Document

MAX_EXTENDS = 8

RULE_SECTIONS: dict[tuple[str, ...], str] = {
    ("learner",): "learners",
    ("schedule",): "schedules",
    ("topology",): "topologies",
    ("mixing",): "mixing",
    ("correction",): "corrections",
    ("gate",): "gates",
    ("compressor",): "compressors",
    ("privacy",): "privacy",
    ("coordinator", "aggregator"): "aggregators",
    ("coordinator", "server_optimizer"): "server_optimizers",
    ("coordinator", "participation"): "participation",
}


@dataclass(frozen=True)
class Layers:
    """Documents, the one that wins first, and what they say together."""

    documents: tuple[Document, ...]
    values: dict[str, Any]

    def place(self, path: Sequence[str | int]) -> tuple[str, int, int]:
        """Return (file, line, column) of a key, or of the closest table around it that stands somewhere."""
        for length in range(len(path), 0, -1):
            prefix = tuple(path[:length])
            for document in self.documents:
                if prefix in document.places:
                    return (document.source, *document.places[prefix])
        main = next(document for document in self.documents if not isinstance(document, Overrides))
        return main.source, 1, 1

    def say(self, problems: Iterable[tuple[Sequence[str | int], str]]) -> ScenarioError:
        """Return the error that lists problems (path of the key, message), each with its place, in order of place."""
        placed = sorted({(self.place(path), ".".join(map(str, path)), message) for path, message in problems})
        lines = []
        for (source, line, column), key, message in placed:
            where = f"--set {key}" if source == OVERRIDES else f"{source}:{line}:{column}: {key}"
            lines.append(f"{where}: {message}" if key else f"{where}{message}")
        return ScenarioError(lines)


OVERRIDES = "--set"


class Overrides(Document):
    """What was set beside the file, in Python or with `--set`."""


def read(path: str | Path, overrides: Mapping[str, object] | None = None) -> Layers:
    """Return the layers of a scenario file: overrides, the file, what it extends.

    Raises:
        ScenarioError: a file is missing, is not TOML, exceeds a limit, or extends itself.
    """
    return stack([*_chain(find(str(path), "scenarios", ".toml"))], overrides)


def stack(documents: Sequence[Document], overrides: Mapping[str, object] | None = None) -> Layers:
    """Return the layers of parsed documents, the winning one first, with overrides on top."""
    if overrides:
        documents = [_overrides(overrides), *documents]
    merged: dict[str, Any] = {}
    for document in reversed(documents):
        merged = _merge(merged, document.values, ())
    merged.pop("extends", None)
    layers = Layers(tuple(documents), merged)
    problems = [
        (path, f"expected a finite number, got {value}")
        for path, value in positions.walk(merged)
        if isinstance(value, float) and not math.isfinite(value)
    ]
    problems += [
        (path, f"dates and times are not used, got {show(value)}")
        for path, value in positions.walk(merged)
        if isinstance(value, datetime.date | datetime.time)
    ]
    if problems:
        raise layers.say(problems)
    return layers


def _chain(path: Path) -> list[Document]:
    documents: list[Document] = []
    seen: list[Path] = []
    while True:
        seen.append(path.resolve())
        try:
            with path.open("rb") as file:
                text = file.read(positions.MAX_BYTES + 1)
        except OSError as error:
            raise ScenarioError([f"{path}: cannot be read: {error.strerror}"]) from error
        document = positions.parse(text, str(path))
        documents.append(document)
        if "extends" not in document.values:
            return documents
        base = document.values["extends"]
        path = _base(base, path, lambda message, d=document: Layers((d,), {}).say([(("extends",), message)]))
        if path.resolve() in seen or len(seen) > MAX_EXTENDS:
            what = "in a circle" if path.resolve() in seen else f"through more than {MAX_EXTENDS} files"
            chain = " -> ".join([*(d.source for d in documents), str(path)])
            raise Layers((document,), {}).say([(("extends",), f"scenarios extend each other {what}: {chain}")])


def _base(name: object, beside: Path, refuse: Any) -> Path:
    """Return the file that `extends` names: a recipe, or a scenario file beside the one that names it."""
    known = recipes()
    if not isinstance(name, str) or "\0" in name:
        raise refuse(f"expected the name of a recipe or file, got {show(name)}")
    if name in known:
        return known[name]
    for candidate in (beside.parent / name, beside.parent / f"{name}.toml"):
        if candidate.is_file():
            return candidate
    near = [path.name for path in beside.parent.glob("*.toml")]
    raise refuse(f"no recipe and no file beside this one is called {show(name)}{did_you_mean(name, [*known, *near])}")


def _merge(base: dict[str, Any], over: Mapping[str, Any], path: tuple[str, ...]) -> dict[str, Any]:
    """Return `base` with `over` on top, table by table; None removes a key."""
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


def _compatible(base: dict[str, Any], over: Mapping[str, Any], path: tuple[str, ...]) -> dict[str, Any]:
    """Return what of `base` still means something under `over`: of another kind of rule, the options that both have."""
    if path == ("environment",) and over.get("id", base.get("id")) != base.get("id"):
        return {name: value for name, value in base.items() if name == "instances"}
    kind = over.get("kind")
    if kind is None or kind == base.get("kind"):
        return dict(base)
    axis = RULE_SECTIONS.get(path)
    cls = table(axis).get(kind) if axis and isinstance(kind, str) else None
    return {name: value for name, value in base.items() if cls and name in options_of(cls)}


def _overrides(overrides: Mapping[str, object]) -> Document:
    values: dict[str, Any] = {}
    places: dict[positions.Path, tuple[int, int]] = {}
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
                problems.append(f"{OVERRIDES} {key}: {'.'.join(parts[:depth])} is set to a value as well")
                node = {}
        node[parts[-1]] = _plain(value)
        places[tuple(parts)] = (len(parts), 0)
    if problems:
        raise ScenarioError(problems)
    return Overrides(OVERRIDES, values, places)


def _plain(value: object) -> object:
    """Return a value from Python as a TOML file would have given it."""
    if isinstance(value, Mapping):
        return {str(name): _plain(child) for name, child in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(child) for child in value]
    return value
