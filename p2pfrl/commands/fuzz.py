"""Command that fuzzes: random faults, attacks and rules around a scenario, under invariants."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from p2pfrl.commands.arguments import (
    DONE,
    FAILED,
    INTERRUPTED,
    Jobs,
    Json,
    Out,
    Quiet,
    Set,
    show,
    whole,
)
from p2pfrl.commands.failures import as_typed
from p2pfrl.core.errors import ScenarioError

if TYPE_CHECKING:
    from p2pfrl.fuzz.campaign import Progress, Result, Summary

_INTERVAL = 5.0
_MOST_SHOWN = 20

Cases = Annotated[
    str | None, Parameter(name="--seeds", help="Seeds, such as 0-9999; 0-999 by default.")
]
OneCase = Annotated[
    int | None, Parameter(name="--seed", converter=whole, help="One seed, instead of --seeds.")
]
Replay = Annotated[
    bool,
    Parameter(negative=(), help="Run the file itself under the invariants, as --seeds left it."),
]
Continue = Annotated[
    bool, Parameter(name="--resume", negative=(), help="Keep the seeds in --out that are done.")
]


def fuzz(
    file: str,
    *,
    seeds: Cases = None,
    seed: OneCase = None,
    set: Set = (),
    out: Out = None,
    jobs: Jobs = 1,
    resume: Continue = False,
    replay: Replay = False,
    json: Json = False,
    quiet: Quiet = False,
) -> int:
    """Check invariants while random faults, attacks and rules happen around a scenario.

    Every seed makes a small scenario around FILE. One that fails is made smaller and written to
    --out, with the command that runs it again. The exit code is 1 if a seed fails.

    Parameters
    ----------
    file
        A scenario file or name.
    """
    from p2pfrl.commands import values as settings
    from p2pfrl.results.directory import dropped_if_empty, new_series

    overrides = settings.overrides(set)
    if replay:
        if seeds is not None or seed is not None or resume or out is not None or jobs != 1:
            fix = "leave --seeds, --seed, --out, --jobs and --resume out"
            raise ScenarioError([f"--replay: the file itself is run; {fix}"])
        return _replay(file, overrides, json=json)
    if resume and out is None:
        raise ScenarioError(["--resume: expected --out with the directory to go on in"])
    from p2pfrl.fuzz.campaign import campaign

    chosen = settings.seeds_or_one("0-999" if seeds is None and seed is None else seeds, seed)
    folder = out or new_series(Path(file).stem, "fuzz")
    with dropped_if_empty(folder):
        found = campaign(
            file,
            chosen,
            folder,
            overrides=overrides,
            jobs=jobs,
            resume=resume,
            progress=None if quiet else _counting(),
        )
    _conclude(found, len(chosen), folder, as_json=json)
    if not found.is_whole:
        again = f"the same command with --out {folder} --resume goes on"
        print(f"interrupted; {again}", file=sys.stderr)
        return INTERRUPTED
    return FAILED if found.failures else DONE


def _replay(file: str, overrides: dict[str, object], *, json: bool) -> int:
    """Run a file itself under the invariants."""
    from p2pfrl.fuzz.execute import FAILED as BAD
    from p2pfrl.fuzz.execute import execute
    from p2pfrl.scenario import load

    outcome = execute(load(file, overrides), thorough=True)
    if json:
        show({"state": outcome.state, "kind": outcome.kind, "why": outcome.why}, json)
    else:
        print(f"{outcome.state}: {outcome.why or f'{outcome.events} events'}")
    return FAILED if outcome.state == BAD else DONE


def _counting() -> Progress:
    """Return what prints how many seeds are done, and the time left."""
    from p2pfrl.commands.progress import span

    printed = time.monotonic()

    def count(summary: Summary, total: int) -> None:
        nonlocal printed
        now, known = time.monotonic(), sum(summary.counts.values())
        if summary.failures and summary.failures[-1].seed in summary.files:
            last = summary.failures[-1]
            if last.seed not in told:
                told.add(last.seed)
                print(f"seed {last.seed}: {_first(last)}", file=sys.stderr, flush=True)
        if now - printed >= _INTERVAL:
            printed = now
            pace = summary.done / summary.seconds
            left = span((total - known) / pace)
            print(
                f"{known} of {total} seeds, {len(summary.failures)} failed, "
                f"{pace:.1f} per second, about {left} left",
                file=sys.stderr,
                flush=True,
            )

    told: set[int] = set()
    return count


def _first(result: Result) -> str:
    """Return the first line of why a seed failed; of a traceback the last one."""
    lines = [line for line in result.why.splitlines() if line.strip()] or [result.kind]
    return as_typed(lines[-1] if lines[0].startswith(("Traceback", "  File")) else lines[0])


def _conclude(found: Summary, total: int, folder: Path, *, as_json: bool) -> None:
    """Print what became of the seeds, and how failures are run again."""
    pace = found.done / found.seconds if found.seconds else 0.0
    if as_json:
        rows = [
            {
                "seed": result.seed,
                "kind": result.kind,
                "why": result.why,
                "file": str(folder / f"seed-{result.seed}.toml"),
            }
            for result in found.failures
        ]
        counts = {state: found.counts[state] for state in ("passed", "stopped", "refused")}
        rest = {
            "seeds": total,
            "refused_compositions": found.refused,
            "per_second": pace,
            "failed": rows,
        }
        show({**counts, **rest}, as_json)
        return
    known = sum(found.counts.values())
    print(
        f"{known} of {total} seeds: {found.counts['passed']} passed, {len(found.failures)} failed, "
        f"{found.counts['stopped']} stopped as their scenario says, {found.counts['refused']} refused"
    )
    print(f"{found.refused} other compositions were refused; {pace:.1f} seeds per second")
    for result in found.failures[:_MOST_SHOWN]:
        print(f"seed {result.seed}: {_first(result)}")
        print(f"  p2pfrl fuzz {folder / f'seed-{result.seed}.toml'} --replay")
    if (more := len(found.failures) - _MOST_SHOWN) > 0:
        print(f"and {more} more: {folder}")
