"""The page on results explains every column and key that a run can leave."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from runs import write_scenario

import p2pfrl
from p2pfrl.results.record import AGENTS, METRICS

PAGE = (Path(__file__).parents[2] / "docs" / "results.md").read_text(encoding="utf-8")


def explained(table: str) -> set[str]:
    """Return the names in the first column of the table after `table`."""
    _, _, after = PAGE.partition(table)
    rows = after[after.index("|---") :].split("\n\n")[0].splitlines()[1:]
    return {name for row in rows for name in re.findall(r"`(\w+)`", row.split("|")[1])}


def test_every_column_is_explained_and_no_other() -> None:
    assert explained("`metrics.csv` has") == set(METRICS)
    evaluation = {"evaluation_own", "evaluation_NAME", "evaluation_optimum"}
    assert explained("`agents.csv` has") - {"physics_NAME"} - evaluation == set(AGENTS)


@pytest.mark.parametrize("mode", ["gossip", "central"])
def test_every_key_is_explained_and_no_other(mode: str, tmp_path: Path) -> None:
    scenario = p2pfrl.load(write_scenario(tmp_path), overrides={"mode": mode})
    p2pfrl.run(scenario, out=tmp_path / "run")
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert explained("\n`summary.json`:\n") == {
        *summary,
        "device",
        "notes",
        "workers",
    }  # not every run has these


def test_every_attribute_of_a_record_is_in_the_page_on_python() -> None:
    page = (Path(__file__).parents[2] / "docs" / "python.md").read_text(encoding="utf-8")
    for name in (*p2pfrl.Record.__dataclass_fields__, "policy", "state_dict"):
        assert re.search(rf"`(record\.)?{name}\b", page), name
