"""Runs that differ in nothing but the seed are one group.

Curves over seeds treat early stops fairly.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from factory import record

from p2pfrl.results.groups import final_rows, group, varied
from p2pfrl.results.numbers import amount, scale
from p2pfrl.results.plots.style import colors


def test_seeds_are_grouped_and_modes_are_not() -> None:
    runs = [
        record(4, rounds=3, mode=mode, seed=seed)
        for seed in (2, 1)
        for mode in ("gossip", "central")
    ]
    groups = group(runs)
    assert [g.label for g in groups] == ["gossip", "central"]
    assert [[r.seed for r in g.records] for g in groups] == [[1, 2], [1, 2]]
    assert len(set(colors(groups))) == 2


def test_runs_of_one_mode_are_told_apart_by_what_differs() -> None:
    base = record(4, rounds=3)
    runs = [replace(base, scenario=base.scenario + f"[learner]\nlr = {lr}\n") for lr in (0.1, 0.01)]
    assert [g.label for g in group(runs)] == ["lr 0.1", "lr 0.01"]


def labels(*settings: str) -> list[str]:
    base = record(2, rounds=2)
    return [g.label for g in group([replace(base, scenario=base.scenario + s) for s in settings])]


def test_labels_tell_groups_apart_by_as_few_keys_as_possible() -> None:
    every = [
        f"[learner]\nlr = {lr}\nhidden = {h}\nclip = {lr}\nwarm = {h}\nlast = {x}\n"
        for lr, h, x in ((0.1, 8, 1), (0.1, 16, 1), (0.01, 8, 1), (0.01, 8, 2))
    ]
    found = labels(*every)
    assert len(set(found)) == 4
    assert found == [
        "last 1 · lr 0.1 · warm 8",
        "last 1 · lr 0.1 · warm 16",
        "last 1 · lr 0.01 · warm 8",
        "last 2 · lr 0.01 · warm 8",
    ]


def test_one_key_that_tells_all_apart_is_enough_and_the_shortest_is_taken() -> None:
    found = labels(*(f"long_key = 1{i}000\nlr = {i}\nname_of_it = {i}\n" for i in range(5)))
    assert found == [f"lr {i}" for i in range(5)]


def test_a_label_names_the_section_where_the_last_word_does_not() -> None:
    assert labels('[topology]\nkind = "ring"\n', '[topology]\nkind = "path"\n') == [
        "topology ring",
        "topology path",
    ]
    found = labels(*(f"[a]\nlr = {i // 2}\n[b]\nlr = {i % 2}\n" for i in range(4)))
    assert found[3] == "a.lr 1 · b.lr 1"


def test_labels_of_many_keys_still_differ() -> None:
    found = labels(*("".join(f"k{j} = {int(i == j)}\n" for j in range(12)) for i in range(12)))
    assert len(set(found)) == 12


@pytest.mark.parametrize("seeds", [2, 4, 5, 7])
def test_a_curve_over_seeds_is_their_mean_with_an_interval_from_five_on(seeds: int) -> None:
    runs = [record(4, rounds=5, seed=seed) for seed in range(seeds)]
    runs = [
        replace(r, metrics=r.metrics | {"return_mean": np.full(5, float(r.seed))}) for r in runs
    ]
    curve = group(runs)[0].curve("round", "return_mean")
    np.testing.assert_array_equal(curve.x, [1, 2, 3, 4, 5])
    np.testing.assert_allclose(curve.mean, (seeds - 1) / 2)
    np.testing.assert_array_equal(curve.runs[:, 0], range(seeds))
    if seeds < 5:
        assert np.isnan([curve.low, curve.high]).all()
    else:
        assert (curve.low < curve.mean).all()
        assert (curve.high > curve.mean).all()


def test_a_seed_that_stopped_early_keeps_its_last_value() -> None:
    long, short = record(4, rounds=6, seed=1), record(4, rounds=6, seed=2)
    long = replace(long, metrics=long.metrics | {"return_mean": np.zeros(6)})
    metrics = {name: values[:2] for name, values in short.metrics.items()} | {
        "return_mean": np.array([0.0, 10.0])
    }
    curve = group([long, replace(short, metrics=metrics)])[0].curve("round", "return_mean")
    np.testing.assert_allclose(curve.mean, [0, 5, 5, 5, 5, 5])


def test_undefined_rows_are_left_out() -> None:
    run = record(4, rounds=4)
    run = replace(run, metrics=run.metrics | {"return_mean": np.array([np.nan, 1.0, np.nan, 3.0])})
    curve = group([run])[0].curve("round", "return_mean")
    np.testing.assert_array_equal(curve.x, [2, 4])
    assert group([run])[0].curve("round", "no_such_column").is_empty


def test_final_rows_hold_the_last_round_of_each_agent() -> None:
    run = record(3, rounds=4)
    table = {
        "round": np.array([1, 2, 1, 5, 3]),
        "agent": np.array([1, 1, 0, 0, 2]),
        "return": np.arange(5.0),
    }
    rows = final_rows(replace(run, agents=table))
    np.testing.assert_array_equal(rows["agent"], [0, 1, 2])
    np.testing.assert_array_equal(rows["return"], [3.0, 1.0, 4.0])


def test_only_physics_in_which_agents_differ_count_as_varied() -> None:
    assert varied(record(4, rounds=2)) == ()
    assert varied(record(4, rounds=2, vary=True)) == ("physics_difficulty",)


def test_axes_have_units_that_people_read() -> None:
    assert scale("virtual_seconds", 600.0).label == "virtual time (min)"
    assert scale("virtual_seconds", 0.05).label == "virtual time (ms)"
    assert scale("bytes_sent", 4e9).label == "bytes sent, all agents (GB)"
    assert scale("round", 120.0).label == "round"
    assert amount(18_900.0, "bytes_sent") == "18.9 kB"
    assert amount(90.0, "virtual_seconds") == "1.5 min"
    assert amount(float("nan"), "bytes_sent") == "-"
