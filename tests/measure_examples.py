"""Measures what the page of worked examples states, over ten seeds.

`nice python tests/measure_examples.py` runs everything and writes docs/examples.json after every
run; with names of examples it measures only these, with `--more` only what is not there, and
`--table` prints the tables of what is there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy as np
from measure_worlds import shown
from measuring import Cell, Content, main

import p2pfrl

ROOT = Path(__file__).resolve().parent.parent
FILE = ROOT / "docs" / "examples.json"
SEEDS = tuple(range(1, 11))
Numbers = dict[str, float]
Settings = Mapping[str, object]


@dataclass(frozen=True)
class Column:
    """A column of a table.

    Attributes:
        name: its heading.
        key: of the numbers of a run.
        digits: format of a number.
    """

    name: str
    key: str
    digits: str


@dataclass(frozen=True)
class Row:
    """A row of a table: runs of a scenario, one per seed.

    Attributes:
        settings: by dotted key, beside those of the scenario.
        beside: further rows of the same runs: heading -> what precedes the keys of its numbers.
    """

    settings: Settings = field(default_factory=dict)
    beside: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Example:
    """A table of the page.

    Attributes:
        scenario: its name.
        first: heading of the first column.
        columns: the others.
        rows: heading of a row -> its runs.
        numbers: takes the numbers out of a record.
    """

    scenario: str
    first: str
    columns: tuple[Column, ...]
    rows: Mapping[str, Row]
    numbers: Callable[[p2pfrl.Record], Numbers]


def rounds(record: p2pfrl.Record) -> Numbers:
    """Return the rounds to the target; a run that does not reach it counts all its rounds."""
    reached = record.summary["time_to_target"]
    return {"rounds": float(record.summary["rounds"] if reached is None else reached["rounds"])}


def returns(record: p2pfrl.Record) -> Numbers:
    """Return the mean training return of the last five rounds, and the greedy one at the end."""
    return {
        "training": float(np.nanmean(record.metrics["return_mean"][-5:])),
        "greedy": float(record.summary["evaluation"]["own"]),
    }


def part_of_best(record: p2pfrl.Record) -> Numbers:
    """Return the return of the learned policies as a part of the best joint policy's."""
    found = record.summary["evaluation"]
    return {"part": found["own"] / found["baselines"]["best_joint"]}


def exploited(record: p2pfrl.Record) -> Numbers:
    """Return what a pair could gain: against its averages, and against its last policies."""
    error, gain = record.metrics["error"], record.agents["gain"]
    pairs = gain.reshape(len(error), -1, 2).sum(axis=2)[-200:]
    return {
        "ten": float(error[9]),
        "end": float(error[-1]),
        "low": float(pairs.min()),
        "high": float(pairs.max()),
    }


def payoff(record: p2pfrl.Record) -> Numbers:
    """Return the mean payoff of the last policies."""
    return {"payoff": float(record.summary["evaluation"]["own"])}


def vehicles(record: p2pfrl.Record) -> Numbers:
    """Return returns and measures of the learned policies and the baselines, and of the critics."""
    found = record.summary["evaluation"]
    explained = record.agents["explained_variance"].reshape(len(record.metrics["round"]), -1)
    numbers = {"first": float(explained[:10].mean()), "last": float(explained[-10:].mean())}
    for name, measures in found["measures"].items():
        policy = "" if name == "own" else f"{name} "
        numbers[f"{policy}return"] = found["own"] if name == "own" else found["baselines"][name]
        numbers |= {f"{policy}{measure}": float(value) for measure, value in measures.items()}
    return numbers


def by_mode(modes: Sequence[str]) -> dict[str, Row]:
    """Return a row per mode, whose topology is the scenario's where it has one."""
    return {mode: Row({} if mode == "gossip" else {"mode": mode, "topology": {}}) for mode in modes}


_TRAINED = (
    Column("training return, last five rounds", "training", ".0f"),
    Column("greedy", "greedy", ".0f"),
)
_PLAYED: Settings = {"evaluation.every": 400, "evaluation.episodes": 64}
_SAMPLED: Settings = {
    "learner.exact": False,
    "learner.horizon": 1,
    "environment.instances": 64,
}

