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
    assert measure_privacy.FIGURE.is_file()


def test_an_observation_follows_from_a_gradient_and_not_from_one_with_noise() -> None:
    assert measure_privacy.inversion("infinity", agents=20) < 1e-6
    assert measure_privacy.inversion("10", agents=20) > 1.0


def test_private_returns_can_be_measured_again() -> None:
    few = {"stop.rounds": 1, "evaluation.every": 1, "evaluation.episodes": 1, "agents": 4}
    assert 5 < measure_privacy.measure("CartPole", "3", 1, **few) <= 500
    assert 5 < measure_privacy.measure("CartPole", "infinity", 1, **few) <= 500
