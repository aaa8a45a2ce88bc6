"""Measures learning curves of ten scenarios with both engines, over ten seeds each.

`nice python tests/measure_engines.py` runs everything and writes docs/engines.json after every run;
with names of scenarios it measures only these, with `--more` only what is not there, and `--table`
prints the table of what is there.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from measuring import Cell, main

import p2pfrl
from p2pfrl.results.statistics import estimate, paired

ROOT = Path(__file__).resolve().parent.parent
FILE = ROOT / "docs" / "engines.json"
SEEDS = tuple(range(1, 11))
ENGINES = ("torch", "native")
POINTS = 8


@dataclass(frozen=True)
class Curve:
    """A row of the table.

    Attributes:
        rounds: of a run, a multiple of POINTS; with torch they take a few seconds.
        digits: format of its returns.
    """

    rounds: int
    digits: str = ".0f"


CURVES: Mapping[str, Curve] = {
    "ring_16": Curve(24),
    "central_16": Curve(24),
    "async_ring": Curve(24),
    "a2c_torus": Curve(24),
    "reinforce_complete": Curve(16),
    "gravity_ring": Curve(16),
    "acrobot_small_world": Curve(16),
    "pendulum_ring": Curve(24),
    "signals_ring": Curve(24, ".1f"),
    "dqn_sharing": Curve(48),
}


def measure(scenario: str, engine: str, seed: int, **more: object) -> list[float | None]:
    """Return the mean training return of each eighth of a run; None where no episode ended."""
    settings = {
        "stop.rounds": CURVES[scenario].rounds,
        "stop.target_return": None,
        "evaluation.episodes": 1,
        "evaluation.every": CURVES[scenario].rounds,
        "compute.engine": engine,
        "seed": seed,
        **more,
    }
    record = p2pfrl.run(p2pfrl.load(f"{scenario}.toml", overrides=settings))
    assert record.summary["rounds"] == settings["stop.rounds"], record.summary["stopped_by"]
    eighths = np.array_split(np.asarray(record.metrics["return_mean"]), POINTS)
    return [round(float(np.nanmean(one)), 6) if np.isfinite(one).any() else None for one in eighths]


@dataclass(frozen=True)
class Points:
    """What two engines have in common at the points of a curve.

    Attributes:
        count: points at which episodes ended on all seeds.
        within: those at which each mean is in the 95% interval of the other.
        paired: those at which the 95% interval of the differences, seed by seed, has 0.
    """

    count: int
    within: int
    paired: int


def compared(torch: Sequence[Sequence[Any]], native: Sequence[Sequence[Any]]) -> Points:
    """Return how far the curves of runs of both engines agree."""
    pairs = [
        (first, second)
        for first, second in zip(zip(*torch, strict=True), zip(*native, strict=True), strict=True)
        if None not in (*first, *second)
    ]
    within = 0
    for first, second in pairs:
        one, other = estimate(first), estimate(second)
        within += one.low <= other.mean <= one.high and other.low <= one.mean <= other.high
    found = [paired(first, second) for first, second in pairs]
    return Points(len(pairs), within, sum(one.low <= 0.0 <= one.high for one in found))


def shown(values: Sequence[float], digits: str) -> str:
    """Return the mean over seeds and half the width of its 95% interval."""
    found = estimate(values)
    return f"{found.mean:{digits}} ± {(found.high - found.low) / 2:{digits}}"


def lines(found: Mapping[str, Any], names: Sequence[str] = tuple(CURVES)) -> Iterator[str]:
    """Yield the lines of the table: a row per scenario that both engines ran."""
    yield "| scenario | rounds | torch | native | points | means within | differences with 0 |"
    yield "|---|---|---|---|---|---|---|"
    for name in names:
        runs = [found.get(name, {}).get(engine, ()) for engine in ENGINES]
        count = min(map(len, runs))
        if count < 2:
            continue
        torch, native = (one[:count] for one in runs)
        last = [shown([run[-1] for run in one], CURVES[name].digits) for one in (torch, native)]
        points = compared(torch, native)
        row = (name, CURVES[name].rounds, *last, points.count, points.within, points.paired)
        yield "| `{}` | {} | {} | {} | {} | {} | {} |".format(*row)


def cells(scenario: str) -> list[Cell]:
    """Return the cells of a row."""
    return [Cell((engine,), SEEDS, partial(measure, scenario, engine)) for engine in ENGINES]


if __name__ == "__main__":
    main(__doc__, FILE, "engines", {name: cells(name) for name in CURVES}, lines)
