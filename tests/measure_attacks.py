"""Measures attacks against rules on CartPole.

`nice python tests/measure_attacks.py` runs everything and writes docs/attacks.json after every
run; with names of tables, such as `central`, it measures these alone, and `--table` prints what is
there. A number is the honest agents' mean return in the last rounds, out of 500, or their distance.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from measuring import Cell, Content, main

import p2pfrl
from p2pfrl.results.statistics import estimate

ROOT = Path(__file__).resolve().parent.parent
FILE = ROOT / "docs" / "attacks.json"
Settings = Mapping[str, object]
Attackers = tuple[str, tuple[int, ...]]
"""An attack, and who is Byzantine."""


def among(rule: str, **options: object) -> Settings:
    """Return the settings of an aggregator around a coordinator."""
    return {"coordinator.aggregator": {"kind": rule, **options}}


def near(kind: str, **options: object) -> Settings:
    """Return the settings of a mixing rule between neighbors."""
    return {"mixing": {"kind": kind, **options}}


def of_neighbors(rule: str, **options: object) -> Settings:
    """Return the settings of an aggregator of every neighborhood."""
    return near("neighborhood", aggregator={"kind": rule, **options})


def three(*kinds: str) -> dict[str, Attackers | None]:
    """Return columns of attacks by three of thirteen agents; "none" has no attack."""
    return {kind: None if kind == "none" else (kind, (0, 4, 8)) for kind in kinds}


@dataclass(frozen=True)
class Table:
    """A table of the page: a row per rule, a column per attack.

    Attributes:
        scenario: the file whose settings hold for all cells.
        rules: rows: what the coordinator or every agent does.
        attacks: columns.
        rounds: of a run.
        last: rounds at the end over which the metric is averaged.
        seeds: of every cell.
        metric: a column of metrics.csv; over honest agents.
        settings: of all cells, beside the scenario's.
    """

    scenario: str
    rules: Mapping[str, Settings]
    attacks: Mapping[str, Attackers | None]
    rounds: int = 120
    last: int = 20
    seeds: Sequence[int] = tuple(range(1, 11))
    metric: str = "return_mean"
    settings: Settings = field(default_factory=dict)

    def has(self, rule: str, attack: str) -> bool:
        """Whether there are so many agents that the attackers are among them."""
        attackers, agents = self.attacks[attack], self.rules[rule].get("agents", math.inf)
        return attackers is None or max(attackers[1]) < agents  # type: ignore[operator]


CENTRAL: Mapping[str, Settings] = {
    "mean": {},
    "median": among("median", byzantine=3),
    "trimmed_mean": among("trimmed_mean", byzantine=3),
    "geometric_median": among("geometric_median"),
    "krum": among("krum", byzantine=3),
    "multi_krum": among("multi_krum", byzantine=3),
    "centered_clipping": among("centered_clipping", byzantine=3),
    "median of nearest_neighbors": among("median", byzantine=3, pre=["nearest_neighbors"]),
}
GOSSIP: Mapping[str, Settings] = {
    "metropolis": {},
    "median": of_neighbors("median", byzantine=3),
    "trimmed_mean": of_neighbors("trimmed_mean", byzantine=3),
    "geometric_median": of_neighbors("geometric_median"),
    "bridge": near("bridge", byzantine=3),
    "clipped_gossip": near("clipped_gossip", byzantine=3),
}
FIVE, SEVEN = (0, 2, 4, 6, 8), (0, 2, 4, 6, 8, 10, 12)
TABLES: Mapping[str, Table] = {
    "central": Table(
        "byzantine_central",
        CENTRAL,
        three(
            "none",
            "noise",
            "zero",
            "sign_flip",
            "average_zero",
            "alie",
            "ipm",
            "random_action",
            "reward_flip",
        ),
    ),
    "gossip": Table(
        "byzantine_gossip",
        GOSSIP,
        three("none", "noise", "zero", "sign_flip", "alie", "dissensus", "random_action"),
    ),
    "beyond": Table(
        "byzantine_central",
        CENTRAL,
        {
            "noise of 5": ("noise", FIVE),
            "noise of 7": ("noise", SEVEN),
            "sign_flip of 5": ("sign_flip", FIVE),
            "alie of 5": ("alie", FIVE),
        },
    ),
    "dumbbell": Table(
        "byzantine_gossip",
        {
            "metropolis": {},
            "median": of_neighbors("median"),
            "trimmed_mean": of_neighbors("trimmed_mean"),
            "bridge": near("bridge"),
            "clipped_gossip": near("clipped_gossip"),
        },
        {"none": None, "dissensus of 2": ("dissensus", (6, 7))},
        metric="consensus_distance",
        settings={"agents": 14, "topology": {"kind": "dumbbell"}},
    ),
    "dec_byzpg": Table(
        "dec_byzpg_cartpole",
        {
            "1 agent": {"agents": 1},
            "5 agents": {"agents": 5},
            "13 agents": {"agents": 13},
            "13 agents, plain means": {"agents": 13, "mixing.kind": "metropolis"},
        },
        three("none", "noise", "average_zero", "random_action"),
        rounds=322,
        last=10,
    ),
    "fedpg_br": Table(
        "fedpg_br_cartpole",
        {
            "1 agent": {"agents": 1, "coordinator.aggregator.byzantine": 0},
            "3 agents": {"agents": 3, "coordinator.aggregator.byzantine": 0},
            "10 agents": {},
            "10 agents, plain mean": among("mean"),
        },
        three("none", "noise", "random_action", "sign_flip"),
        rounds=80,
        last=10,
    ),
}


def settings(table: str, rule: str, attack: str) -> dict[str, object]:
    """Return what a cell sets in the scenario of its table."""
    found = TABLES[table]
    attackers = found.attacks[attack]
    attacks = [] if attackers is None else [{"kind": attackers[0], "agents": [*attackers[1]]}]
    return {
        "stop.rounds": found.rounds,
        "evaluation.every": found.rounds,
        "evaluation.episodes": 1,
        "attacks": attacks,
        **found.settings,
        **found.rules[rule],
    }


def measure(table: str, rule: str, attack: str, seed: int, **more: object) -> float:
    """Return the mean over honest agents and the last rounds of a run."""
    found, overrides = TABLES[table], {**settings(table, rule, attack), "seed": seed, **more}
    record = p2pfrl.run(p2pfrl.load(f"{found.scenario}.toml", overrides=overrides))
    return float(np.nanmean(record.metrics[found.metric][-found.last :]))


def shown(values: Sequence[float], is_return: bool = True) -> str:
    """Return the mean over seeds and its 95% interval.

    Returns are whole numbers, and their intervals are cut at 0 and 500.
    """
    found, form = estimate(values), ".0f" if is_return else ".2g"
    low, high = max(found.low, 0.0), min(found.high, 500.0 if is_return else math.inf)
    interval = f" ({low:{form}} to {high:{form}})" if math.isfinite(low) else ""
    return f"{found.mean:{form}}{interval}"


def lines(table: str, found: Mapping[str, Any]) -> Iterator[str]:
    """Yield the lines of a table of the page: a row per rule, a column per attack."""
    one = TABLES[table]
    is_return = one.metric == "return_mean"
    yield f"| rule | {' | '.join(one.attacks)} |"
    yield f"|---|{'---|' * len(one.attacks)}"
    for rule in one.rules:
        cells = [
            shown(found[rule][attack], is_return) if one.has(rule, attack) else ""
            for attack in one.attacks
        ]
        yield f"| {rule} | {' | '.join(cells)} |"


def cells(table: str) -> list[Cell]:
    """Return the cells of a table."""
    one = TABLES[table]
    return [
        Cell((rule, attack), one.seeds, partial(measure, table, rule, attack))
        for rule in one.rules
        for attack in one.attacks
        if one.has(rule, attack)
    ]


def all_lines(found: Content, names: Sequence[str]) -> Iterator[str]:
    """Yield the lines of some tables."""
    for name in names:
        yield from lines(name, found[name])


if __name__ == "__main__":
    main(__doc__, FILE, "tables", {name: cells(name) for name in TABLES}, all_lines)
