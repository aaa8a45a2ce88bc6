"""The page on worlds states what scenarios state, and its table can be measured."""

import json
import os
import re
import subprocess
import sys
import tomllib
from importlib import import_module
from pathlib import Path
from platform import machine

import numpy as np
import pytest
from measure_worlds import (
    AS_THEY_ARE,
    BAND,
    DRIVERS,
    FILE,
    MODES,
    PAID,
    REGIONS,
    ROOT,
    SEEDS,
    WORLDS,
    alike_table,
    as_it_is,
    measure,
    rates,
    rates_table,
    regions,
    regions_table,
    shown,
    table,
)

import p2pfrl
from p2pfrl.learning.environments import RULES
from p2pfrl.learning.native.choice import missing

PAGE = (ROOT / "docs" / "worlds.md").read_text(encoding="utf-8")
ROWS = {
    row[0]: row[1:]
    for row in re.findall(r"^\| `(\w+)` \| (\d+) \| (.*?) \| (.*?) \| (.*?) \|$", PAGE, re.M)
}
WORDS = ("no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")


@pytest.mark.parametrize("world", ROWS)
def test_a_row_of_the_page_is_what_the_scenario_says(world: str) -> None:
    text = (ROOT / "scenarios" / f"{world}.toml").read_text(encoding="utf-8")
    comment = " ".join(line[2:] for line in text.splitlines() if line.startswith("# "))
    seeds, learned, baselines, optimum = ROWS[world]
    assert f"over {WORDS[int(seeds)]} seeds" in comment
    stated = [learned, *baselines.replace(", ", "; ").split("; ")]
    for words in (*stated, *([] if optimum == "unknown" else [f"is {optimum}"])):
        assert words in comment, words


def test_the_table_of_modes_has_the_mean_and_the_worst_agent_of_a_world() -> None:
    run = {"own": -83.46, "worst": -99.0}
    found = {"signals_ring": dict.fromkeys(MODES, [run] * len(SEEDS)), "glucose_ring": {}}
    *_, own, worst = table(found)
    assert own.startswith(f"| signals_ring | {len(SEEDS)} | -83.5 (-83.5 to -83.5) |")
    assert worst.startswith("| its worst agent |  | -99.0 (-99.0 to -99.0) |")


def test_a_row_rests_on_the_seeds_that_all_modes_have() -> None:
    run, other = {"own": 1.0, "worst": 0.0}, {"own": 9.0, "worst": 9.0}
    rows = {mode: [run] for mode in MODES} | {"central": [run, other]}
    _, _, own, _ = table({"glucose_ring": rows})
    assert own.startswith("| glucose_ring | 1 | 1 (1 to 1) | 1 (1 to 1) |")


def test_the_table_of_the_page_is_that_of_the_measured_file() -> None:
    found = json.loads(FILE.read_text(encoding="utf-8"))["worlds"]
    assert found
    tables = (*table(found), *alike_table(found), *regions_table(found), *rates_table(found))
    alike = [world for world in AS_THEY_ARE if "alike" in found[world]]
    assert list(ROWS) == alike
    assert alike == list(AS_THEY_ARE)
    assert len(tables) == 2 + 2 * len(WORLDS) + 2 + len(alike) + 2 + 4 + 2 + 4
    assert all(line in PAGE for line in tables)
    counts = [{len(rows[mode]) for mode in MODES} for rows in found.values()]
    assert all(len(own) == 1 and min(own) == len(SEEDS) for own in counts)


