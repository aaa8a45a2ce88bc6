"""Commands that run scenarios."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from math import isfinite, nan
from pathlib import Path
from typing import TYPE_CHECKING, Any

from p2pfrl.commands.arguments import (
    DONE,
    FAILED,
    INTERRUPTED,
    MISSED_TARGET,
    PROCESSES,
    Address,
    Csv,
    Executor,
    Jobs,
    Json,
    Latex,
    LivePage,
    Modes,
    NoReport,
    Only,
    Out,
    Overrides,
    Overwrite,
    Processes,
    Quiet,
    Recipes,
    Replace,
    Resume,
    ResumeRun,
    Seed,
    Seeds,
    Set,
    Settings,
    Shard,
    Target,
    Trace,
    Tracked,
    Transport,
    Workers,
    cluster,
    shard_of,
    show,
    text,
)
from p2pfrl.commands.failures import as_typed
from p2pfrl.core.errors import RecordError, ScenarioError
from p2pfrl.core.interrupts import explained

_TOLD = ("final_return.mean", "final_error", "consensus_distance")
"""Columns that `sweep` prints of every run, if any run has them."""

_MOST_DRAWN = 100
"""Number of settings above which `sweep` writes no report by itself."""

if TYPE_CHECKING:
    from rich.console import RenderableType

    from p2pfrl.experiment.sweep import Sweep
    from p2pfrl.experiment.workforce import Count
    from p2pfrl.scenario import Scenario


def scenario(
    file: str | None = None,
    *,
    set: Set = (),
    seed: Seed = None,
    out: Out = None,
    json: Json = False,
    quiet: Quiet = False,
    trace: Trace = False,
    require_target: Target = False,
    transport: Transport = "memory",
    jobs: Processes = None,
    workers: Workers = None,
    executor: Executor = "local",
    address: Address = None,
    resume: ResumeRun = None,
    overwrite: Replace = False,
    log: Tracked = None,
    live: LivePage = False,
    no_report: NoReport = False,
) -> int:
    """Run a scenario: live progress, then a summary, figures and a report.

    Parameters
    ----------
    file
        A scenario file: a path, or a name in ./scenarios or in the package.
    """
    from p2pfrl.commands.progress import run_directory, run_scenario

    if resume is not None:
        others = (file, *set, seed, out, jobs, overwrite or None)
        others += (None if transport == "memory" else transport,)
        if any(value is not None for value in others):
            raise ScenarioError([_not_resumed(resume, set)])
        return _resume(
            resume,
            quiet=quiet,
            as_json=json,
            trace=trace,
            needs_target=require_target,
            log=log,
            live=live,
            draws=not no_report,
            workers=workers or "auto",
            address=cluster(executor, address),
        )
    if file is None:
        raise ScenarioError(["scenario: expected a FILE to run, or --resume RUN"])
    chosen = Overrides(set, seed).load(file)
    if require_target and chosen.stop.target_return is None:
        raise ScenarioError([f"{file}:1:1: stop.target_return: --require-target needs one"])
    _fits(transport, jobs, workers, executor, trace=trace)
    if transport == "tcp":
        summary = _over_tcp(
            chosen,
            out or run_directory(chosen),
            jobs or PROCESSES,
            1 if workers is None else int(workers),
            quiet=quiet,
            as_json=json,
            overwrite=overwrite,
            log=log,
            live=live,
            draws=not no_report,
        )
    else:
        summary = run_scenario(
            chosen,
            out,
            trace=trace,
            quiet=quiet,
            as_json=json,
            overwrite=overwrite,
            log=log,
            live=live,
            draws=not no_report,
            workers=workers or "auto",
            address=cluster(executor, address),
        )
    return _code(summary, require_target)


def _fits(
    transport: str, jobs: int | None, workers: Count | None, executor: str, *, trace: bool
) -> None:
    """Refuse options of the simulator with processes over TCP, and the other way round.

    Raises:
        ScenarioError: two options do not go together.
    """
    if transport != "tcp":
        if jobs is not None:
            reason = "one run of the simulator has no jobs"
            fix = f"give --workers {jobs} or --transport tcp"
            raise ScenarioError([f"--jobs {jobs}: {reason}; {fix}"])
        return
    own = "--transport tcp has processes of its own"
    if executor != "local":
        raise ScenarioError([f"--executor {executor}: {own}"])
    if workers == "auto":
        fix = "which share the cores; give a number, for each of them"
        raise ScenarioError([f"--workers auto: {own}, {fix}"])
    if trace:
        raise ScenarioError(["--trace: the simulator alone knows the order of all events"])


def _over_tcp(
    scenario: Scenario,
    directory: Path,
    processes: int,
    workers: int,
    *,
    quiet: bool,
    as_json: bool,
    overwrite: bool,
    log: str | None,
    live: bool,
    draws: bool,
) -> Mapping[str, Any]:
    """Run a scenario as processes on this machine, say what came out, and return the summary."""
    from p2pfrl.commands.progress import live_page, watching
    from p2pfrl.commands.summaries import conclude
    from p2pfrl.deploy.local import run_processes
    from p2pfrl.results.directory import FIGURES, dropped_if_empty
    from p2pfrl.results.report import report as write
    from p2pfrl.results.trackers import Log, require

    if log is not None:
        require(log)
    with (
        dropped_if_empty(directory),
        live_page(directory, live),
        watching(scenario, directory, quiet=quiet) as watcher,
    ):
        record = run_processes(
            scenario,
            directory,
            processes,
            quiet=quiet,
            overwrite=overwrite,
            progress=watcher,
            workers=workers,
        )
    page = write([directory]) if draws else None
    if log is not None:
        Log(log, directory, directory.name).finish(record, directory / FIGURES)
    conclude(record, directory, page, as_json=as_json)
    return record.summary


def _not_resumed(run: Path, settings: Sequence[str]) -> str:
    """Return why a run cannot be resumed with settings, and what makes it longer instead."""
    reason = f"--resume {run}: a run goes on as it began: give no file and no other settings"
    if not any(setting.startswith("stop.") for setting in settings):
        return reason
    words = shlex.join([word for setting in settings for word in ("--set", setting)])
    return (
        f"{reason}; a longer run begins anew, and its first rounds equal those of this one: "
        f"p2pfrl scenario {run / 'scenario.toml'} {words} --out ANOTHER"
    )


def _resume(
    run: Path,
    *,
    quiet: bool,
    as_json: bool,
    trace: bool,
    needs_target: bool,
    log: str | None,
    live: bool,
    draws: bool,
    workers: Count,
    address: str | None,
) -> int:
    from p2pfrl.commands.progress import run_scenario
    from p2pfrl.experiment.checkpoints import scenario_of

    chosen = scenario_of(run)
    summary = run_scenario(
        chosen,
        run,
        trace=trace,
        quiet=quiet,
        as_json=as_json,
        resuming=True,
        log=log,
        live=live,
        draws=draws,
        workers=workers,
        address=address,
    )
    return _code(summary, needs_target)


def _code(summary: Mapping[str, Any], needs_target: bool) -> int:
    if summary["stopped_by"] == "interrupt":
        return INTERRUPTED
    return MISSED_TARGET if needs_target and not summary["target_reached"] else DONE


def compare(
    *files: str,
    modes: Modes = None,
    recipes: Recipes = None,
    seeds: Seeds = None,
    seed: Only = None,
    set: Settings = (),
    out: Out = None,
    jobs: Jobs = 1,
    executor: Executor = "local",
    address: Address = None,
    resume: Resume = False,
    overwrite: Overwrite = False,
    json: Json = False,
    csv: Csv = False,
    latex: Latex = False,
    quiet: Quiet = False,
) -> int:
    """Run scenarios, recipes, modes or settings with paired seeds, and compare them.

    One file without anything else is compared in the modes gossip, central and independent. The
    exit code is 1 if a run has failed; it is named, and the others are compared.

    Parameters
    ----------
    files
        Scenario files or names.
    """
    from p2pfrl.commands import values as settings
    from p2pfrl.commands.progress import counting
    from p2pfrl.experiment.compare import compare as run_all
    from p2pfrl.results.report import report as write

    if not files:
        raise ScenarioError(["compare: expected at least one scenario FILE to run"])
    _one_format(json, csv, latex)
    grid = settings.grid(set)
    varied = {key: values for key, values in grid.items() if len(values) > 1}
    common = {key: values[0] for key, values in grid.items() if len(values) == 1}
    name = Path(files[0]).stem if len(files) == 1 else "several"
    folder = out or _new_series(name, "compare", resume=resume)
    with _resumable(folder):
        found = run_all(
            list(files),
            None if modes is None else settings.modes(modes),
            settings.seeds_or_one(seeds, seed),
            folder,
            recipes=() if recipes is None else settings.recipes(recipes),
            settings=varied,
            overrides=common,
            jobs=jobs,
            resume=resume,
            overwrite=overwrite,
            progress=None if quiet else counting(),
            cluster=cluster(executor, address),
        )
    runs = [*found.labels]
    _name_others(folder, [*runs, *(folder / name for name, _ in found.failed)], "comparison.json")
    if csv or latex:
        print(found.files()["comparison.csv" if csv else "comparison.tex"].decode(), end="")
    elif not json:
        _rich(found.to_rich())
    with _drawn_later(folder):
        page = write(runs, folder, found.tables(), found.labels)
    if json:
        show(found.to_json(), json)
    elif not (csv or latex):
        print(f"report: {page}")
    return FAILED if found.failed else DONE


@contextmanager
def _drawn_later(folder: Path) -> Iterator[None]:
    """Say how to draw the report of a series that cannot be written now, as on a full disk."""
    try:
        yield
    except RecordError as error:
        what = f"{folder} has the runs and their table"
        error.add_note(f"{what}; `p2pfrl report {folder}` writes its report and figures")
        raise


def _one_format(*chosen: bool) -> None:
    """Refuse more than one form of the result.

    Raises:
        ScenarioError: there are several.
    """
    if sum(chosen) > 1:
        raise ScenarioError(["--json, --csv, --latex: expected one of them, got several"])


def sweep(
    file: str,
    *,
    seeds: Seeds = None,
    seed: Only = None,
    set: Settings = (),
    out: Out = None,
    jobs: Jobs = 1,
    executor: Executor = "local",
    address: Address = None,
    shard: Shard = None,
    resume: Resume = False,
    overwrite: Overwrite = False,
    json: Json = False,
    csv: Csv = False,
    latex: Latex = False,
    quiet: Quiet = False,
) -> int:
    """Run a scenario at every combination of settings and seeds.

    Parameters
    ----------
    file
        A scenario file or name.
    """
    from p2pfrl.commands import values as settings
    from p2pfrl.commands.progress import counting
    from p2pfrl.experiment.sweep import sweep as run_all
    from p2pfrl.results.files import plain
    from p2pfrl.results.tables import ForTerminal

    _one_format(json, csv, latex)
    grid = settings.grid(set)
    folder = out or _new_series(Path(file).stem, "sweep", resume=resume)
    with _resumable(folder):
        found = run_all(
            file,
            grid,
            settings.seeds_or_one(seeds, seed),
            folder,
            jobs=jobs,
            resume=resume,
            overwrite=overwrite,
            progress=None if quiet else counting(),
            cluster=cluster(executor, address),
            shard=shard_of(shard),
        )
    if shard is not None:
        for row in found.rows:
            print(f"{as_typed(text(row['state']))}  {row['directory']}")
        return FAILED if found.failed else DONE
    _name_others(folder, [Path(row["directory"]) for row in found.rows], "sweep.csv")
    if csv or latex:
        print(found.table.with_suffix(".csv" if csv else ".tex").read_text("utf-8"), end="")
    elif not json:
        shown = [
            name
            for name in _TOLD
            if any(isfinite(nan if row[name] is None else row[name]) for row in found.rows)
        ]
        for row in found.rows:
            print(
                "  ".join(
                    f"{key}={as_typed(_value(row[key]))}"
                    for key in (*found.keys, "seed", "state", *shown)
                )
            )
        print(f"table: {found.table}")
        _rich(ForTerminal(found.tables()))
    with _drawn_later(folder):
        page = _page_of(found, folder)
    if json:
        show(plain(list(found.rows)), json)
    elif not (csv or latex):
        why = f"no run is done, or there are more than {_MOST_DRAWN} settings"
        print(f"report: {page or f'not drawn: {why}; `p2pfrl report RUN...` draws some'}")
    return FAILED if found.failed else DONE


def _name_others(folder: Path, own: Sequence[Path], table: str) -> None:
    """Name the runs in the directory that are of an earlier series."""
    from p2pfrl.results.directory import left_out

    if note := left_out(folder, own, table):
        print(note, file=sys.stderr)


def _value(value: object) -> str:
    """Return a value of a row as text; a list as it is written in a file."""
    return f"[{text(value)}]" if isinstance(value, list | tuple) else text(value)


def _page_of(found: Sweep, folder: Path) -> Path | None:
    """Write the report of a sweep; return None if no run is done, or figures would be too full.

    That of an earlier sweep in the directory is removed then.
    """
    from p2pfrl.results.directory import clear_report
    from p2pfrl.results.report import report as write

    runs = [Path(row["directory"]) for row in found.rows if row["state"] in ("done", "kept")]
    settings = {tuple(str(row[key]) for key in found.keys) for row in found.rows}
    if runs and len(settings) <= _MOST_DRAWN:
        return write(runs, folder, found.tables())
    clear_report(folder)
    return None


def verify(run: Path, *, json: Json = False, quiet: Quiet = False) -> int:
    """Run a recorded scenario again and compare digests, files and summary.

    Parameters
    ----------
    run
        A run directory.
    """
    from p2pfrl.commands.progress import Lines
    from p2pfrl.experiment.verify import verify as replay

    verdict = replay(run, None if quiet else Lines())
    if json:
        show(
            {
                "equal": verdict.is_equal,
                "recorded": verdict.recorded,
                "replayed": verdict.replayed,
                "different": list(verdict.different),
                "unchecked": list(verdict.unchecked),
                "changed": {
                    name: {"then": then, "now": now}
                    for name, (then, now) in verdict.changed.items()
                },
            },
            json,
        )
    elif verdict.is_equal:
        print(f"equal: {verdict.replayed}")
    elif verdict.recorded != verdict.replayed:
        print(f"different: recorded {verdict.recorded}, replayed {verdict.replayed}")
    else:
        print(f"different: the digest is {verdict.replayed}, but files of the run are not its own")
    if not json:
        for line in verdict.different:
            print(f"{run}/{line}")
    if verdict.unchecked and not quiet:
        print(f"not compared, only by checksum: {'; '.join(verdict.unchecked)}", file=sys.stderr)
    for name, (then, now) in verdict.changed.items():
        print(f"{name} was {then}, is {now}", file=sys.stderr)
    if verdict.recorded != verdict.replayed and not verdict.changed:
        print("versions, processor and kernels are those of the recorded run", file=sys.stderr)
    return DONE if verdict.is_equal else FAILED


@contextmanager
def _resumable(folder: Path) -> Iterator[None]:
    """Say how to continue after an interrupt in the block; leave no directory without runs."""
    from p2pfrl.results.directory import dropped_if_empty

    again = f"the same command with --out {folder} --resume keeps the runs that are complete"
    with dropped_if_empty(folder), explained(f"interrupted: {again}"):
        yield


def _new_series(name: str, what: str, *, resume: bool) -> Path:
    """Make the directory of a new series of runs and return its path.

    Raises:
        ScenarioError: a series is to go on, and it is not said which.
    """
    from p2pfrl.results.directory import new_series

    if resume:
        raise ScenarioError(["--resume: expected --out with the directory to go on in"])
    return new_series(name, what)


def _rich(value: RenderableType) -> None:
    from rich.console import Console

    Console().print(value)
