"""The page of worked examples states what was measured."""

import json

import pytest
from measure_examples import EXAMPLES, FILE, ROOT, measure, table

PAGE = (ROOT / "docs" / "examples.md").read_text(encoding="utf-8")
FOUND = json.loads(FILE.read_text(encoding="utf-8"))["examples"]


@pytest.mark.parametrize("example", FOUND)
def test_a_table_of_the_page_is_that_of_the_measured_file(example: str) -> None:
    rows = FOUND[example]
    assert list(rows) == list(EXAMPLES[example].rows)
    assert len({len(runs) for runs in rows.values()}) == 1
    assert "\n".join(table(example, rows)).partition("\n\n")[0] in PAGE


def test_critics_of_the_mean_reward_become_better_on_each_seed() -> None:
    own, team = FOUND["junction"].values()
    assert "\n".join(table("junction", FOUND["junction"])).partition("\n\n")[2].strip() in PAGE
    better = [[run["last"] > run["first"] for run in runs].count(True) for runs in (own, team)]
    assert (len(own), better) == (5, [3, 5])


def test_a_row_can_be_measured_again() -> None:
    few = {"stop.rounds": 1, "evaluation.episodes": 1}
    assert 0 <= measure("other_games", "`prisoners`", 1, **few)["payoff"] <= 5
