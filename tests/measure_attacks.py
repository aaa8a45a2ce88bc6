"""Measures attacks against rules: thirteen agents on CartPole, three of them Byzantine, five seeds.

`nice python tests/measure_attacks.py` runs everything and writes docs/attacks.json after every
cell; with `central` or `gossip` it measures that table alone, and `--table` prints the tables of
what is there. A number is the honest agents' mean return in the last rounds, out of 500.
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

import p2pfrl
from p2pfrl.results.statistics import estimate
from p2pfrl.results.versions import kernels, processor

ROOT = Path(__file__).resolve().parent.parent
FILE = ROOT / "docs" / "attacks.json"
SEEDS = (1, 2, 3, 4, 5)
ROUNDS = 120
LAST = 20
"""Rounds at the end over which returns are averaged."""
BYZANTINE = (0, 4, 8)
Settings = Mapping[str, object]


def among(rule: str, **options: object) -> Settings:
    """Return the settings of an aggregator around a coordinator."""
    return {"coordinator.aggregator": {"kind": rule, **options}}


def near(kind: str, **options: object) -> Settings:
    """Return the settings of a mixing rule between neighbors."""
    return {"mixing": {"kind": kind, **options}}


def of_neighbors(rule: str, **options: object) -> Settings:
    """Return the settings of an aggregator of every neighborhood."""
    return near("neighborhood", aggregator={"kind": rule, **options})


RULES: Mapping[str, Mapping[str, Settings]] = {
    "central": {
        "mean": {},
        "median": among("median", byzantine=3),
        "trimmed_mean": among("trimmed_mean", byzantine=3),
        "geometric_median": among("geometric_median"),
        "krum": among("krum", byzantine=3),
        "multi_krum": among("multi_krum", byzantine=3),
        "centered_clipping": among("centered_clipping", byzantine=3),
        "median of nearest_neighbors": among("median", byzantine=3, pre=["nearest_neighbors"]),
    },
    "gossip": {
        "metropolis": {},
        "median": of_neighbors("median", byzantine=3),
        "trimmed_mean": of_neighbors("trimmed_mean", byzantine=3),
        "geometric_median": of_neighbors("geometric_median"),
        "bridge": near("bridge", byzantine=3),
        "clipped_gossip": near("clipped_gossip", byzantine=3),
    },
}
"""Table -> rows: what the coordinator, or every agent of a graph of degree 8, does."""
ATTACKS: Mapping[str, Sequence[str]] = {
    "central": (
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
    "gossip": ("none", "noise", "zero", "sign_flip", "alie", "dissensus", "random_action"),
}
"""Table -> columns."""


def settings(table: str, rule: str, attack: str) -> dict[str, object]:
    """Return what a cell sets in the scenario of its table."""
    attacks = [] if attack == "none" else [{"kind": attack, "agents": list(BYZANTINE)}]
    return {
        "stop.rounds": ROUNDS,
        "evaluation.every": ROUNDS,
        "evaluation.episodes": 1,
        "attacks": attacks,
        **RULES[table][rule],
    }


def measure(table: str, rule: str, attack: str, seed: int, **more: object) -> float:
    """Return the mean return of the honest agents in the last rounds of a run."""
    overrides = {**settings(table, rule, attack), "seed": seed, **more}
    record = p2pfrl.run(p2pfrl.load(f"byzantine_{table}.toml", overrides=overrides))
    return float(np.nanmean(record.metrics["return_mean"][-LAST:]))


def shown(values: Sequence[float]) -> str:
    """Return the mean over seeds and its 95% interval, cut at 0 and 500, the bounds of returns."""
    found = estimate(values)
    low, high = max(found.low, 0.0), min(found.high, 500.0)
    return f"{found.mean:.0f}" + (f" ({low:.0f} to {high:.0f})" if math.isfinite(low) else "")


def lines(table: str, found: Mapping[str, Any]) -> Iterator[str]:
    """Yield the lines of a table of the page: a row per rule, a column per attack."""
    yield f"| rule | {' | '.join(ATTACKS[table])} |"
    yield f"|---|{'---|' * len(ATTACKS[table])}"
    for rule in RULES[table]:
        cells = [shown(found[rule][attack]) for attack in ATTACKS[table]]
        yield f"| {rule} | {' | '.join(cells)} |"


def main() -> None:
    """Measure, and write what was found after every cell."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("tables", nargs="*", help=f"of {', '.join(RULES)}")
    parser.add_argument("--out", type=Path, default=FILE, help="the file to write")
    parser.add_argument("--table", action="store_true", help="print the tables; measure nothing")
    options = parser.parse_args()
    if unknown := [name for name in options.tables if name not in RULES]:
        parser.error(f"no table {', '.join(unknown)}")
    tables = options.tables or list(RULES)
    known = json.loads(options.out.read_text()) if options.out.exists() else {"tables": {}}
    if options.table:
        for table in tables:
            print(*lines(table, known["tables"][table]), sep="\n")
        return
    machine = {"processor": processor(), "kernels": kernels()}
    content = {"machine": machine, "seeds": list(SEEDS), "tables": known["tables"]}
    for table in tables:
        for rule in RULES[table]:
            for attack in ATTACKS[table]:
                cell = [measure(table, rule, attack, seed) for seed in SEEDS]
                content["tables"].setdefault(table, {}).setdefault(rule, {})[attack] = cell
                options.out.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
                print(f"{table}: {rule} against {attack}: {shown(cell)}", flush=True)


if __name__ == "__main__":
    main()