EXAMPLES: Mapping[str, Example] = {
    "value_network": Example(
        "reinforce_complete",
        "baseline",
        (Column("rounds to a mean return of 475", "rounds", ".0f"),),
        {name: Row({"learner.baseline": name}) for name in ("none", "value")},
        rounds,
    ),
    "experience": Example(
        "dqn_sharing",
        "after 60 rounds",
        _TRAINED,
        by_mode(("gossip", "independent")),
        returns,
    ),
    "coordinate": Example(
        "networked_team",
        "averaged",
        (Column("return, part of the best joint policy's", "part", ".1%"),),
        {
            "critic and reward": Row(),
            "critic alone": Row({"exchange.shared": ["critic"]}),
            "nothing (`mode=independent`)": Row({"mode": "independent", "topology": {}}),
            "nothing, but everybody is told the mean reward (and `environment.share=team`)": Row(
                {"mode": "independent", "topology": {}, "environment.share": "team"}
            ),
        },
        part_of_best,
    ),
    "zero_sum": Example(
        "rps_averages",
        "feedback",
        (
            Column("averages, after 10 rounds", "ten", ".2f"),
            Column("after 400", "end", ".2f"),
            Column("last policies, in the last 200 rounds, at least", "low", ".2f"),
            Column("at most", "high", ".2f"),
        ),
        {
            "the exact gradient": Row(),
            "the exact gradient, without exchange (`mode=independent`)": Row(
                {"mode": "independent", "topology": {}}
            ),
            "64 games an update (`learner.exact=false`, `learner.horizon=1`, "
            "`environment.instances=64`)": Row(_SAMPLED),
        },
        exploited,
    ),
    "other_games": Example(
        "rps_averages",
        "game, 400 rounds",
        (Column("mean payoff", "payoff", ".2f"),),
        {
            "`prisoners`": Row({"environment.game": "prisoners", **_PLAYED}),
            "`stag_hunt`, `mode=independent`": Row(
                {
                    "environment.game": "stag_hunt",
                    "mode": "independent",
                    "topology": {},
                    **_PLAYED,
                }
            ),
            "`stag_hunt`, agents of one role average": Row(
                {"environment.game": "stag_hunt", **_PLAYED}
            ),
        },
        payoff,
    ),
    "scale": Example(
        "samples_vs_agents",
        "agents",
        (Column("rounds to the target (400: not reached)", "rounds", ".0f"),),
        {str(agents): Row({"agents": agents}) for agents in (1, 2, 4, 8)},
        rounds,
    ),
    "junction": Example(
        "junction_torus",
        "",
        (
            Column("return", "return", ".2f"),
            Column("collisions (share of vehicles)", "collisions", ".1%"),
            Column("travel time, s", "travel_time", ".1f"),
            Column("throughput, vehicles per minute", "throughput", ".1f"),
        ),
        {
            "learned, a reward of its own each": Row(
                beside={
                    "first come, first served": "first_come_first_served ",
                    "full throttle": "full_throttle ",
                }
            ),
            "learned, the mean reward (`share=team`)": Row({"environment.share": "team"}),
        },
        vehicles,
    ),
    "demand": Example(
        "signals_demand",
        "after 100 rounds",
        _TRAINED,
        by_mode(("gossip", "independent")),
        returns,
    ),
}
"""Name of a table -> what is measured for it."""
CRITICS = (
    Column("rounds 1 to 10", "first", ".2f"),
    Column("rounds 111 to 120", "last", ".2f"),
)
"""Columns of the second table of the junction: the critics' explained variance."""


def measure(example: str, row: str, seed: int, **more: object) -> Numbers:
    """Return the numbers of one run, with `more` settings by dotted key."""
    one = EXAMPLES[example]
    settings = {**one.rows[row].settings, "seed": seed, **more}
    return one.numbers(p2pfrl.run(p2pfrl.load(f"{one.scenario}.toml", overrides=settings)))


def _line(name: str, runs: Sequence[Numbers], columns: Sequence[Column], prefix: str = "") -> str:
    cells = [shown([run[prefix + column.key] for run in runs], column.digits) for column in columns]
    return f"| {' | '.join((name, *cells))} |"


def table(example: str, found: Mapping[str, Sequence[Numbers]]) -> Iterator[str]:
    """Yield the lines of a table: the mean over seeds, and the range."""
    one = EXAMPLES[example]
    yield f"| {' | '.join((one.first, *(column.name for column in one.columns)))} |"
    yield f"|{'---|' * (1 + len(one.columns))}"
    for name, row in one.rows.items():
        yield _line(name, found[name], one.columns)
        for other, prefix in row.beside.items():
            yield _line(other, found[name], one.columns, prefix)
    if example == "junction":
        yield ""
        yield f"| critics | {' | '.join(column.name for column in CRITICS)} |"
        yield "|---|---|---|"
        for name, runs in found.items():
            yield _line(name.removeprefix("learned, "), runs, CRITICS)


def lines(found: Content, names: Sequence[str]) -> Iterator[str]:
    """Yield the lines of the tables that are measured."""
    for name in names:
        if name in found:
            yield from table(name, found[name])
            yield ""


def cells(example: str) -> list[Cell]:
    """Return the cells of a table: one per row."""
    return [Cell((row,), SEEDS, partial(measure, example, row)) for row in EXAMPLES[example].rows]


if __name__ == "__main__":
    main(__doc__, FILE, "examples", {name: cells(name) for name in EXAMPLES}, lines)
