"""The command line: exit codes and errors. What each command does is in `commands`.

Results go to stdout, everything else to stderr. With `--json`, stdout holds JSON in any case: the
result, or {"error": {...}} as `failures.as_json` writes it. Exit codes: 0 done, 1 failed, 2 bad
usage or scenario, 3 finished without reaching a target that was required, 130 interrupted (after
saving).
"""

from __future__ import annotations

import os
import re
import sys
from codecs import register_error
from collections.abc import Sequence
from contextlib import suppress
from itertools import pairwise

from cyclopts import App, CycloptsError

from p2pfrl import __version__
from p2pfrl.commands.arguments import BAD_USAGE, DONE, FAILED, INTERRUPTED
from p2pfrl.commands.encoding import in_ascii
from p2pfrl.commands.failures import as_json, as_typed, notes_on_stderr, shortened
from p2pfrl.commands.streams import Dropping, Naming, UnwrittenError, only_results
from p2pfrl.core.causes import FOREIGN, cause
from p2pfrl.core.errors import P2PFRLError, ScenarioError
from p2pfrl.core.wording import key_of

app = App(
    name="p2pfrl",
    help="Decentralized federated reinforcement learning: simulate it exactly, then deploy it unchanged.",
    version=__version__,
    help_format="plaintext",
    suppress_keyboard_interrupt=False,
)
_COMMANDS = {
    "scenario": "runs:scenario",
    "compare": "runs:compare",
    "sweep": "runs:sweep",
    "validate": "quick:validate",
    "list": "quick:list_",
    "schema": "quick:schema",
    "new": "quick:new",
    "plot": "records:plot",
    "report": "records:report",
    "render": "rendering:render",
    "show": "records:show",
    "runs": "records:runs",
    "export": "records:export",
    "watch": "watching:watch",
    "verify": "runs:verify",
    "peer": "lan:peer",
    "collect": "lan:collect",
    "status": "lan:status",
    "stop": "lan:stop",
    "leave": "lan:leave",
    "audit": "lan:audit",
    "calibrate": "calibrate:calibrate",
    "pki": "lan:pki",
    "fuzz": "fuzz:fuzz",
    "bench": "benchmarks:bench",
}
"""Name -> module and function in `commands`, imported when the command is named."""
_MISSING = re.compile(r'Command "([\w ]+)" parameter --([a-z-]+) requires an argument\.')
_UNUSED = re.compile(r"Unused Tokens: \[(.*)\]\.")
for _name, _place in _COMMANDS.items():
    app.command(f"p2pfrl.commands.{_place}", name=_name)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code."""
    words = sys.argv[1:] if arguments is None else list(arguments)
    wants_json = "--json" in words

    def fail(code: int, *problems: str) -> int:
        problems = tuple(shortened(as_typed(problem)) for problem in problems)
        print("\n".join(problems), file=sys.stderr)
        if wants_json:
            with suppress(OSError):  # where stdout itself failed, stderr has said so
                print(as_json(problems, code), flush=True)
        return code

    if arguments is None:  # this is the program
        sys.stderr = sys.stderr and Dropping.of(sys.stderr)
        sys.stdout = sys.stdout and Naming.of(sys.stdout)
    if sys.stderr is None:  # closed: whatever the program opens next would get its messages
        sys.stderr = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115  # until the end
    if sys.stdout is None:
        return fail(
            FAILED, "stdout: expected a file or a terminal, got a closed one; try >/dev/null"
        )
    try:
        here = os.getcwd()
    except FileNotFoundError:
        reason = "expected one that exists, got one that was removed"
        return fail(BAD_USAGE, f"working directory: {reason}; change into another one")
    if arguments is None and not sys.flags.safe_path and here not in sys.path:
        # A script has its own folder here; `python -m` has the working directory.
        sys.path.insert(0, here)

    register_error(in_ascii.__name__, in_ascii)
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors=in_ascii.__name__)
    # Pydantic would read the metadata of every installed package to find plugins.
    os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "__all__")
    if words[:1] not in [[name] for name in _COMMANDS]:
        for name in _COMMANDS:  # what lists all commands says what each does
            app[name]
    if where := _empty(words):
        problem = f"{where}: expected a value after it, got ''; is a variable of the shell not set?"
        return fail(BAD_USAGE, problem)
    try:
        quiet = "--quiet" in words or "-q" in words
        with only_results(wants_json), notes_on_stderr(quiet=quiet):
            code = app(words, exit_on_error=False, print_error=False, result_action="return_value")
        sys.stdout.flush()
    except CycloptsError as error:
        return fail(
            BAD_USAGE, f"{_said(error)}{_meant(words)}\nTry: p2pfrl {_command(words)}--help"
        )
    except ScenarioError as error:
        return fail(BAD_USAGE, *error.problems)
    except P2PFRLError as error:
        return fail(FAILED, str(error), *getattr(error, "__notes__", ()))
    except KeyboardInterrupt as error:
        return fail(INTERRUPTED, str(error) or "interrupted")
    except BrokenPipeError:
        _write_no_more()
        return FAILED
    except OSError as error:
        if isinstance(error, UnwrittenError):
            _write_no_more()
        return fail(FAILED, _in_words(error))
    except MemoryError as error:
        return fail(FAILED, f"not enough memory: {error}")
    except FOREIGN as error:
        # A bug of ours has its traceback. Programs that read stdout get their object all the same.
        if wants_json and not isinstance(error, SystemExit):
            print(as_json([f"an error in p2pfrl itself: {cause(error)}"], FAILED), flush=True)
        raise
    return code if isinstance(code, int) else DONE


def _empty(words: Sequence[str]) -> str:
    """Return the option or command before the first word that is empty; "" if none is.

    An empty path would be the working directory.

    >>> _empty(["plot", "run", "--figure", ""]), _empty(["stop", ""]), _empty(["stop", "run"])
    ('--figure', 'stop', '')
    """
    for before, word in pairwise(["p2pfrl", *words]):
        option, mark, value = word.partition("=")
        if option.startswith("--") and mark and not value:
            return option
        if not word:
            return before if before.startswith("-") else words[0] or "p2pfrl"
    return ""


def _write_no_more() -> None:
    """Let nothing more that is printed reach stdout, which failed."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _said(error: CycloptsError) -> str:
    """Return what is wrong with the words of a command, in the words of our other messages.

    The library calls a positional argument by the name of an option, such as --file.
    """
    text = str(error)
    if match := _MISSING.fullmatch(text):
        return f"{match[1]}: expected {match[2].upper()}, got nothing"
    if match := _UNUSED.fullmatch(text):
        return f"expected nothing more, got {match[1]}"
    return text


def _command(words: Sequence[str]) -> str:
    """Return the command whose help explains its words, with a space; "" if there is none."""
    return f"{words[0]} " if words[:1] in [[name] for name in _COMMANDS] else ""


def _meant(words: Sequence[str]) -> str:
    """Return how to write an option that is a key of the scenario, such as --rounds; or ""."""
    given = [word for word in words if word.startswith("--") and word != "--set"]
    keys = [key_of(word[2:].partition("=")[0]) for word in given]
    return "".join(f"\nA key of the scenario is set with --set {key}=..." for key in keys if key)


def _in_words(error: OSError) -> str:
    """Return an error of the operating system with its file in front, without its number.

    >>> _in_words(FileNotFoundError(2, "No such file or directory", "a.png"))
    'a.png: No such file or directory'
    """
    has_file = isinstance(error.filename, str | bytes | os.PathLike) and error.strerror
    return f"{os.fsdecode(error.filename)}: {error.strerror}" if has_file else str(error)
