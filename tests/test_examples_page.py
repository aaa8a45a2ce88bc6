"""The page of worked examples states what was measured."""

import json

import pytest
from measure_examples import EXAMPLES, FILE, ROOT, measure, table
from measure_worlds import shown

PAGE = (ROOT / "docs" / "examples.md").read_text(encoding="utf-8")
FOUND = json.loads(FILE.read_text(encoding="utf-8"))["examples"]
EXACT = "the exact gradient"
RIVALED = ("return", "travel_time", "collisions", "throughput")
ALONE = f"{EXACT}, without exchange (`mode=independent`)"


@pytest.mark.parametrize("example", FOUND)
def test_a_table_of_the_page_is_that_of_the_measured_file(example: str) -> None:
    rows = FOUND[example]
    assert list(rows) == list(EXAMPLES[example].rows)
    assert len({len(runs) for runs in rows.values()}) == 1
    assert "\n".join(table(example, rows)).partition("\n\n")[0] in PAGE


def test_tables_rest_on_ten_seeds() -> None:
    assert FOUND.keys() == EXAMPLES.keys()
    assert {len(runs) for rows in FOUND.values() for runs in rows.values()} == {10}


@pytest.mark.parametrize(
    ("example", "key", "more", "less", "count"),
    [
        ("value_network", "rounds", "none", "value", 10),
        ("experience", "greedy", "gossip", "independent", 9),
        ("experience", "training", "gossip", "independent", 7),
        ("demand", "training", "gossip", "independent", 10),
        ("demand", "greedy", "gossip", "independent", 10),
        ("zero_sum", "end", ALONE, EXACT, 9),
        ("coordinate", "part", "critic and reward", "critic alone", 10),
        ("scale", "rounds", "1", "8", 10),
        ("scale", "rounds", "4", "8", 9),
    ],
)
def test_what_the_page_concludes_of_two_rows_is_in_the_file(
    example: str, key: str, more: str, less: str, count: int
) -> None:
    pairs = list(zip(FOUND[example][more], FOUND[example][less], strict=True))
    assert (len(pairs), sum(a[key] > b[key] for a, b in pairs)) == (10, count)


def test_last_policies_stay_away_from_the_equilibrium_and_averages_come_near() -> None:
    for runs in FOUND["zero_sum"].values():
        assert all(run["end"] < min(run["low"], run["ten"]) for run in runs)


def test_pairs_that_hunt_the_stag_are_one_of_four_and_only_alone() -> None:
    prisoners, alone, together = FOUND["other_games"].values()
    assert {run["payoff"] for run in prisoners} == {1.0}
    assert {run["payoff"] for run in together} == {3.0}
    assert sorted(run["payoff"] for run in alone) == [3.0] * 6 + [3.25] * 4


def test_one_agent_misses_the_target_on_two_seeds_and_eight_never() -> None:
    rows = FOUND["scale"]
    missed = {agents: [run["rounds"] for run in runs].count(400) for agents, runs in rows.items()}
    assert missed == {"1": 2, "2": 0, "4": 0, "8": 0}


def test_the_comment_on_averages_states_what_the_page_states() -> None:
    text = (ROOT / "scenarios" / "rps_averages.toml").read_text(encoding="utf-8")
    comment = " ".join(line[2:] for line in text.splitlines() if line.startswith("# "))
    rows = {name: FOUND["zero_sum"][name] for name in (EXACT, ALONE)}
    assert "over ten seeds" in comment
    keys = [(EXACT, key) for key in ("ten", "end", "low", "high")] + [(ALONE, "end")]
    for row, key in keys:
        assert shown([run[key] for run in rows[row]], ".2f") in comment


def test_critics_of_the_mean_reward_become_better_on_each_seed() -> None:
    own, team = FOUND["junction"].values()
    assert "\n".join(table("junction", FOUND["junction"])).partition("\n\n")[2].strip() in PAGE
    better = [[run["last"] > run["first"] for run in runs].count(True) for runs in (own, team)]
    assert better == [6, 10]


@pytest.mark.parametrize(("row", "better", "faster", "crashing"), [(0, 8, 9, 8), (1, 3, 4, 3)])
def test_vehicles_beside_those_who_come_and_are_served_first(
    row: int, better: int, faster: int, crashing: int
) -> None:
    first = next(iter(FOUND["junction"].values()))  # its runs have the baselines
    runs = list(FOUND["junction"].values())[row]
    served = [{key: run[f"first_come_first_served {key}"] for key in RIVALED} for run in first]
    pairs = list(zip(runs, served, strict=True))
    assert [a["return"] > b["return"] for a, b in pairs].count(True) == better
    assert [a["travel_time"] < b["travel_time"] for a, b in pairs].count(True) == faster
    assert [a["collisions"] > 0 for a, _ in pairs].count(True) == crashing
    assert not any(b["collisions"] for _, b in pairs)
    assert row or all(a["throughput"] > b["throughput"] for a, b in pairs)


def test_the_comment_on_the_junction_states_what_the_page_states() -> None:
    text = (ROOT / "scenarios" / "junction_torus.toml").read_text(encoding="utf-8")
    comment = " ".join(line[2:] for line in text.splitlines() if line.startswith("# "))
    own, team = FOUND["junction"].values()
    assert "over ten seeds" in comment
    for runs, key in (
        (own, "return"),
        (own, "first_come_first_served return"),
        (own, "full_throttle return"),
        (team, "return"),
    ):
        assert shown([run[key] for run in runs], ".2f") in comment


@pytest.mark.slow
def test_a_row_can_be_measured_again() -> None:
    few = {"stop.rounds": 1, "evaluation.episodes": 1}
    assert 0 <= measure("other_games", "`prisoners`", 1, **few)["payoff"] <= 5
