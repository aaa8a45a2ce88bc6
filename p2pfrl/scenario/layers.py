"""Layers of a scenario: overrides, the file, and the files that it extends, in this order.

Merging keeps the place of every key for messages.
"""

from __future__ import annotations

import datetime
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from p2pfrl.catalog import table
from p2pfrl.core.errors import ScenarioError
from p2pfrl.core.files import OversizeError, read_regular
from p2pfrl.core.finder import files, is_file, search
from p2pfrl.core.options import Rule, Slot, find_slot, options_of
from p2pfrl.core.tables import KeyPath, plain, walk
from p2pfrl.core.wording import closest, show
from p2pfrl.scenario import positions
from p2pfrl.scenario.find import find, recipes
from p2pfrl.scenario.positions import Document
from p2pfrl.scenario.sections import Scenario

MAX_EXTENDS = 8
MAX_PROBLEMS = 100


@dataclass(frozen=True)
class Layers:
    """Documents in order of precedence, and their merged values.

    Attributes:
        documents: overrides if there are any, the file, and the files that it extends.
        values: their merged tables.
        dropped: (path of an option, the kind that has no such option), for options of another kind.
        moved: (earlier id, id) of the environment, if a document replaces that of another.
    """

    documents: tuple[Document, ...]
    values: dict[str, Any]
    dropped: tuple[tuple[KeyPath, str], ...] = ()
    moved: tuple[str, str] | None = None

    @property
    def main(self) -> str:
        """Source of the file that the others extend or override."""
        return next(
            document.source for document in self.documents if not isinstance(document, Overrides)
        )

    def place(self, path: Sequence[str | int]) -> tuple[str, int, int]:
        """Return (file, line, column) of a key, or of the closest enclosing table in a file.

        What a document replaces has no place in the documents below it.
        """
        last = next((i for i, d in enumerate(self.documents) if _replaces(d, path)), None)
        documents = self.documents if last is None else self.documents[: last + 1]
        for length in range(len(path), 0, -1):
            prefix = tuple(path[:length])
            for document in documents:
                if prefix in document.places:
                    return (document.source, *document.places[prefix])
        return self.main, 1, 1

    def _place_now(self, path: Sequence[str | int]) -> tuple[str, int, int]:
        """Return the place of a key in the merged values: that of its table, if it was dropped."""
        is_dropped = any(tuple(path) == dropped for dropped, _ in self.dropped)
        return self.place(path[:-1] if is_dropped else path)

    def say(self, problems: Iterable[tuple[Sequence[str | int], str]]) -> ScenarioError:
        """Return the error that lists problems, each with its place, in order.

        A problem is (path of the key, message).
        """
        placed = sorted(
            {
                (self._place_now(path), ".".join(map(str, path)), message)
                for path, message in problems
            }
        )
        hidden = len(placed) - MAX_PROBLEMS
        lines = [
            f"{_where(place, key)}: {message}" if key else f"{_where(place, key)}{message}"
            for place, key, message in placed[:MAX_PROBLEMS]
        ]
        return ScenarioError([*lines, f"... and {hidden} more"] if hidden > 0 else lines)

    def notes(self) -> Iterator[str]:
        """Yield a line for every option without effect, because its rule is of another kind now.

        Options of recipes are left out: who extends one chooses another kind to be rid of them.
        """
        own = {str(path) for path in recipes().values()}
        for path, kind in self.dropped:
            place = self.place(path)
            if place[0] not in own:
                where = _where(place, ".".join(map(str, path)))
                yield f"{where}: without effect: {kind!r} has no such option"


def _where(place: tuple[str, int, int], key: str) -> str:
    source, line, column = place
    return f"{OVERRIDES}: {key}" if source == OVERRIDES else f"{source}:{line}:{column}: {key}"


OVERRIDES = "overrides"
"""Name of the overrides in messages; the command line calls them --set."""


