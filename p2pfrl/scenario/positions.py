"""Positions of all keys in a TOML file, and limits that are checked before parsing.

`tomllib` gives values without positions, and takes gigabytes for a long dotted key. tree-sitter
parses in linear time and space and keeps positions, so texts that are too deep or too long are
refused before `tomllib` reads them.
"""

from __future__ import annotations

import re
import tomllib
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import tree_sitter
import tree_sitter_toml

from p2pfrl.core.errors import ScenarioError
from p2pfrl.core.tables import KeyPath
from p2pfrl.core.text import EncodingError, decode

MAX_BYTES = 64 * 1024
MAX_DEPTH = 12
MAX_DIGITS = 40

_SYNTAX_DEPTH = 4 * MAX_DEPTH
_TOML_ERROR = re.compile(r"(.*?) ?\(at (?:line (\d+), column (\d+)|end of document)\)", re.DOTALL)


_FIXES = {
    "Cannot mutate immutable namespace": "a table in braces is whole: write this key into them",
    "Cannot redefine namespace": "a table in braces is whole: write its keys into them",
    "Cannot overwrite a value": "the key is there already: remove one of them",
    "Duplicate inline table key": "remove one of them",
    "Cannot declare": "write all its keys below one head",
    "Illegal character '\\n'": "a quote or a brace is not closed in this line",
    "Invalid value": "text needs quotes, and yes and no are true and false",
    "Expected '=' after a key": "write key = value",
    "Invalid statement": "write key = value, or [section]",
}
"""Beginnings of messages of `tomllib` -> what to do."""


@dataclass(frozen=True)
class Document:
    """A parsed file.

    Attributes:
        source: name of the file in messages.
        values: its tables.
        places: (line, column) of every key and array element, counted from 1.
    """

    source: str
    values: dict[str, Any]
    places: dict[KeyPath, tuple[int, int]] = field(default_factory=dict)


def parse(text: bytes, source: str) -> Document:
    """Return the tables of a TOML text and the positions of their keys.

    Raises:
        ScenarioError: the text is not TOML or exceeds a limit.
    """
    if len(text) > MAX_BYTES:
        raise ScenarioError(
            [f"{source}:1:1: the file has {len(text)} bytes, the limit is {MAX_BYTES}"]
        )
    try:
        decoded = decode(text)
    except EncodingError as error:
        raise ScenarioError([f"{source}:{error.line}:{error.column}: {error}"]) from error
    tree = _parser().parse(decoded.encode())
    _limit(tree.root_node, source)
    try:
        values = tomllib.loads(decoded)
    except tomllib.TOMLDecodeError as error:
        raise ScenarioError([_syntax(str(error), decoded, source)]) from error
    places: dict[KeyPath, tuple[int, int]] = {}
    _index(tree.root_node, places)
    return Document(source, values, places)


@cache
def _parser() -> tree_sitter.Parser:
    return tree_sitter.Parser(tree_sitter.Language(tree_sitter_toml.language()))


def _syntax(message: str, text: str, source: str) -> str:
    match = _TOML_ERROR.fullmatch(message)
    what = match[1] if match else message
    what += next((f"; {fix}" for words, fix in _FIXES.items() if what.startswith(words)), "")
    if match and match[2]:
        return f"{source}:{match[2]}:{match[3]}: {what}"
    return f"{source}:{text.count(chr(10)) + 1}:{len(text) - text.rfind(chr(10))}: {what}"


def _limit(root: tree_sitter.Node, source: str) -> None:
    """Raise an error if nesting is too deep or a number too long.

    It visits no node below the limit.
    """
    level = [root]
    for depth in range(_SYNTAX_DEPTH + 1):
        below: list[tree_sitter.Node] = []
        for node in level:
            if depth == _SYNTAX_DEPTH:
                raise ScenarioError(
                    [f"{_at(node, source)}: nested too deeply, the limit is {MAX_DEPTH} levels"]
                )
            if node.type in ("integer", "float") and node.end_byte - node.start_byte > MAX_DIGITS:
                raise ScenarioError(
                    [f"{_at(node, source)}: a number longer than {MAX_DIGITS} characters"]
                )
            below += node.children
        level = below
        if not level:
            return


def _at(node: tree_sitter.Node, source: str) -> str:
    return f"{source}:{node.start_point[0] + 1}:{node.start_point[1] + 1}"


def _keys(node: tree_sitter.Node) -> list[tuple[str, tree_sitter.Node]]:
    """Return the parts of a bare, quoted or dotted key, with their nodes."""
    if node.type == "dotted_key":
        return [part for child in node.named_children for part in _keys(child)]
    text = (node.text or b"").decode("utf-8", "replace")
    if node.type == "quoted_key":
        return [(next(iter(tomllib.loads(f"{text} = 0")), text), node)]
    return [(text, node)]


def _index(root: tree_sitter.Node, places: dict[KeyPath, tuple[int, int]]) -> None:
    elements: dict[KeyPath, int] = {}
    for node in root.named_children:
        if node.type == "pair":
            _pair(node, (), places)
        elif node.type in ("table", "table_array_element") and node.named_children:
            prefix = _header(node, elements, places)
            for child in node.named_children[1:]:
                if child.type == "pair":
                    _pair(child, prefix, places)


def _header(
    node: tree_sitter.Node, elements: dict[KeyPath, int], places: dict[KeyPath, tuple[int, int]]
) -> KeyPath:
    """Return the path of a table's header. In an array of tables it is that of the last element."""
    prefix: KeyPath = ()
    parts = _keys(node.named_children[0])
    for position, (part, key) in enumerate(parts):
        prefix = (*prefix, part)
        _note(places, prefix, key)
        if node.type == "table_array_element" and position == len(parts) - 1:
            elements[prefix] = elements.get(prefix, -1) + 1
        if prefix in elements:
            prefix = (*prefix, elements[prefix])
            _note(places, prefix, key)
    return prefix


def _pair(node: tree_sitter.Node, prefix: KeyPath, places: dict[KeyPath, tuple[int, int]]) -> None:
    key, value = node.named_children[0], node.named_children[-1]
    for part, part_node in _keys(key):
        prefix = (*prefix, part)
        _note(places, prefix, part_node)
    _value(value, prefix, places)


def _value(node: tree_sitter.Node, path: KeyPath, places: dict[KeyPath, tuple[int, int]]) -> None:
    if node.type == "inline_table":
        for child in node.named_children:
            if child.type == "pair":
                _pair(child, path, places)
    elif node.type == "array":
        for index, child in enumerate(c for c in node.named_children if c.type != "comment"):
            _note(places, (*path, index), child)
            _value(child, (*path, index), places)


def _note(places: dict[KeyPath, tuple[int, int]], path: KeyPath, node: tree_sitter.Node) -> None:
    places.setdefault(path, (node.start_point[0] + 1, node.start_point[1] + 1))
