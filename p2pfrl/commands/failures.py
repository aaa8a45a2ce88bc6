"""Messages of commands: notes, and failures as lines for people and as JSON for programs."""

from __future__ import annotations

import json
import re
import sys
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TextIO

from p2pfrl.core.errors import ScenarioWarning

_PLACE = re.compile(r"((?:--[a-z-]+ [^\s:]+|[^\s:]+:\d+:\d+|[^\s:]+)): (?=\S)")
_EXPECTED = re.compile(
    r"(?:expected |(?=must be ))(?P<expected>.+?)(?:, got:? (?P<got>.+?))?(?:; (?P<fix>.+))?",
    re.DOTALL,
)
_SETTINGS = re.compile(r"\b(?:overrides|settings): (?=\S+: )")
_GYMNASIUM = re.compile(r"\x1b\[\d+m(?:WARN|ERROR): (.*)\x1b\[0m", re.DOTALL)
_LONG_WORD = re.compile(r"\S{301,}")
_FIX = re.compile(r".*?; (?P<fix>.+)", re.DOTALL)


def as_json(problems: Sequence[str], code: int) -> str:
    """Return one line of JSON: {"error": {"code", "message", "problems": [...]}}.

    Every problem has `message`, `where`, `expected`, `got` and `fix`. A field that the message
    lacks is null.

    >>> problems = ["ring.toml:3:1: agents: expected an integer, got '4'; write it without quotes"]
    >>> as_json(problems, 2)[:27]
    '{"error": {"code": 2, "mess'
    """
    found = [{"message": message, **fields(message)} for message in problems]
    return json.dumps({"error": {"code": code, "message": "\n".join(problems), "problems": found}})


def fields(message: str) -> dict[str, str | None]:
    """Return the parts of a message: where, expected, got and fix; None for a part that it lacks.

    >>> found = fields("ring.toml:3:1: agents: expected an integer, got '4'; write it plainly")
    >>> [found[key] for key in ("where", "expected", "got", "fix")]
    ['ring.toml:3:1: agents', 'an integer', "'4'", 'write it plainly']
    >>> fields("ring.toml:7:1: mixing.alhpa: unknown key; did you mean 'alpha'?")["fix"]
    "did you mean 'alpha'?"
    """
    where, rest = [], message
    while match := _PLACE.match(rest):
        where.append(match[1])
        rest = rest[match.end() :]
    stated = _EXPECTED.fullmatch(rest) or _FIX.fullmatch(rest)
    known = stated.groupdict() if stated else {}
    return {
        "where": ": ".join(where) or None,
        **{name: known.get(name) for name in ("expected", "got", "fix")},
    }


def as_typed(message: str) -> str:
    """Return a message of the library in the words of the command line.

    >>> as_typed("overrides: learner.lr: must be at least 0.0, got -1")
    '--set learner.lr: must be at least 0.0, got -1'
    """
    return _SETTINGS.sub("--set ", message)


def shortened(message: str) -> str:
    """Return a message without the middle of its very long words, such as the name of a file.

    >>> len(shortened("x" * 5000))
    203
    """
    return _LONG_WORD.sub(lambda word: f"{word[0][:100]}...{word[0][-100:]}", message)


@contextmanager
def notes_on_stderr(*, quiet: bool = False) -> Iterator[None]:
    """Print the warnings of scenarios inside as notes on stderr, each text once.

    Warnings of Gymnasium are notes too; with `quiet` they are not printed.
    """
    shown: set[str] = set()
    with warnings.catch_warnings():
        others = warnings.showwarning

        def show(
            message: Warning | str,
            category: type[Warning],
            filename: str,
            lineno: int,
            file: TextIO | None = None,
            line: str | None = None,
        ) -> None:
            text = str(message)
            of_gymnasium = _GYMNASIUM.fullmatch(text)
            if of_gymnasium and quiet:
                return
            if of_gymnasium:
                text = f"Gymnasium: {of_gymnasium[1]}"
            elif not issubclass(category, ScenarioWarning):
                others(message, category, filename, lineno, file, line)
                return
            if text not in shown:
                shown.add(text)
                print(f"note: {as_typed(text)}", file=sys.stderr, flush=True)

        warnings.simplefilter("always", ScenarioWarning)
        warnings.filterwarnings("always", _GYMNASIUM.pattern)
        warnings.showwarning = show
        yield