@dataclass(frozen=True)
class Overrides(Document):
    """Settings that override the file, from Python or `--set`.

    Attributes:
        emptied: paths of tables that the files' tables give way to.
    """

    emptied: tuple[KeyPath, ...] = ()


def _replaces(document: Document, path: Sequence[str | int]) -> bool:
    """Return whether a document has a value, or empties a table, at a path or around it."""
    emptied = document.emptied if isinstance(document, Overrides) else ()
    if any(tuple(path[: len(own)]) == own for own in emptied):
        return True
    value: object = document.values
    for name in path:
        if not isinstance(value, dict) or name not in value:
            break
        value = value[name]
    return not isinstance(value, dict)


def read(path: str | Path, overrides: Mapping[str, object] | None = None) -> Layers:
    """Return the layers of a scenario file: overrides, the file, and the files that it extends.

    Raises:
        ScenarioError: a file is missing, is not TOML, exceeds a limit, or extends itself.
    """
    found = find(str(path), "scenarios", ".toml")
    return stack(_chain(_read(found), found, overrides), overrides)


def read_text(text: bytes, source: str, overrides: Mapping[str, object] | None = None) -> Layers:
    """Return the layers of a TOML text.

    Files that it extends are searched in the working directory.

    Raises:
        ScenarioError: as `read`.
    """
    return stack(_chain(positions.parse(text, source), Path(source), overrides), overrides)


def stack(documents: Sequence[Document], overrides: Mapping[str, object] | None = None) -> Layers:
    """Return the layers of parsed documents in order of precedence, with overrides on top."""
    if overrides:
        documents = [_overrides(overrides), *documents]
    merger = _Merger()
    merged: dict[str, Any] = {}
    for document in reversed(documents):
        for path in document.emptied if isinstance(document, Overrides) else ():
            _remove(merged, path)
            merger.dropped = [entry for entry in merger.dropped if entry[0][: len(path)] != path]
        merged = merger.merge(merged, document.values, ())
    merged.pop("extends", None)
    there = tuple(entry for entry in merger.dropped if not _holds(merged, entry[0]))
    layers = Layers(tuple(documents), merged, there, merger.moved)
    problems = [(path, reason) for path, value in walk(merged) if (reason := _unfit(value))]
    problems += [
        (path, "expected a key in UTF-8")
        for path, _ in walk(merged)
        if any(not _is_unicode(name) for name in path if isinstance(name, str))
    ]
    if problems:
        raise layers.say(problems)
    return layers


def _remove(values: dict[str, Any], path: KeyPath) -> None:
    """Remove a table of nested tables."""
    *outer, last = path
    node: Any = values
    for name in outer:
        node = node.get(name) if isinstance(node, dict) else None
    if isinstance(node, dict):
        node.pop(last, None)


def _holds(values: Any, path: KeyPath) -> bool:
    """Return whether nested tables have a value at `path`."""
    for name in path:
        if not isinstance(values, dict) or name not in values:
            return False
        values = values[name]
    return True


def _unfit(value: object) -> str:
    """Return why a value cannot be in a scenario, or ""."""
    if isinstance(value, float) and not math.isfinite(value):
        return f"expected a finite number, got {value}"
    if isinstance(value, int) and abs(value) >= 2**63:
        return "an integer of more than 64 bits"
    if isinstance(value, str) and not _is_unicode(value):
        return f"expected text in UTF-8, got {show(value)}"
    if isinstance(value, datetime.date | datetime.time):
        return f"dates and times are not used, got {value}"
    if value is None or isinstance(value, str | int | float | dict | list):
        return ""
    return f"expected a value that TOML can hold, got {show(value)}"


def _is_unicode(text: str) -> bool:
    """Whether a text has no bytes of another encoding, as a command line may have them."""
    return not any("\ud800" <= character <= "\udfff" for character in text)


def _read(path: Path) -> Document:
    try:
        return positions.parse(read_regular(path, positions.MAX_BYTES), str(path))
    except OversizeError as error:
        raise ScenarioError([f"{path}:1:1: {error.strerror}"]) from error
    except OSError as error:
        raise ScenarioError([f"{path}: cannot be read: {error.strerror}"]) from error


