"""Values on the command line: `--set a.b=value`, grids of values, ranges of seeds."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence

from p2pfrl.core.errors import ScenarioError
from p2pfrl.core.wording import did_you_mean, show
from p2pfrl.scenario.find import recipes as find_recipes
from p2pfrl.scenario.modes import MODES
from p2pfrl.scenario.positions import parse

_MOST_SEEDS = 10_000
_SEEDS = re.compile(r"(\d{1,18})(?:-(\d{1,18}))?")
_TRUTHS = {"True": True, "TRUE": True, "False": False, "FALSE": False}
_POINTED = re.compile(r"[+-]?(\.\d{1,20}|\d{1,20}\.)([eE][+-]?\d{1,3})?")
_WIDTH = re.compile(r"(\d{1,6}(?:\.\d{1,6})?)\s*(in|cm|mm)?")
_WIDTHS = {"column": 3.4, "page": 7.0}
_UNITS = {"in": 1.0, "cm": 2.54, "mm": 25.4}
_NARROWEST, _WIDEST = 2.0, 40.0
_PIECE = re.compile(r"""(?:[^,\[\]{}"']|"[^"]*"|'[^']*')""")


def overrides(settings: Sequence[str]) -> dict[str, object]:
    """Return values by dotted key. A value is TOML, or else a plain string.

    >>> overrides(["learner.lr=1e-3", "mixing.kind=uniform", "faults=[]"])
    {'learner.lr': 0.001, 'mixing.kind': 'uniform', 'faults': []}

    Raises:
        ScenarioError: a setting has no key or no value, or a key is given twice.
    """
    return {key: value(text) for key, text in _once(settings)}


def grid(settings: Sequence[str]) -> dict[str, list[object]]:
    """Return several values by dotted key, separated by commas outside of brackets and quotes.

    >>> grid(["learner.lr=1e-3,3e-4", "environment.vary.gravity=[8, 9],9.8"])
    {'learner.lr': [0.001, 0.0003], 'environment.vary.gravity': [[8, 9], 9.8]}

    Raises:
        ScenarioError: a setting has no key or no value, or a key or value is given twice.
    """
    return {key: _distinct(key, _pieces(text)) for key, text in _once(settings)}


def _distinct(key: str, pieces: Sequence[str]) -> list[object]:
    """Return the values of a key, each of which makes runs of its own."""
    found: list[object] = []
    for piece in pieces:
        if not piece:
            shown = show(",".join(pieces))
            raise ScenarioError([f"--set {key}: expected a value between commas, got {shown}"])
        new = value(piece)
        if repr(new) in map(repr, found):  # 1 and true are equal
            raise ScenarioError([f"--set {key}: the value {piece} is given twice"])
        found.append(new)
    return found


def value(text: str) -> object:
    """Return a text as a TOML value, or the text itself.

    Numbers and truth values may be written as in Python.

    >>> value("1e-3"), value(".5"), value("True"), value("ring"), value("007")
    (0.001, 0.5, True, 'ring', '007')

    Raises:
        ScenarioError: it is too long or too deep, or has a number that is too long.
    """
    try:
        found = parse(f"value = {text}".encode("utf-8", "surrogateescape"), "--set").values
    except ScenarioError as error:
        if "limit" in str(error) or "longer than" in str(error):
            raise
        return _of_python(text)
    return found["value"] if list(found) == ["value"] else text


def _of_python(text: str) -> object:
    """Return a truth value, or a number that begins or ends with its point; else the text."""
    if text in _TRUTHS:
        return _TRUTHS[text]
    return float(text) if _POINTED.fullmatch(text) else text


def seeds_or_one(text: str | None, only: int | None) -> tuple[int, ...]:
    """Return the seeds of --seeds, or that of --seed.

    Raises:
        ScenarioError: both are given, or --seeds is not valid.
    """
    if only is None:
        return seeds("0-4" if text is None else text)
    if text is not None:
        raise ScenarioError(["--seed: expected either --seed or --seeds, got both"])
    return (only,)


def seeds(text: str) -> tuple[int, ...]:
    """Return the seeds of "0-4" or "1,2,7-9".

    >>> seeds("1,7-9")
    (1, 7, 8, 9)

    Raises:
        ScenarioError: it is neither, or names a seed twice.
    """
    found: list[int] = []
    for piece in text.split(","):
        match = _SEEDS.fullmatch(piece.strip())
        if not match:
            raise ScenarioError([f"--seeds: expected seeds such as 0-4 or 1,2,7, got {show(text)}"])
        first, last = int(match[1]), int(match[2] or match[1])
        if last < first:
            raise ScenarioError(
                [f"--seeds: expected ascending seeds, got {show(text)}; write {last}-{first}"]
            )
        if len(found) + last - first >= _MOST_SEEDS:
            raise ScenarioError(
                [f"--seeds: expected at most {_MOST_SEEDS} seeds, got {show(text)}"]
            )
        found += range(first, last + 1)
    if len(set(found)) < len(found):
        raise ScenarioError([f"--seeds: a seed appears twice in {show(text)}"])
    return tuple(found)


def modes(text: str) -> tuple[str, ...]:
    """Return the modes of "gossip,central".

    Raises:
        ScenarioError: there is no such mode, or one appears twice.
    """
    found = tuple(piece.strip() for piece in text.split(","))
    for mode in found:
        if mode not in MODES:
            raise ScenarioError(
                [f"--modes: there is no mode {show(mode)}{did_you_mean(mode, MODES)}"]
            )
    if len(set(found)) < len(found):
        raise ScenarioError([f"--modes: a mode appears twice in {show(text)}"])
    return found


def recipes(text: str) -> tuple[str, ...]:
    """Return the recipes of "fedavg,scaffold".

    Raises:
        ScenarioError: there is no such recipe, or one appears twice.
    """
    known = find_recipes()
    found = tuple(piece.strip() for piece in text.split(","))
    for name in found:
        if name not in known:
            raise ScenarioError(
                [f"--recipes: there is no recipe {show(name)}{did_you_mean(name, known)}"]
            )
    if len(set(found)) < len(found):
        raise ScenarioError([f"--recipes: a recipe appears twice in {show(text)}"])
    return found


def _once(settings: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Yield key and text of each setting, every key once."""
    seen: dict[str, str] = {}
    for key, text in map(_split, settings):
        if key in seen:
            raise ScenarioError(
                [f"--set {key}: given twice, as {show(seen[key])} and {show(text)}"]
            )
        seen[key] = text
        yield key, text


def names(option: str, text: str, known: Iterable[str]) -> tuple[str, ...]:
    """Return the names of "svg,pdf", in order and once each.

    >>> names("--format", "pdf, svg,pdf", ["svg", "png", "pdf"])
    ('pdf', 'svg')

    Raises:
        ScenarioError: there is no such name.
    """
    found = tuple(dict.fromkeys(piece.strip() for piece in text.split(",")))
    for name in found:
        if name not in (known := tuple(known)):
            raise ScenarioError([f"{option}: there is no {show(name)}{did_you_mean(name, known)}"])
    return found


def page_width(text: str) -> float:
    """Return a width in inches: of a column, of a page, or a number with a unit.

    >>> page_width("column"), page_width("3.5in"), page_width("5")
    (3.4, 3.5, 5.0)

    Raises:
        ScenarioError: it is no width, or one at which no figure can be drawn.
    """
    match = _WIDTH.fullmatch(text.strip())
    inches = _WIDTHS.get(text.strip())
    if match:
        inches = float(match[1]) / _UNITS[match[2] or "in"]
    if inches is None or not _NARROWEST <= inches <= _WIDEST:
        raise ScenarioError(
            [
                f"--width: expected column, page, or {_NARROWEST:g} to {_WIDEST:g} inches such as 86mm, 9cm or 5in; "
                f"got {show(text)}"
            ]
        )
    return inches


def _split(setting: str) -> tuple[str, str]:
    key, equals, text = setting.partition("=")
    if not equals or not key.strip() or not text.strip():
        raise ScenarioError([f"--set {show(setting)}: expected key=value, such as learner.lr=1e-3"])
    return key.strip(), text.strip()


def _pieces(text: str) -> list[str]:
    pieces, depth, start, position = [], 0, 0, 0
    while position < len(text):
        match = _PIECE.match(text, position)
        character = text[position]
        depth += (character in "[{") - (character in "]}")
        if character == "," and depth <= 0:
            pieces.append(text[start:position].strip())
            start = position + 1
        position = match.end() if match else position + 1
    return [*pieces, text[start:].strip()]
