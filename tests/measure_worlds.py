"""Measures every world with unlike agents in four modes, and some as they are, ten seeds each.

`nice python tests/measure_worlds.py` runs everything and writes docs/worlds.json after every run;
with names of scenarios it measures only these, with `--more` only what is not there, and `--table`
prints the table of what is there.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from measuring import Cell, main

import p2pfrl

ROOT = Path(__file__).resolve().parent.parent
FILE = ROOT / "docs" / "worlds.json"
SEEDS = tuple(range(1, 11))


@dataclass(frozen=True)
class World:
    """A row of the table.

    Attributes:
        digits: format of its returns.
        vary: how its agents differ.
        agents: of a run.
        scenario: its name, where it is not that of the row.
        settings: others, by dotted key.
    """

    digits: str
    vary: Mapping[str, object] = field(default_factory=dict)
    agents: int = 8
    scenario: str = ""
    settings: Mapping[str, object] = field(default_factory=dict)


WORLDS: Mapping[str, World] = {
    "signals_ring": World(
        ".1f",
        {
            "demand": {"kind": "linspace", "low": 700.0, "high": 1300.0},
            "share": {"kind": "cycle", "list": [0.3, 0.5, 0.7, 0.4, 0.6]},
        },
    ),
    "microgrid_ring": World(
        ".2f",
        {
            "solar": {"kind": "linspace", "low": 0.0, "high": 5.0},
            "peak_hour": {"kind": "cycle", "list": [16.0, 18.0]},
        },
    ),
    "glucose_ring": World(".0f", {"si": {"kind": "linspace", "low": 0.005, "high": 0.012}}),
    "maintenance_ring": World(".1f", {"wear": {"kind": "linspace", "low": 0.25, "high": 0.45}}),
    "portfolio_ring": World(".1f", {"cost": {"kind": "linspace", "low": 0.0, "high": 0.01}}),
    "fleet_regions": World(".1f"),
    "spectrum_torus": World(
        ".1f", {"distance": {"kind": "cycle", "list": [15.0, 30.0, 45.0]}}, agents=16
    ),
    "signal_grid_torus": World(
        ".1f", {"demand": {"kind": "cycle", "list": [300.0, 500.0, 400.0]}}, agents=16
    ),
    "junction_torus": World(
        ".2f", {"brake": {"kind": "cycle", "list": [0.7, 1.0, 1.3]}}, agents=16
    ),
    "warehouse_torus": World(
        ".2f", {"move": {"kind": "cycle", "list": [0.5, 1.0, 2.0]}}, agents=16
    ),
    "networked_team": World(".0f", agents=24),
    "stag_hunt": World(
        ".2f",
        agents=24,
        scenario="rps_averages",
        settings={
            "environment.game": "stag_hunt",
            "evaluation.every": 400,
            "evaluation.episodes": 64,
        },
    ),
}
"""Row of the table -> what is measured. Agents of fleet_regions and networked_team are unlike as
they are, those of stag_hunt alike."""
MODES: Mapping[str, Mapping[str, object]] = {
    "gossip": {},
    "central": {"mode": "central", "topology": {}},
    "independent": {"mode": "independent", "topology": {}},
    "personal": {"personal.kind": "finetune"},
}
"""Column of the table -> settings. Personal: gossip, and each agent acts with its own update."""
ALIKE = "alike"
"""Key of the runs of a scenario as it is."""
AS_THEY_ARE = (
    "signals_ring",
    "microgrid_ring",
    "glucose_ring",
    "maintenance_ring",
    "portfolio_ring",
    "signal_grid_torus",
    "warehouse_torus",
)
"""Scenarios whose numbers are on the page, too, and in their own comments."""
REGIONS = "fleet_regions"
"""A scenario whose numbers are on the page by region."""
BAND = "spectrum_torus"
"""A scenario whose rates are on the page by what a link is paid for."""
PAID = {"externality": "learned, charged for what it takes", "own": "learned, own rate"}
"""`environment.share` -> row of the table of rates."""
DRIVERS = {"learned": "own", "keep_lane": "keep_lane", "change_lanes": "change_lanes"}
"""Column of the table of regions -> who drives, as a column of agents.csv."""


def numbers(record: p2pfrl.Record) -> dict[str, float]:
    """Return the returns of the last evaluation: means, the worst agent's, baselines, optimum."""
    evaluation = record.summary["evaluation"]
    found = record.agents["evaluation_own"]
    best = evaluation["optimum"]
    return {
        "own": evaluation["own"],
        "worst": float(np.nanmin(found)),
        **evaluation["baselines"],
        **({} if best is None else {"optimum": best}),
    }


def measure(world: str, mode: str, seed: int, **more: object) -> dict[str, float]:
    """Return the numbers of one run, with `more` settings by dotted key."""
    row = WORLDS[world]
    settings = {**row.settings, **MODES[mode], "seed": seed, "agents": row.agents, **more}
    if row.vary:
        settings["environment.vary"] = row.vary
    return numbers(p2pfrl.run(p2pfrl.load(f"{row.scenario or world}.toml", overrides=settings)))


def shown(values: Sequence[float], digits: str) -> str:
    """Return the mean and the range over seeds."""
    mean, low, high = (
        format(value, digits) for value in (sum(values) / len(values), min(values), max(values))
    )
    return f"{mean} ({low} to {high})"