def _chain(
    document: Document, path: Path, overrides: Mapping[str, object] | None = None
) -> list[Document]:
    """Return a document and all documents that it extends, in order of precedence.

    An override of `extends` takes the place of the document's own.
    """
    documents, seen = [document], [path.resolve()]
    holder, name = document, document.values.get("extends")
    if overrides and "extends" in overrides:
        name = plain(overrides["extends"])
        holder = Overrides(OVERRIDES, {}, {("extends",): (1, 0)})
    while name is not None:

        def refuse(reason: str, here: Document = holder) -> ScenarioError:
            return Layers((here, documents[0]), {}).say([(("extends",), reason)])

        path = _base(name, path, refuse)
        if path.resolve() in seen or len(seen) > MAX_EXTENDS:
            what = (
                "in a circle"
                if path.resolve() in seen
                else f"through more than {MAX_EXTENDS} files"
            )
            chain = " -> ".join([*(d.source for d in documents), str(path)])
            raise refuse(f"scenarios extend each other {what}: {chain}")
        seen.append(path.resolve())
        document = holder = _read(path)
        documents.append(document)
        name = document.values.get("extends")
    return documents


def _base(name: object, beside: Path, refuse: Callable[[str], ScenarioError]) -> Path:
    """Return the file that `extends` names.

    It is a recipe, a scenario file in the same folder, or one that commands find by this name.
    """
    known = recipes()
    if not isinstance(name, str) or "\0" in name:
        raise refuse(f"expected the name of a recipe or file, got {show(name)}")
    if name in known:
        return known[name]
    for candidate in (beside.parent / name, beside.parent / f"{name}.toml"):
        if is_file(candidate):
            return candidate
    if (found := search(name, "scenarios", ".toml")) is not None:
        return found
    near = [path.name for path in beside.parent.glob("*.toml")]
    close = closest(name, [*known, *near, *files("scenarios", ".toml")])
    hint = (
        f"did you mean {close!r}?"
        if close
        else "`p2pfrl list recipes` and `list scenarios` name some"
    )
    raise refuse(
        f"no recipe, no file beside this one and no scenario of the package is called {show(name)}; {hint}"
    )


class _Merger:
    """Merges tables, and keeps what has no effect in the result.

    Attributes:
        dropped: as in `Layers`.
        moved: as in `Layers`.
    """

    def __init__(self) -> None:
        self.dropped: list[tuple[KeyPath, str]] = []
        self.moved: tuple[str, str] | None = None

    def merge(
        self, base: dict[str, Any], over: Mapping[str, Any], path: KeyPath, slot: Slot | None = None
    ) -> dict[str, Any]:
        """Return `base` with `over` on top, table by table. None removes a key.

        Args:
            base: the lower table.
            over: the upper table.
            path: of both.
            slot: how a scenario reads this table; None where it is no section or rule.
        """
        merged = self._compatible(base, over, path, slot)
        for name, value in over.items():
            if value is None:
                merged.pop(name, None)
            elif isinstance(value, dict):
                below = merged.get(name)
                inner = _slot(slot, path, {**merged, **over}, name)
                merged[name] = self.merge(
                    below if isinstance(below, dict) else {}, value, (*path, name), inner
                )
            else:
                merged[name] = value
        return merged

    def _compatible(
        self, base: dict[str, Any], over: Mapping[str, Any], path: KeyPath, slot: Slot | None
    ) -> dict[str, Any]:
        """Return the keys of `base` that are valid under `over`.

        If `over` chooses another kind of rule, these are the options that both kinds have. All keys
        of an environment are kept: what another one does not have is a problem of the scenario.
        """
        if path == ("environment",):
            earlier, name = base.get("id"), over.get("id", base.get("id"))
            if earlier != name and isinstance(earlier, str) and isinstance(name, str):
                self.moved = earlier, name
            return dict(base)
        kind = over.get("kind")
        if kind is None or kind == base.get("kind", getattr(slot, "default", None)):
            return dict(base)
        rules = slot.rules() if isinstance(slot, Rule) else {}
        # An unknown kind keeps nothing; validation reports it with its place.
        if not isinstance(kind, str) or kind not in rules:
            return {}
        known = options_of(rules[kind])
        self.dropped += [
            ((*path, name), kind) for name in base if name not in known and name != "kind"
        ]
        return {name: value for name, value in base.items() if name in known}


