"""Arguments that commands share, exit codes, and output of results."""

from __future__ import annotations

import json
import os
import re
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from math import inf, nan
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import Parameter, Token

from p2pfrl.commands.streams import results
from p2pfrl.core.errors import ScenarioError, ScenarioWarning
from p2pfrl.core.interrupts import INTERRUPTED as INTERRUPTED

if TYPE_CHECKING:
    from p2pfrl.scenario import Scenario

DONE, FAILED, BAD_USAGE, MISSED_TARGET = 0, 1, 2, 3
_UNDECODED = re.compile("[\ud800-\udfff]")
_SHARD = re.compile(r"([0-9]{1,9})/([0-9]{1,9})")
_WHOLE = re.compile(r"[+-]?[0-9]{1,30}")


def whole(type_: object, tokens: Sequence[Token]) -> int:
    """Return an option's integer. The library would round 1.5 to 2.

    Raises:
        ScenarioError: it is no integer.
    """
    text = tokens[0].value.strip()
    if not _WHOLE.fullmatch(text):
        where = tokens[0].keyword
        raise ScenarioError([f"{where}: expected an integer, got {tokens[0].value!r}"])
    return int(text)


def processes(type_: object, tokens: Sequence[Token]) -> int:
    """Return an option's number of processes.

    Raises:
        ScenarioError: it is no integer from 1 on.
    """
    if (found := whole(type_, tokens)) < 1:
        raise ScenarioError([f"--jobs: expected at least 1 process, got {found}"])
    return found


def seconds(type_: object, tokens: Sequence[Token]) -> float:
    """Return an option's number of seconds.

    Raises:
        ScenarioError: it is no number from 0 on.
    """
    text, where = tokens[0].value, tokens[0].keyword
    try:
        found = float(text)
    except ValueError:
        found = nan
    if not 0 <= found < inf:
        raise ScenarioError([f"{where}: expected seconds from 0 on, got {text!r}"])
    return found


def directory(type_: object, path: Path | None) -> None:
    """Require a name of a directory that is text, which reports can hold, and no file.

    Raises:
        ScenarioError: it has bytes that are not UTF-8, or there is a file.
    """
    if path is None:
        return
    if _UNDECODED.search(str(path)):
        raise ScenarioError([f"--out: expected a name in UTF-8, got {str(path)!r}"])
    for place in (path, *path.parents):
        if os.path.exists(place) and not os.path.isdir(place):
            raise ScenarioError([f"--out {path}: expected a directory, but {place} is a file"])


Set = Annotated[
    tuple[str, ...],
    Parameter(
        name="--set",
        negative=(),
        help="A key of the scenario, such as learner.lr=1e-3; repeatable.",
    ),
]
Settings = Annotated[
    tuple[str, ...],
    Parameter(
        name="--set",
        negative=(),
        help="A key and its values, such as learner.lr=1e-3,3e-4; repeatable.",
    ),
]
Seed = Annotated[int | None, Parameter(converter=whole, help="Replaces the scenario's seed.")]
Out = Annotated[Path | None, Parameter(validator=directory, help="Directory for the results.")]
Width = Annotated[
    str | None,
    Parameter(
        help="Width for print, with text of 7 to 9 points: column (3.4 in), page (7 in), 86mm, 9cm, 5in."
    ),
]
Formats = Annotated[
    str | None,
    Parameter(name="--format", help="Formats: svg, png, pdf; svg,png by default, all of a paper."),
]
Names = Annotated[
    str, Parameter(name=["--figure", "--only"], help="Names of figures, such as return,consensus.")
]
Style = Annotated[
    Literal["page", "paper"],
    Parameter(
        name="--style",
        help="paper: as wide as a column, text of 7 to 9 points, thin lines.",
    ),
]
Against = Annotated[
    Literal["rounds", "bytes", "seconds", "steps"] | None,
    Parameter(
        name="--x", help="Horizontal axis of curves; by default one panel for each of several."
    ),
]
Json = Annotated[bool, Parameter(name="--json", negative=(), help="Print the result as JSON.")]
Quiet = Annotated[bool, Parameter(name=["--quiet", "-q"], negative=(), help="Print no progress.")]
Seeds = Annotated[str | None, Parameter(help="Seeds, such as 0-4 or 1,2,7; 0-4 by default.")]
Only = Annotated[int | None, Parameter(converter=whole, help="One seed, instead of --seeds.")]
Modes = Annotated[
    str | None, Parameter(help="Modes, such as gossip,central; all are compared with the first.")
]
Recipes = Annotated[
    str | None,
    Parameter(help="Recipes in place of the one that the file extends, such as fedavg,scaffold."),
]
Csv = Annotated[bool, Parameter(name="--csv", negative=(), help="Print the table as CSV.")]
Latex = Annotated[bool, Parameter(name="--latex", negative=(), help="Print the tables as LaTeX.")]
Target = Annotated[
    bool, Parameter(negative=(), help="Exit with 3 if stop.target_return is missed.")
]
Trace = Annotated[bool, Parameter(negative=(), help="Keep every event: events.jsonl, trace.json.")]
LivePage = Annotated[
    bool, Parameter(name="--live", negative=(), help="Show the run on a live page in the browser.")
]
NoReport = Annotated[
    bool,
    Parameter(
        name="--no-report",
        negative=(),
        help="Draw no figures and write no report; `p2pfrl report RUN` does so later.",
    ),
]
Tracked = Annotated[
    Literal["tensorboard", "wandb", "mlflow"] | None,
    Parameter(
        name="--log", help="A tracker that gets all numbers and figures; its files are in the run."
    ),
]
Transport = Annotated[
    Literal["memory", "tcp"],
    Parameter(help="tcp: run the agents as --jobs processes on this machine, in real time."),
]
PROCESSES = 4
MOST_WORKERS = 1024
Processes = Annotated[
    int | None,
    Parameter(
        name=["--jobs", "-j"],
        converter=processes,
        help="Processes of --transport tcp; 4 by default.",
    ),
]


