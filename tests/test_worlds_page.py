"""The page on worlds states what scenarios state, and its table can be measured."""

import json
import re

import pytest
from measure_worlds import FILE, MODES, ROOT, SEEDS, WORLDS, measure, shown, table

PAGE = (ROOT / "docs" / "worlds.md").read_text(encoding="utf-8")
ROWS = {
    row[1]: row[2:]
    for row in re.findall(r"^\| (`(\w+)`) \| (.*?) \| (.*?) \| (.*?) \|$", PAGE, re.M)
}


@pytest.mark.parametrize("world", [name for name in WORLDS if name in ROWS])
def test_a_row_of_the_page_is_what_the_scenario_says(world: str) -> None:
    text = (ROOT / "scenarios" / f"{world}.toml").read_text(encoding="utf-8")
    comment = " ".join(line[2:] for line in text.splitlines() if line.startswith("# "))
    learned, baselines, optimum = ROWS[world]
    stated = [learned, *baselines.replace(", ", "; ").split("; ")]
    for words in (*stated, *([] if optimum == "unknown" else [f"is {optimum}"])):
        assert words in comment, words


def test_the_table_of_modes_has_the_mean_and_the_worst_agent_of_a_world() -> None:
    run = {"own": -83.46, "worst": -99.0}
    found = {"signals_ring": dict.fromkeys(MODES, [run] * len(SEEDS)), "glucose_ring": {}}
    *_, own, worst = table(found)
    assert own.startswith("| signals_ring | -83.5 (-83.5 to -83.5) |")
    assert worst.startswith("| its worst agent | -99.0 (-99.0 to -99.0) |")


def test_the_table_of_the_page_is_that_of_the_measured_file() -> None:
    found = json.loads(FILE.read_text(encoding="utf-8"))["worlds"]
    assert found
    assert all(line in PAGE for line in table(found))
    assert all(len(rows[mode]) == len(SEEDS) for rows in found.values() for mode in MODES)


@pytest.mark.parametrize("mode", MODES)
def test_every_mode_of_the_table_runs(mode: str) -> None:
    found = measure("maintenance_ring", mode, 1, **{"stop.rounds": 1, "evaluation.episodes": 1})
    assert found["worst"] <= found["own"] <= found["optimum"]


def test_a_cell_has_the_mean_and_the_range() -> None:
    assert shown([1.0, 2.0, 4.04], ".1f") == "2.3 (1.0 to 4.0)"
