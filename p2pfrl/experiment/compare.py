"""Runs members with paired seeds and compares them.

What is compared are members: files, recipes, modes or settings.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import numpy as np
from numpy.typing import NDArray

from p2pfrl.build.modes import BUILDERS
from p2pfrl.core.arguments import Kind, Overrides, Processes, Seeds, checked_call
from p2pfrl.core.errors import P2PFRLError, ScenarioError
from p2pfrl.experiment.comparison import Comparison
from p2pfrl.experiment.equal import equal_members
from p2pfrl.experiment.jobs import (
    Execute,
    Finished,
    Job,
    Progress,
    execute,
    members_in_words,
    run_all,
)
from p2pfrl.experiment.measures import Cell, Rows, score_of, tabulate
from p2pfrl.experiment.members import SEEDS, Member, Settings, members, refuse_doubled
from p2pfrl.results.aggregates import Outcomes, Standing, normalized, standings
from p2pfrl.results.directory import dropped_if_empty, new_series, reserved_for_series
from p2pfrl.results.files import read_bytes, refusing, write_bytes
from p2pfrl.results.record import load
from p2pfrl.scenario import loads
from p2pfrl.scenario.sections import Scenario

Files = Annotated[str | Path | Sequence[str | Path], Kind("a file, a name, or a list of them")]
"""Scenarios that are compared."""
MODES = ("gossip", "central", "independent")
"""Modes in which one file is compared, if nothing is said."""
_NUMBER = re.compile(r"(\d+(?:,\d{3})*(?:\.\d+)?)")
_TARGETS = ("time_to_target.rounds", "time_to_target.bytes", "time_to_target.virtual_seconds")


@checked_call
def compare(
    scenario: Files,
    modes: str | Sequence[str] | None = None,
    seeds: Seeds = SEEDS,
    out: Path | str | None = None,
    *,
    recipes: str | Sequence[str] = (),
    settings: Settings | None = None,
    overrides: Overrides | None = None,
    jobs: Processes = 1,
    resume: bool = False,
    overwrite: bool = False,
    run: Execute = execute,
    progress: Progress | None = None,
    cluster: str | None = None,
) -> Comparison:
    """Run members with the same seeds, and compare them.

    Members are all combinations of files, modes, recipes and values of settings. A run that fails,
    and a member that is not valid, does not stop the others: it is named, and all others are
    compared. `comparison.json`,
    `comparison.csv` and `comparison.tex` are written to `out`, beside the run directories
    `<member>-s<seed>`.

    Args:
        scenario: file or name, or several.
        modes: the others are compared with the first; () for the mode that each file or recipe has.
            By default one file without recipes and settings is compared in `MODES`, and all else in
            the modes that it has.
        seeds: at least one; the same for every member.
        out: folder of the run directories; by default a new one below `runs`.
        recipes: names of recipes that take the place of the one that a file extends. Their keys win
            over those of the file, but for topology, learner and environment.
        settings: several values by dotted key, such as {"learner.lr": [1e-3, 3e-4]}.
        overrides: values by dotted key, for all members.
        jobs: number of processes.
        resume: whether to keep complete runs of the same scenario in `out`.
        overwrite: whether to repeat finished runs.
        run: runs one job.
        progress: called after every run.
        cluster: address of a Ray cluster that runs the members.

    Raises:
        P2PFRLError: every run has failed.
        ScenarioError: no member is valid, or two members are the same.
    """
    seeds = [*map(int, seeds)]
    files = [scenario] if isinstance(scenario, str | Path) else [*scenario]
    some = [recipes] if isinstance(recipes, str) else [*recipes]
    if modes is None:
        modes = () if some or settings or len(files) > 1 else MODES
    every = [modes] if isinstance(modes, str) else [*modes]
    refuse_doubled(settings or {}, overrides, has_modes=bool(every))
    found = members(files, every, some, settings, overrides)
    if out is None:
        out = new_series(Path(files[0]).stem if len(files) == 1 else "several", "compare")
    folder = Path(out)
    planned = {
        (member.label, seed): Job(
            member.scenario,
            (*member.overrides.items(), ("seed", seed)),
            folder / f"{member.folder}-s{seed}",
            member.label,
            member.recipe,
            member.of_recipe,
        )
        for member in found
        for seed in seeds
    }
    with dropped_if_empty(folder):
        _refuse_twins(found, planned)
    with reserved_for_series(folder):
        if (folder / "comparison.json").exists() and not resume and not overwrite:
            fix = "--resume keeps runs that are complete, --overwrite runs all again"
            raise ScenarioError([f"{folder}: expected no comparison, got one; {fix}"])
        finished = run_all(
            list(planned.values()),
            workers=jobs,
            resume=resume,
            overwrite=overwrite,
            execute=run,
            progress=progress,
            cluster=cluster,
        )
        failed = _failures(finished)
    runs = {
        member.label: tuple(
            None if job.directory.name in failed else job.directory
            for job in (planned[member.label, seed] for seed in seeds)
        )
        for member in found
    }
    parts = {member.label: (member.task, member.algorithm) for member in found}
    comparison = _of_runs(runs, seeds, failed, parts)
    for path, content in comparison.files().items():
        write_bytes(folder / path, content)
    return comparison


def _refuse_twins(found: Sequence[Member], planned: Mapping[tuple[str, int], Job]) -> None:
    """Refuse members that are the same scenario, which no comparison tells apart.

    Raises:
        ScenarioError: two are, or none is valid; every reason once.
    """
    seed = next(iter(planned))[1]
    scenarios: list[tuple[str, Scenario]] = []
    problems: dict[str, list[str]] = {}
    for member in found:
        try:
            scenario = replace(planned[member.label, seed].load(), name="any")
        except ScenarioError as error:
            for problem in error.problems:
                problems.setdefault(problem, []).append(member.label)
            continue
        for label, other in scenarios:
            if scenario == other:
                raise ScenarioError(
                    [
                        f"{label} and {member.label}: expected different scenarios, got the same twice"
                    ]
                )
        scenarios.append((member.label, scenario))
    if not scenarios:
        labels = [member.label for member in found]
        raise ScenarioError(
            [
                f"{who}: {problem}"
                if (who := members_in_words(own, labels)) not in ("", "all")
                else problem
                for problem, own in problems.items()
            ]
        )


def read_comparison(folder: Path) -> Comparison:
    """Return the comparison of the runs in the directory of a comparison.

    Raises:
        RecordError: a file is missing or damaged.
    """
    path = folder / "comparison.json"
    content = read_bytes(path)
    with refusing(path):
        found = json.loads(content)
        labels, seeds = [str(m) for m in found["modes"]], [int(s) for s in found["seeds"]]
        failed = {str(run): str(error) for run, error in found.get("failed", {}).items()}
        names = {
            label: [Path(str(place)).name for place in found["directories"][label]]
            for label in labels
        }
        parts = {
            str(label): (str(task), str(algorithm))
            for label, (task, algorithm) in found.get("parts", {}).items()
        }
    runs = {
        label: tuple(
            next((folder / name for name in names[label] if name.endswith(f"-s{seed}")), None)
            for seed in seeds
        )
        for label in labels
    }
    return _of_runs(runs, seeds, failed, parts)


def _of_runs(
    runs: Mapping[str, Sequence[Path | None]],
    seeds: Sequence[int],
    failed: Mapping[str, str],
    parts: Mapping[str, tuple[str, str]],
) -> Comparison:
    """Compare finished runs.

    Args:
        runs: run directories by member, one per seed; None for a run that has failed.
        seeds: the seeds.
        failed: name of a run -> its error.
        parts: task and algorithm of members.
    """
    records = {
        label: [None if path is None else load(path) for path in own] for label, own in runs.items()
    }
    kept = [label for label, own in records.items() if any(own)]
    rows = tabulate([records[label] for label in kept])
    facts = {
        label: _over_seeds([differences(loads(r.scenario)) for r in records[label] if r])
        for label in kept
    }
    notes: dict[str, dict[str, None]] = {}
    for label in kept:
        for record in filter(None, records[label]):
            for note in record.summary.get("notes", ()):
                notes.setdefault(str(note), {})[label] = None
    return Comparison(
        members=tuple(kept),
        seeds=tuple(seeds),
        rows=rows,
        differences=facts,
        directories={
            label: tuple(path for path in runs[label] if path is not None) for label in kept
        },
        standings=_standings(kept, rows),
        over_tasks=_over_tasks(kept, rows, parts),
        parts={label: parts[label] for label in kept if label in parts},
        failed=tuple(failed.items()),
        notes={note: tuple(own) for note, own in notes.items()},
        equal=equal_members(
            {
                label: {
                    seed: str(record.summary["digest"])
                    for seed, record in zip(seeds, records[label], strict=True)
                    if record
                }
                for label in kept
            }
        ),
    )


def _standings(labels: Sequence[str], rows: Rows) -> tuple[Standing, ...]:
    """Return the aggregates over the runs of every member."""
    score = score_of(rows)
    if score is None:
        return ()
    measure, cells = score
    targets = {m.name: own for m, own in rows if m.name.startswith("time_to_target.")}
    nothing = np.full(len(cells[0].values), np.nan)
    found = []
    for place, (label, cell) in enumerate(zip(labels, cells, strict=True)):
        reached = [
            np.array(targets[name][place].values) if name in targets else nothing
            for name in _TARGETS
        ]
        found.append(Outcomes(label, (_finite(cell),), (reached[0], reached[1], reached[2])))
    return standings(found, measure.better)


def _over_tasks(
    labels: Sequence[str], rows: Rows, parts: Mapping[str, tuple[str, str]]
) -> tuple[Standing, ...]:
    """Return the aggregates over files of the members that ran in each of them."""
    score = score_of(rows)
    tasks, algorithms = (
        [*dict.fromkeys(part[place] for label in labels if (part := parts.get(label)))]
        for place in (0, 1)
    )
    if score is None or len(tasks) < 2:
        return ()
    measure, cells = score
    own = {parts[label]: _finite(cell) for label, cell in zip(labels, cells, strict=True)}
    everywhere = [a for a in algorithms if all(len(own.get((t, a), ())) for t in tasks)]
    scores = normalized([[measure.better * own[t, a] for a in everywhere] for t in tasks])
    nothing = np.empty(0)
    return standings(
        [
            Outcomes(label, tuple(task[place] for task in scores), (nothing, nothing, nothing))
            for place, label in enumerate(everywhere)
        ]
    )


def _finite(cell: Cell) -> NDArray[np.float64]:
    values: NDArray[np.float64] = np.array(cell.values, dtype=np.float64)
    return values[np.isfinite(values)]


def _over_seeds(found: Sequence[tuple[str, ...]]) -> tuple[str, ...]:
    """Return the sentences of all seeds as one: numbers in which seeds differ become ranges.

    Seeds differ where they draw their graphs.
    """
    return tuple(_merged(sentences) for sentences in zip(*found, strict=True))


def _merged(sentences: Sequence[str]) -> str:
    """Return equal sentences once, with ranges in place of different numbers.

    >>> _merged(["8 messages of 1,024 bytes", "12 messages of 1,024 bytes"])
    '8 to 12 messages of 1,024 bytes'
    """
    parts = [_NUMBER.split(sentence) for sentence in sentences]
    if len({tuple(words[::2]) for words in parts}) > 1:
        return " Or, with another seed: ".join(dict.fromkeys(sentences))
    return "".join(
        " to ".join(dict.fromkeys((min(words, key=_value_of), max(words, key=_value_of))))
        if place % 2
        else words[0]
        for place, words in enumerate(zip(*parts, strict=True))
    )


def _value_of(number: str) -> float:
    return float(number.replace(",", ""))


def _failures(finished: Sequence[Finished]) -> dict[str, str]:
    """Return the errors of runs that have failed, by the names of their directories.

    Raises:
        P2PFRLError: all have, with every error.
    """
    failed = {
        result.job.directory.name: result.error for result in finished if result.error is not None
    }
    if len(failed) == len(finished):
        lines = [f"{name}: {error}" for name, error in failed.items()]
        raise P2PFRLError("\n".join([f"all {len(failed)} runs have failed:", *lines]))
    return failed


def differences(scenario: Scenario) -> tuple[str, ...]:
    """Return, as sentences, the differences of `scenario`'s mode beyond the mode itself."""
    return BUILDERS[scenario.mode]().differences(scenario)