def table(found: Mapping[str, Any], names: Sequence[str] = tuple(WORLDS)) -> Iterator[str]:
    """Yield the lines of the table: a row per world, a column per mode, mean and worst agent.

    A row rests on the seeds that all modes have.
    """
    yield f"| world | seeds | {' | '.join(MODES)} |"
    yield f"|---|---|{'---|' * len(MODES)}"
    for world in names:
        rows = found.get(world, {})
        count = min(len(rows.get(mode, ())) for mode in MODES)
        if not count:
            continue
        for name, first in (("own", f"{world} | {count}"), ("worst", "its worst agent | ")):
            shows = [
                shown([run[name] for run in rows[mode][:count]], WORLDS[world].digits)
                for mode in MODES
            ]
            yield f"| {first} | {' | '.join(shows)} |"


def as_it_is(scenario: str, seed: int, **more: object) -> dict[str, float]:
    """Return the numbers of one run of a scenario, whose agents are alike."""
    return numbers(p2pfrl.run(p2pfrl.load(f"{scenario}.toml", overrides={"seed": seed, **more})))


def regions(seed: int, **more: object) -> dict[str, dict[str, float]]:
    """Return the mean return of the cars of each region, by driver."""
    record = p2pfrl.run(p2pfrl.load(f"{REGIONS}.toml", overrides={"seed": seed, **more}))
    found: dict[str, dict[str, float]] = {}
    for place, region in enumerate(("city", "motorway", "mountains", "winter")):
        found[region] = {
            driver: float(np.nanmean(record.agents[f"evaluation_{name}"].reshape(-1, 4)[:, place]))
            for driver, name in DRIVERS.items()
        }
    return found


def rates(share: str, seed: int, **more: object) -> dict[str, float]:
    """Return the rate per link of the last evaluation, in bit/s/Hz, and that of the baselines."""
    settings = {"environment.share": share, "seed": seed, **more}
    found = p2pfrl.run(p2pfrl.load(f"{BAND}.toml", overrides=settings)).summary["evaluation"]
    return {name: float(measures["rate"]) for name, measures in found["measures"].items()}


def rates_table(found: Mapping[str, Any]) -> Iterator[str]:
    """Yield the lines of the table of rates: who learns, and the baselines on the same episodes."""
    cells = {share: found.get(BAND, {}).get(f"share={share}", ()) for share in PAID}
    yield "| links | seeds | rate per link, bit/s/Hz |"
    yield "|---|---|---|"
    for share, runs in cells.items():
        if runs:
            name = f"{PAID[share]} (`share={share}`)"
            yield f"| {name} | {len(runs)} | {shown([run['own'] for run in runs], '.2f')} |"
    for name in ("wmmse", "full_power"):
        if runs := cells["externality"]:
            yield f"| `{name}` | {len(runs)} | {shown([run[name] for run in runs], '.2f')} |"


def regions_table(found: Mapping[str, Any]) -> Iterator[str]:
    """Yield the lines of the table of regions."""
    runs = found.get(REGIONS, {}).get("regions", ())
    yield f"| region | {' | '.join(DRIVERS)} |"
    yield "|---|---|---|---|"
    for region in runs[0] if runs else ():
        cells = [
            shown([run[region][driver] for run in runs], WORLDS[REGIONS].digits)
            for driver in DRIVERS
        ]
        yield f"| {region} | {' | '.join(cells)} |"


def alike_table(found: Mapping[str, Any]) -> Iterator[str]:
    """Yield the lines of the table of scenarios as they are: learned, baselines, optimum."""
    yield "| scenario | seeds | learned | baselines | optimum |"
    yield "|---|---|---|---|---|"
    for world in AS_THEY_ARE:
        runs = found.get(world, {}).get(ALIKE, ())
        if not runs:
            continue
        digits = WORLDS[world].digits
        texts = {name: shown([run[name] for run in runs], digits) for name in runs[0]}
        optimum = texts.pop("optimum", "unknown").partition(" ")[0]
        learned, _ = texts.pop("own"), texts.pop("worst")
        others = ", ".join(f"{name} {text}" for name, text in texts.items())
        yield f"| `{world}` | {len(runs)} | {learned} | {others} | {optimum} |"


def cells(world: str) -> list[Cell]:
    """Return the cells of a row, and that of the scenario as it is."""
    found = [Cell((mode,), SEEDS, partial(measure, world, mode)) for mode in MODES]
    if world in AS_THEY_ARE:
        found.append(Cell((ALIKE,), SEEDS, partial(as_it_is, world)))
    if world == BAND:
        found.extend(Cell((f"share={share}",), SEEDS, partial(rates, share)) for share in PAID)
    if world == REGIONS:
        found.append(Cell(("regions",), SEEDS, regions))
    return found


def all_tables(found: Mapping[str, Any], names: Sequence[str]) -> Iterator[str]:
    """Yield the lines of all tables."""
    yield from alike_table(found)
    yield ""
    yield from regions_table(found)
    yield ""
    yield from rates_table(found)
    yield ""
    yield from table(found, names)


if __name__ == "__main__":
    main(__doc__, FILE, "worlds", {name: cells(name) for name in WORLDS}, all_tables)