_BY_PHYSICS = {
    ("environment", "vary"): Rule("distributions", partial(table, "distributions")),
    ("environment", "drift"): Rule("drifts", partial(table, "drifts")),
}
"""Tables with a rule per physical quantity."""


def _slot(outer: Slot | None, path: KeyPath, values: Mapping[str, Any], name: str) -> Slot | None:
    """Return how a scenario reads the table `name` in a table that `outer` reads.

    Args:
        outer: reads the outer table; None at the root and where there is none.
        path: of the outer table.
        values: of the outer table.
        name: of the inner table.
    """
    if path in _BY_PHYSICS:
        return _BY_PHYSICS[path]
    if not path:
        cls: type = Scenario
    elif isinstance(outer, Rule):
        kind, rules = values.get("kind", outer.default), outer.rules()
        if not isinstance(kind, str) or kind not in rules:
            return None
        cls = rules[kind]
    elif outer is None:
        return None
    else:
        cls = outer.cls
    field = options_of(cls).get(name)
    return None if field is None else find_slot(cls, field.name)


def _overrides(overrides: Mapping[str, object]) -> Overrides:
    """Return overrides as a document; an empty table empties what the files say there."""
    values: dict[str, Any] = {}
    places: dict[KeyPath, tuple[int, int]] = {}
    emptied: list[KeyPath] = []
    problems: list[str] = []
    if not isinstance(overrides, Mapping):
        raise ScenarioError(
            [f"overrides: expected values by key, as {{'stop.rounds': 20}}, got {show(overrides)}"]
        )
    for key, given in overrides.items():
        parts = tuple(key.split(".")) if isinstance(key, str) else ()
        if not parts or not all(parts) or len(parts) > positions.MAX_DEPTH:
            problems.append(f"{OVERRIDES}: {show(key)}: expected a key such as learner.lr")
            continue
        for depth in range(1, len(parts) + 1):
            places.setdefault(parts[:depth], (depth, 0))
        value = plain(given)
        for inner, _ in walk(value):
            places.setdefault((*parts, *inner), (len(parts) + len(inner), 0))
        if value == {}:
            emptied.append(parts)
        for path, leaf in _leaves(value, parts):
            if (taken := _put(values, path, leaf)) is not None:
                what = "set twice" if taken == path else f"{'.'.join(taken)} is also set to a value"
                problems.append(f"{OVERRIDES}: {'.'.join(path)}: {what}")
    if problems:
        raise ScenarioError(problems)
    return Overrides(OVERRIDES, values, places, tuple(emptied))


def _leaves(value: object, path: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], object]]:
    """Yield what is no table, or an empty one, with its path."""
    if not isinstance(value, dict) or not value:
        yield path, value
        return
    for name, child in value.items():
        yield from _leaves(child, (*path, name))


def _put(values: dict[str, Any], path: tuple[str, ...], value: object) -> tuple[str, ...] | None:
    """Set a value in nested tables; return the path of a value that is in its way, or None."""
    node = values
    for depth, part in enumerate(path[:-1], 1):
        node = node.setdefault(part, {})
        if not isinstance(node, dict):
            return path[:depth]
    last = path[-1]
    if value == {} and isinstance(node.get(last, {}), dict):
        node.setdefault(last, {})
        return None
    if last in node and node[last] != {}:
        return path
    node[last] = value
    return None