@pytest.mark.parametrize(
    ("world", "more", "less", "count"),
    [
        ("portfolio_ring", "gossip", "independent", 9),
        ("portfolio_ring", "central", "independent", 9),
        ("microgrid_ring", "independent", "central", 10),
        ("microgrid_ring", "independent", "gossip", 9),
        ("microgrid_ring", "personal", "gossip", 10),
        ("glucose_ring", "gossip", "independent", 7),
        ("networked_team", "gossip", "independent", 10),
        ("networked_team", "independent", "central", 10),
        ("stag_hunt", "independent", "gossip", 6),
        ("fleet_regions", "gossip", "independent", 9),
        ("fleet_regions", "central", "independent", 10),
        ("junction_torus", "gossip", "independent", 9),
        ("junction_torus", "central", "independent", 10),
        ("signal_grid_torus", "gossip", "independent", 9),
        ("signal_grid_torus", "central", "independent", 9),
    ],
)
def test_what_the_page_concludes_of_ten_seeds_is_in_the_file(
    world: str, more: str, less: str, count: int
) -> None:
    rows = json.loads(FILE.read_text(encoding="utf-8"))["worlds"][world]
    pairs = list(zip(rows[more], rows[less], strict=True))
    assert (len(pairs), sum(a["own"] > b["own"] for a, b in pairs)) == (10, count)


@pytest.mark.parametrize(
    ("world", "better", "worse"),
    [
        ("warehouse_torus", [], ["one_way"]),
        ("signal_grid_torus", ["webster", "max_pressure", "longest_queue"], ["progression"]),
        ("fleet_regions", [], ["keep_lane", "change_lanes"]),
    ],
)
@pytest.mark.parametrize("mode", MODES)
def test_what_the_page_says_beside_baselines_holds_on_every_seed(
    world: str, better: list[str], worse: list[str], mode: str
) -> None:
    for run in json.loads(FILE.read_text(encoding="utf-8"))["worlds"][world][mode]:
        assert all(run["own"] > run[name] for name in better)
        assert all(run["own"] < run[name] for name in worse)


@pytest.mark.parametrize(("mode", "count"), [("gossip", 9), ("central", 10), ("independent", 1)])
def test_on_how_many_seeds_vehicles_are_better_than_first_come_first_served(
    mode: str, count: int
) -> None:
    runs = json.loads(FILE.read_text(encoding="utf-8"))["worlds"]["junction_torus"][mode]
    better = [run["own"] > run["first_come_first_served"] for run in runs]
    assert (len(better), better.count(True)) == (10, count)


@pytest.mark.parametrize("mode", ["gossip", "central"])
def test_robots_gain_by_federation_on_every_seed(mode: str) -> None:
    rows = json.loads(FILE.read_text(encoding="utf-8"))["worlds"]["warehouse_torus"]
    assert all(a["own"] > b["own"] for a, b in zip(rows[mode], rows["independent"], strict=True))


@pytest.mark.parametrize("mode", ["gossip", "central"])
@pytest.mark.parametrize("world", ["junction_torus", "warehouse_torus"])
def test_the_worst_agent_gains_by_federation_on_every_seed_of_two_shared_worlds(
    world: str, mode: str
) -> None:
    rows = json.loads(FILE.read_text(encoding="utf-8"))["worlds"][world]
    pairs = list(zip(rows[mode], rows["independent"], strict=True))
    assert len(pairs) == 10
    assert all(a["worst"] > b["worst"] for a, b in pairs)


SEEN = """
import sys, p2pfrl
few = {"stop.rounds": 3, "evaluation.episodes": 1}
for name in sys.argv[1:]:
    record = p2pfrl.run(p2pfrl.load(f"{name}.toml", overrides=few))
    print(name, round(record.summary["evaluation"]["own"], 9), end=" ")
    print(record.summary["parameters_digest"] if "native" in record.summary["versions"]["engine"] else "")
"""
OTHER = {
    "ATEN_CPU_CAPABILITY": "default",
    "OPENBLAS_CORETYPE": "Nehalem",
    "NPY_DISABLE_CPU_FEATURES": "X86_V3,X86_V4,AVX512_ICL,AVX512_SPR",
}
"""Variables that have torch, BLAS and numpy compute as on a processor without AVX."""


