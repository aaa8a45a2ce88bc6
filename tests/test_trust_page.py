"""The tables of attacks and rules on the page on trust are those that were measured."""

import json

import measure_privacy
import pytest
from measure_attacks import FILE, ROOT, TABLES, lines, measure, shown

PAGE = (ROOT / "docs" / "trust.md").read_text(encoding="utf-8")
FOUND = json.loads(FILE.read_text(encoding="utf-8"))["tables"]


@pytest.mark.parametrize("table", TABLES)
def test_a_table_of_the_page_is_that_of_the_measured_file(table: str) -> None:
    cells, one = FOUND[table], TABLES[table]
    assert all(
        len(cells[rule][attack]) == len(one.seeds)
        for rule in one.rules
        for attack in one.attacks
        if one.has(rule, attack)
    )
    assert "\n".join(lines(table, cells)) in PAGE


def test_noise_ruins_the_mean_and_not_the_geometric_median_or_the_trimmed_mean() -> None:
    central = FOUND["central"]
    assert max(central["mean"]["noise"]) <= 40
    assert min(central["geometric_median"]["noise"] + central["trimmed_mean"]["noise"]) >= 400


def test_every_attack_of_a_table_changes_what_is_learned_without_a_defense() -> None:
    for table, plain in (("central", "mean"), ("gossip", "metropolis")):
        calm = FOUND[table][plain]["none"]
        assert all(
            FOUND[table][plain][attack] != calm
            for attack in TABLES[table].attacks
            if attack != "none"
        )


@pytest.mark.parametrize(
    ("table", "rule", "attack"),
    [("central", "krum", "alie"), ("gossip", "clipped_gossip", "dissensus")],
)
def test_a_cell_can_be_measured_again(table: str, rule: str, attack: str) -> None:
    few = {"stop.rounds": 1, "evaluation.every": 1}
    assert 5 < measure(table, rule, attack, 1, **few) <= 500


def test_a_cell_has_the_mean_and_the_interval_within_possible_returns() -> None:
    assert shown([500.0] * 4 + [400.0]) == "480 (424 to 500)"
    assert shown([20.0, 30.0]) == "25"
    assert shown([0.5] * 4 + [0.75], is_return=False) == "0.55 (0.41 to 0.69)"


def test_the_costs_of_privacy_on_the_page_are_those_that_were_measured() -> None:
    found = json.loads(measure_privacy.FILE.read_text(encoding="utf-8"))
    assert "\n".join(measure_privacy.lines(found)) in PAGE
    assert "\n".join(measure_privacy.meter_lines(found)) in PAGE
    runs = [found[name] for name in (*measure_privacy.SCENARIOS, "meters")]
    assert {len(cell) for table in runs for cell in table.values()} == {10}
    assert measure_privacy.FIGURE.is_file()


def test_on_how_many_seeds_privacy_costs_return() -> None:
    found = json.loads(measure_privacy.FILE.read_text(encoding="utf-8"))
    counts = {
        name: [
            [a < b for a, b in zip(runs[one], runs["infinity"], strict=True)].count(True)
            for one in ("1", "3", "10")
        ]
        for name, runs in found.items()
        if name in measure_privacy.SCENARIOS
    }
    assert counts == {"tabular Q": [10, 10, 10], "CartPole": [10, 7, 6]}
    assert max(found["tabular Q"]["infinity"]) - min(found["tabular Q"]["10"]) < 2e-3


def _below(first: list[float], second: list[float]) -> int:
    return [a < b for a, b in zip(first, second, strict=True)].count(True)


def test_what_the_page_concludes_of_attacks_holds_on_so_many_of_ten_seeds() -> None:
    central, beyond, dumbbell = FOUND["central"], FOUND["beyond"], FOUND["dumbbell"]
    assert max(_below(row["alie"], row["none"]) for row in central.values()) == 4
    assert max(_below(beyond[rule]["alie of 5"], central[rule]["none"]) for rule in beyond) == 6
    defended = [row["random_action"] for rule, row in central.items() if rule != "mean"]
    least = [min(runs) for runs in zip(*defended, strict=True)]
    assert [
        a == b for a, b in zip(central["centered_clipping"]["random_action"], least, strict=True)
    ].count(True) == 9
    plain = dumbbell["metropolis"]["none"]
    apart = {
        rule: _below(plain, row["none"]) for rule, row in dumbbell.items() if rule != "metropolis"
    }
    assert apart == {"median": 10, "trimmed_mean": 10, "bridge": 10, "clipped_gossip": 8}


def test_an_observation_follows_from_a_gradient_and_not_from_one_with_noise() -> None:
    assert measure_privacy.inversion("infinity", agents=20) < 1e-6
    assert measure_privacy.inversion("10", agents=20) > 1.0


def test_private_returns_can_be_measured_again() -> None:
    few = {"stop.rounds": 1, "evaluation.every": 1, "evaluation.episodes": 1, "agents": 4}
    assert 5 < measure_privacy.measure("CartPole", "3", 1, **few) <= 500
    assert 5 < measure_privacy.measure("CartPole", "infinity", 1, **few) <= 500