def workers(type_: object, tokens: Sequence[Token]) -> int | str:
    """Return a number of worker processes, or "auto".

    Raises:
        ScenarioError: it is neither.
    """
    if tokens[0].value.strip() == "auto":
        return "auto"
    try:
        count = whole(type_, tokens)
    except ScenarioError:
        count = 0
    if not 1 <= count <= MOST_WORKERS:
        expected = f"expected auto or a number from 1 to {MOST_WORKERS:,}"
        raise ScenarioError([f"--workers: {expected}, got {tokens[0].value!r}"])
    return count


Workers = Annotated[
    int | Literal["auto"] | None,
    Parameter(
        name="--workers",
        converter=workers,
        help="Processes that train in one run; by default auto: one per core where it pays. With --transport tcp "
        "so many for each of its processes, 1 by default.",
    ),
]
Executor = Annotated[
    Literal["local", "ray"],
    Parameter(
        name="--executor", help="What computes: this machine, or a Ray cluster at --address."
    ),
]
Address = Annotated[
    str | None,
    Parameter(
        name="--address",
        help="Head of the Ray cluster, such as 10.0.0.1:6379; by default the one on this machine.",
    ),
]


def shard_of(given: str | None) -> tuple[int, int] | None:
    """Return which part of how many, as --shard says.

    Raises:
        ScenarioError: it is not written as i/n, with i from 1 to n.
    """
    if given is None:
        return None
    found = _SHARD.fullmatch(given.strip())
    if found is None or not 1 <= int(found[1]) <= int(found[2]):
        expected = "expected i/n with i from 1 to n, such as 1/8"
        raise ScenarioError([f"--shard: {expected}, got {given!r}"])
    return int(found[1]), int(found[2])


Shard = Annotated[
    str | None,
    Parameter(
        name="--shard",
        help="Do the i-th of n parts of the runs, such as 1/8; --resume without it makes the table.",
    ),
]


def cluster(executor: str, address: str | None) -> str | None:
    """Return the address of the cluster that computes; None: this machine does.

    Raises:
        ScenarioError: there is an address, and no cluster is wanted.
    """
    if executor == "local" and address is not None:
        raise ScenarioError([f"--address {address}: this machine computes; give --executor ray"])
    return None if executor == "local" else address or "auto"


Jobs = Annotated[int, Parameter(name=["--jobs", "-j"], converter=processes, help="Processes.")]
Resume = Annotated[bool, Parameter(negative=(), help="Keep complete runs, and do the others.")]
ResumeRun = Annotated[
    Path | None,
    Parameter(
        name="--resume",
        help="Directory of a killed or interrupted run: continue from its last checkpoint.",
    ),
]
Overwrite = Annotated[bool, Parameter(negative=(), help="Repeat the runs in --out.")]
Replace = Annotated[
    bool, Parameter(name="--overwrite", negative=(), help="Replace the run in --out.")
]


@dataclass(frozen=True)
class Overrides:
    """Settings on the command line."""

    set: tuple[str, ...] = ()
    seed: int | None = None

    def load(self, file: str, own: Sequence[int] = ()) -> Scenario:
        """Return the scenario of `file` with these settings on top.

        The environments of the agents `own` are opened before those of others would be.
        """
        from p2pfrl.commands.values import overrides
        from p2pfrl.scenario import load
        from p2pfrl.scenario.checks.notes import notes

        values = overrides(self.set)
        if "seed" in values and self.seed is not None:
            raise ScenarioError(["--seed: expected either --seed or --set seed, got both"])
        values = values if self.seed is None else {**values, "seed": self.seed}
        if own:
            from p2pfrl.scenario.own import open_own

            open_own(file, values, own)
        scenario = load(file, values)
        for note in notes(scenario):
            warnings.warn(note, ScenarioWarning, stacklevel=2)  # `notes_on_stderr` prints it
        return scenario


def show(value: Any, as_json: bool) -> None:
    """Print a table of results, or JSON."""
    if as_json:
        print(json.dumps(value, indent=2, allow_nan=False), file=results())
        return
    width = max(map(len, value))
    for name, entry in value.items():
        print(f"{name:{width}}  {text(entry)}")


def text(value: Any) -> str:
    """Return a result as text."""
    if isinstance(value, dict):
        return ", ".join(f"{name} {text(entry)}" for name, entry in value.items()) or "-"
    if isinstance(value, list | tuple):
        return ", ".join(map(text, value)) or "-"
    if isinstance(value, bool) or value is None:
        return {True: "yes", False: "no", None: "-"}[value]
    return (
        f"{value:,}"
        if isinstance(value, int)
        else f"{value:.6g}"
        if isinstance(value, float)
        else str(value)
    )
