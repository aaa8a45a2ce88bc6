"""The command line: parses, calls, prints. What a command does stands elsewhere and is imported when it is called.

Results go to stdout, everything else to stderr. Exit codes: 0 done, 1 failed, 2 bad usage or scenario, 3 finished
without reaching a target that was required, 130 interrupted (after saving).
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import App, CycloptsError, Parameter

from p2pfrl import __version__
from p2pfrl.core.errors import P2PFRLError, ScenarioError

if TYPE_CHECKING:
    from rich.console import RenderableType

    from p2pfrl.scenario import Scenario

DONE, FAILED, BAD_USAGE, MISSED_TARGET, INTERRUPTED = 0, 1, 2, 3, 130

app = App(
    name="p2pfrl",
    help="Decentralized federated reinforcement learning: simulate it exactly, then deploy it unchanged.",
    version=__version__,
    help_format="plaintext",
)

Set = Annotated[
    tuple[str, ...], Parameter(name="--set", negative=(), help="A key of the scenario, as learner.lr=1e-3; repeatable.")
]
Seed = Annotated[int | None, Parameter(help="In place of the scenario's seed.")]
Out = Annotated[Path | None, Parameter(help="Directory for the results.")]
Json = Annotated[bool, Parameter(name="--json", negative=(), help="Print the result as JSON.")]
Quiet = Annotated[bool, Parameter(name=["--quiet", "-q"], negative=(), help="Print no progress.")]
Seeds = Annotated[str, Parameter(help="Seeds, as 0-4 or 1,2,7.")]
Modes = Annotated[str, Parameter(help="Modes; the others are compared with the first.")]
Target = Annotated[bool, Parameter(negative=(), help="Exit with 3 if stop.target_return is missed.")]
Trace = Annotated[bool, Parameter(negative=(), help="Keep every event: events.jsonl, trace.json.")]
Jobs = Annotated[int, Parameter(name=["--jobs", "-j"], help="Processes.")]
Resume = Annotated[bool, Parameter(negative=(), help="Keep runs that are complete.")]


@dataclass(frozen=True)
class Told:
    """What the command line says beside the file."""

    set: tuple[str, ...] = ()
    seed: int | None = None

    def load(self, file: str) -> Scenario:
        """Return the scenario of `file` with everything on top."""
        from p2pfrl.scenario import load
        from p2pfrl.settings import overrides

        values = overrides(self.set)
        return load(file, values if self.seed is None else {**values, "seed": self.seed})


@app.command
def scenario(
    file: str,
    *,
    set: Set = (),
    seed: Seed = None,
    out: Out = None,
    json: Json = False,
    quiet: Quiet = False,
    trace: Trace = False,
    require_target: Annotated[
        bool, Parameter(negative=(), help="Exit with 3 if stop.target_return is missed.")
    ] = False,
) -> int:
    """Run a scenario: live progress, then a summary, figures and a report.

    Parameters
    ----------
    file
        A scenario file: a path, or a name in ./scenarios or among those that come with the package.
    """
    from p2pfrl.show import run_scenario

    chosen = Told(set, seed).load(file)
    if require_target and chosen.stop.target_return is None:
        raise ScenarioError([f"{file}:1:1: stop.target_return: --require-target needs one"])
    summary = run_scenario(chosen, out, trace=trace, quiet=quiet, as_json=json)
    if summary["stopped_by"] == "interrupt":
        return INTERRUPTED
    return MISSED_TARGET if require_target and not summary["target_reached"] else DONE


@app.command
def validate(file: str, *, set: Set = (), seed: Seed = None, json: Json = False, quiet: Quiet = False) -> int:
    """Check a scenario and predict what it costs: parameters, bytes, lambda_2, rounds to consensus.

    With --quiet the exit code alone tells.

    Parameters
    ----------
    file
        A scenario file or name.
    """
    from p2pfrl.preview import preview

    found = preview(Told(set, seed).load(file))
    if json or not quiet:
        _print(found, json)
    return DONE


@app.command(name="list")
def list_(axis: str = "", /, *, json: Json = False) -> int:
    """List the rules of an axis, or the axes.

    Parameters
    ----------
    axis
        environments, learners, topologies, mixing, ...; recipes; scenarios.
    """
    from p2pfrl.listing import entries

    found = entries(axis)
    if json:
        _print(found, json)
    elif not found:
        print(f"no {axis} yet")
    else:
        width = max((len(entry["name"]) for entry in found), default=0)
        for entry in found:
            print(f"{entry['name']:{width}}  {entry['summary']}")
            if entry["reference"]:
                print(f"{'':{width}}  {entry['reference']}")
    return DONE


@app.command
def schema() -> int:
    """Print the JSON schema of scenario files, for editors."""
    from p2pfrl.scenario import schema as describe

    _print(describe(), as_json=True)
    return DONE


@app.command
def new(name: str, *, out: Out = None) -> int:
    """Write a commented scenario file.

    Parameters
    ----------
    name
        Of the scenario; the file is NAME.toml, in the working directory or in --out.
    """
    from p2pfrl.scenario import new as template

    path = (out or Path()) / f"{name}.toml"
    text = template(name)
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        with path.open("x", encoding="utf-8") as file:
            file.write(text)
    except FileExistsError as error:
        raise P2PFRLError(f"{path} exists already; choose another name or --out") from error
    print(path)
    return DONE


@app.command
def plot(*runs: Path, out: Out = None) -> int:
    """Draw the figures of one run, or of several together.

    Parameters
    ----------
    runs
        Run directories.
    """
    from p2pfrl.results.report import plot as draw

    for path in draw(_some(runs), out):
        print(path)
    return DONE


@app.command
def report(*runs: Path, out: Out = None) -> int:
    """Write a self-contained report of one run, or of several together.

    Parameters
    ----------
    runs
        Run directories.
    """
    from p2pfrl.results.report import report as write

    print(write(_some(runs), out))
    return DONE


@app.command
def compare(
    file: str,
    *,
    modes: Annotated[
        str, Parameter(help="Modes; the others are compared with the first.")
    ] = "gossip,central,independent",
    seeds: Seeds = "0-4",
    set: Set = (),
    out: Out = None,
    jobs: Jobs = 1,
    resume: Resume = False,
    json: Json = False,
    quiet: Quiet = False,
) -> int:
    """Run a scenario under several modes with paired seeds, and put the results side by side.

    Parameters
    ----------
    file
        A scenario file or name.
    """
    from p2pfrl import settings
    from p2pfrl.compare import compare as run_all
    from p2pfrl.results.report import report as write
    from p2pfrl.show import counting

    values, chosen = settings.overrides(set), settings.modes(modes)
    folder = out or _below_runs(Path(file).stem, "compare")
    found = run_all(
        file,
        chosen,
        settings.seeds(seeds),
        folder,
        overrides=values,
        jobs=jobs,
        resume=resume,
        progress=None if quiet else counting,
    )
    page = write([path for paths in found.directories.values() for path in paths], folder)
    if json:
        _print(found.to_json(), json)
    else:
        _rich(found.to_rich())
        print(f"report: {page}")
    return DONE


@app.command
def sweep(
    file: str,
    *,
    seeds: Seeds = "0-4",
    set: Annotated[
        tuple[str, ...],
        Parameter(name="--set", negative=(), help="A key and its values, as learner.lr=1e-3,3e-4; repeatable."),
    ] = (),
    out: Out = None,
    jobs: Jobs = 1,
    resume: Resume = False,
    json: Json = False,
    quiet: Quiet = False,
) -> int:
    """Run a scenario at every combination of settings and seeds.

    Parameters
    ----------
    file
        A scenario file or name.
    """
    from p2pfrl import settings
    from p2pfrl.results.files import plain
    from p2pfrl.show import counting
    from p2pfrl.sweep import sweep as run_all

    grid = settings.grid(set)
    folder = out or _below_runs(Path(file).stem, "sweep")
    found = run_all(
        file,
        grid,
        settings.seeds(seeds),
        folder,
        jobs=jobs,
        resume=resume,
        progress=None if quiet else counting,
    )
    if json:
        _print(plain(list(found.rows)), json)
    else:
        for row in found.rows:
            print("  ".join(f"{key}={_text(row[key])}" for key in (*found.keys, "seed", "state", "final_return.mean")))
        print(f"table: {found.table}")
    return FAILED if found.failed else DONE


@app.command
def verify(run: Path, *, json: Json = False, quiet: Quiet = False) -> int:
    """Run a recorded scenario again and compare the digests.

    Parameters
    ----------
    run
        A run directory.
    """
    from p2pfrl.show import Lines
    from p2pfrl.verify import verify as replay

    verdict = replay(run, None if quiet else Lines())
    if json:
        _print({"equal": verdict.is_equal, "recorded": verdict.recorded, "replayed": verdict.replayed}, json)
    elif verdict.is_equal:
        print(f"equal: {verdict.replayed}")
    else:
        print(f"different: recorded {verdict.recorded}, replayed {verdict.replayed}")
    for name, (then, now) in verdict.changed.items():
        print(f"{name} was {then}, is {now}", file=sys.stderr)
    return DONE if verdict.is_equal else FAILED


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code."""
    words = sys.argv[1:] if arguments is None else list(arguments)
    try:
        code = app(words, exit_on_error=False, print_error=False, result_action="return_value")
        sys.stdout.flush()
    except CycloptsError as error:
        return _fail(f"{error}\nTry: p2pfrl --help", BAD_USAGE)
    except ScenarioError as error:
        return _fail(str(error), BAD_USAGE)
    except P2PFRLError as error:
        return _fail(str(error), FAILED)
    except KeyboardInterrupt:
        return _fail("interrupted", INTERRUPTED)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return FAILED
    except OSError as error:
        return _fail(str(error), FAILED)
    except MemoryError as error:
        return _fail(f"not enough memory: {error}", FAILED)
    return code if isinstance(code, int) else DONE


def _fail(message: str, code: int) -> int:
    print(message, file=sys.stderr)
    return code


def _some(runs: Sequence[Path]) -> Sequence[Path]:
    if not runs:
        raise ScenarioError(["RUN: expected at least one run directory"])
    return runs


def _below_runs(name: str, what: str) -> Path:
    return Path("runs") / name / f"{datetime.now(UTC):%Y%m%dT%H%M%SZ}-{what}"


def _rich(value: RenderableType) -> None:
    from rich.console import Console

    Console().print(value)


def _print(value: Any, as_json: bool) -> None:
    if as_json:
        print(json.dumps(value, indent=2, allow_nan=False))
        return
    width = max(map(len, value))
    for name, entry in value.items():
        print(f"{name:{width}}  {_text(entry)}")


def _text(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name} {_text(entry)}" for name, entry in value.items()) or "-"
    if isinstance(value, bool) or value is None:
        return {True: "yes", False: "no", None: "-"}[value]
    return f"{value:,}" if isinstance(value, int) else f"{value:.6g}" if isinstance(value, float) else str(value)
