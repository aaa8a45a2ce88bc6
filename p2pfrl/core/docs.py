"""Docstrings of rules, parsed: a summary, a reference, and a line for each option."""

from __future__ import annotations

import ast
import inspect
import re
from importlib.util import find_spec
from pathlib import Path

_SENTENCE = re.compile(r"(?<=[.?!])(?<!al\.)(?<!vs\.)(?<!Proc\.)(?<!Trans\.)(?<! J\.)\s+(?=[A-Z(])")
_SECTION = re.compile(r"(Attributes|Args|Returns|Raises|Yields|Examples?):\n")
_REFERENCE = re.compile(r"References?: ")
_CITED = re.compile(r"\b(18|19|20)\d\d\b|arXiv")
_ENTRY = re.compile(r"^ {4}([a-z_][\w, ]*):\s")


def summary(doc: str | None) -> str:
    """Return what a rule computes: the first sentence of its docstring that is not a citation."""
    sentences = [sentence for paragraph in _prose(doc) for sentence in _SENTENCE.split(paragraph)]
    return next(
        (sentence for sentence in sentences if not _CITED.search(sentence)),
        sentences[0] if sentences else "",
    )


def reference(doc: str | None) -> str:
    """Return where a rule was published.

    That is the paragraph that says so, otherwise the sentences that name a year.
    """
    prose = _prose(doc)
    for paragraph in prose:
        if match := _REFERENCE.match(paragraph):
            return paragraph[match.end() :]
    return " ".join(
        s for paragraph in prose for s in _SENTENCE.split(paragraph) if _CITED.search(s)
    )


def attributes(cls: type) -> dict[str, str]:
    """Return the description of each option of a rule.

    Descriptions come from the "Attributes:" of the class and of the classes that it extends.
    """
    found: dict[str, str] = {}
    for base in reversed(cls.__mro__):
        text = inspect.cleandoc(base.__doc__ or "")
        _, _, section = text.partition("Attributes:\n")
        names: list[str] = []
        for line in section.split("\n"):
            entry = _ENTRY.match(line)
            if entry and not line.startswith(" " * 5):
                names = [name.strip() for name in entry[1].split(",")]
                found.update(dict.fromkeys(names, line[entry.end() :].strip()))
            elif line.startswith(" " * 8):
                found.update({name: f"{found[name]} {line.strip()}" for name in names})
            elif line.strip():
                break
    return found


def docstrings(module: str) -> dict[str, str]:
    """Return the docstrings of the classes of a module.

    They are read from the source: the module is not executed.
    """
    spec = find_spec(module)
    assert spec is not None
    assert spec.origin is not None
    body = ast.parse(Path(spec.origin).read_text(encoding="utf-8")).body
    return {
        node.name: ast.get_docstring(node) or "" for node in body if isinstance(node, ast.ClassDef)
    }


def _prose(doc: str | None) -> list[str]:
    """Return the paragraphs of a docstring, each on one line, without sections and examples."""
    blocks = inspect.cleandoc(doc or "").split("\n\n")
    return [
        " ".join(b.split())
        for b in blocks
        if b and not _SECTION.match(b) and not b.startswith((" ", ">>>"))
    ]