@pytest.mark.slow
@pytest.mark.skipif(missing() is not None, reason="needs a compiler")
@pytest.mark.skipif(machine() != "x86_64", reason="the kernels are those of x86-64")
def test_worlds_have_the_same_parameters_with_the_kernels_of_another_processor() -> None:
    names = [row.scenario or name for name, row in WORLDS.items()]
    seen = [
        subprocess.run(
            [sys.executable, "-W", "ignore", "-c", SEEN, *names],
            env=os.environ | more,
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for more in ({}, OTHER)
    ]
    assert seen[0].splitlines() == seen[1].splitlines()
    assert len(seen[0].splitlines()) == len(names)


def test_what_the_page_says_of_regions_is_in_the_file() -> None:
    runs = json.loads(FILE.read_text(encoding="utf-8"))["worlds"][REGIONS]["regions"]
    worst = [min(run, key=lambda region: run[region]["learned"]) for run in runs]
    assert (len(runs), worst.count("city")) == (10, 9)
    above = {
        driver: [
            region for run in runs for region, own in run.items() if own["learned"] >= own[driver]
        ]
        for driver in ("keep_lane", "change_lanes")
    }
    assert sorted(above["keep_lane"]) == ["motorway", "motorway", "winter", "winter"]
    assert above["change_lanes"] == []
    for run in runs:
        means = {who: sum(own[who] for own in run.values()) / 4 for who in DRIVERS}
        assert means["learned"] < min(means["keep_lane"], means["change_lanes"])


def test_the_regions_of_a_run_can_be_measured() -> None:
    few = {"stop.rounds": 1, "evaluation.episodes": 1, "agents": 4}
    found = {REGIONS: {"regions": [regions(1, **few)]}}
    assert [row.split(" | ")[0] for row in regions_table(found)][2:] == [
        "| city",
        "| motorway",
        "| mountains",
        "| winter",
    ]


@pytest.mark.parametrize("world", ["signal_grid_torus", "warehouse_torus"])
def test_a_comment_states_the_returns_of_unlike_members(world: str) -> None:
    runs = json.loads(FILE.read_text(encoding="utf-8"))["worlds"][world]["gossip"]
    text = (ROOT / "scenarios" / f"{world}.toml").read_text(encoding="utf-8")
    comment = " ".join(line[2:] for line in text.splitlines() if line.startswith("# "))
    digits = WORLDS[world].digits
    assert len(runs) == len(SEEDS) == 10
    assert "over ten seeds" in comment
    for name in runs[0].keys() - {"worst"}:
        assert shown([run[name] for run in runs], digits) in comment, name


def test_links_paid_for_their_own_rate_end_at_full_power_and_others_do_not() -> None:
    rows = json.loads(FILE.read_text(encoding="utf-8"))["worlds"][BAND]
    text = (ROOT / "scenarios" / f"{BAND}.toml").read_text(encoding="utf-8")
    comment = " ".join(line[2:] for line in text.splitlines() if line.startswith("# "))
    selfish, charged = rows["share=own"], rows["share=externality"]
    assert len(charged) == len(selfish) == 10
    assert all(run["own"] == run["full_power"] for run in selfish)
    assert f"at full power, on each of {WORDS[len(selfish)]} seeds" in comment
    assert all(run["full_power"] < run["own"] < run["wmmse"] for run in charged)
    for name in charged[0]:
        assert shown([run[name] for run in charged], ".2f") in comment


@pytest.mark.parametrize("share", PAID)
def test_the_rates_of_a_run_can_be_measured(share: str) -> None:
    few = {"stop.rounds": 1, "evaluation.episodes": 1, "learner.steps": 5}
    found = rates(share, 1, **few)
    assert list(found) == ["own", "full_power", "wmmse"]
    assert len(list(rates_table({BAND: {f"share={share}": [found]}}))) >= 3


def test_the_announced_bolus_is_better_than_ppo_on_nine_of_ten_seeds() -> None:
    runs = json.loads(FILE.read_text(encoding="utf-8"))["worlds"]["glucose_ring"]["alike"]
    assert [run["bolus"] > run["own"] for run in runs].count(True) == 9
    for text in (PAGE, (ROOT / "scenarios" / "glucose_ring.toml").read_text(encoding="utf-8")):
        assert "on nine of ten seeds" in " ".join(text.lower().split())


@pytest.mark.parametrize("mode", MODES)
def test_every_mode_of_the_table_runs(mode: str) -> None:
    found = measure("maintenance_ring", mode, 1, **{"stop.rounds": 1, "evaluation.episodes": 1})
    assert found["worst"] <= found["own"] <= found["optimum"]


def test_a_scenario_as_it_is_can_be_measured() -> None:
    few = {"stop.rounds": 1, "evaluation.episodes": 1, "agents": 3}
    found = {"maintenance_ring": {"alike": [as_it_is("maintenance_ring", 1, **few)]}}
    *_, row = alike_table(found)
    assert re.match(r"\| `maintenance_ring` \| 1 \| .*\| run_to_failure .* \| 74.3 \|", row), row


def test_a_cell_has_the_mean_and_the_range() -> None:
    assert shown([1.0, 2.0, 4.04], ".1f") == "2.3 (1.0 to 4.0)"


def test_the_drifts_of_the_page_are_those_of_a_scenario(tmp_path: Path) -> None:
    (text,) = re.findall(r"```toml\n(.*?)```", PAGE, re.S)
    (tmp_path / "wave.csv").write_text("0,0.1\n")
    drift = tomllib.loads(text)["environment"]["drift"]
    assert [own["kind"] for own in drift.values()] == ["step", "ramp", "sine", "trace"]
    rest = 'agents = 2\nstop.rounds = 1\nlearner.kind = "ppo"\nenvironment.id = "signals"\n'
    (tmp_path / "a.toml").write_text(rest + text)
    found = p2pfrl.load(tmp_path / "a.toml").environment
    assert found is not None
    moved = [own.values(np.array([0.5]), [0], [75])[0] for own in found.drift.values()]
    assert moved == pytest.approx([0.75, 0.6, 0.35, 0.1])


@pytest.fixture(scope="module")
def built() -> dict[str, str]:
    """Return the built page, by heading of an environment."""
    sys.path.insert(0, str(ROOT / "docs"))
    text = import_module("hooks").on_page_markdown(PAGE)
    sys.path.remove(str(ROOT / "docs"))
    parts = re.split(r"^### (\w+) \{ #environment-\w+ \}$", text, flags=re.M)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


@pytest.mark.parametrize("name", RULES)
def test_the_built_page_has_the_physics_with_their_ranges_the_measures_and_the_baselines(
    name: str, built: dict[str, str]
) -> None:
    spec, text = RULES[name]().spec, built[name]
    assert spec.physics.keys() == spec.ranges.keys()
    for quantity, (low, high) in spec.ranges.items():
        span = f"{low:,.10g} to {high:,.10g}"
        assert f"| `{quantity}` | {spec.physics[quantity]:,.10g} | {span} |" in text
    assert f"| measures | {', '.join(spec.measures) or 'none'} |" in text
    assert f"| baselines | {', '.join(spec.baselines) or 'none'} |" in text
    assert f'id = "{name}"' in text
    scenarios = re.findall(r"^p2pfrl scenario (\w+)\.toml$", text, re.M)
    assert all((ROOT / "scenarios" / f"{scenario}.toml").exists() for scenario in scenarios)


def test_every_world_with_baselines_has_a_paragraph_and_a_picture() -> None:
    worlds = [name for name, cls in RULES.items() if cls().spec.baselines]
    games = ("public_goods", "congestion")
    assert len(worlds) == 14
    for name in (world for world in worlds if world not in games):
        assert f"\n**{name}.** " in PAGE
        assert f"![{name}](worlds_{name}.png)" in PAGE
        assert (ROOT / "docs" / f"worlds_{name}.png").exists()
    assert all(f"`{name}`" in PAGE for name in games)
