"""Modes are compared on the same seeds, with honest uncertainty.

Other differences between them are reported.
"""

from __future__ import annotations

import io
import json
import math
from dataclasses import replace
from pathlib import Path

import pytest
from factory import record
from rich.console import Console
from runs import executed, fails_on_seed_2, fake, write_scenario

import p2pfrl
from p2pfrl.core.errors import P2PFRLError
from p2pfrl.experiment.compare import compare, read_comparison
from p2pfrl.experiment.comparison import Comparison
from p2pfrl.experiment.measures import tabulate
from p2pfrl.results.groups import group
from p2pfrl.results.plots import FIGURES
from p2pfrl.results.record import Record, load
from p2pfrl.results.report import report

MODES = ("gossip", "central", "independent")


@pytest.fixture(scope="module")
def comparison(tmp_path_factory: pytest.TempPathFactory) -> Comparison:
    folder = tmp_path_factory.mktemp("compare")
    return compare(write_scenario(folder), MODES, [0, 1, 2], folder / "out", run=fake)


def with_return(value: float, *, target_rounds: int | None = None) -> Record:
    run = record(2, rounds=2)
    reached = (
        None
        if target_rounds is None
        else {"rounds": target_rounds, "env_steps": 9, "virtual_seconds": 1.0, "bytes": 5}
    )
    final = {"mean": value, "min": value, "max": value, "iqm": value}
    return replace(run, summary=run.summary | {"final_return": final, "time_to_target": reached})


def test_every_mode_runs_every_seed(comparison: Comparison) -> None:
    folder = comparison.directories["gossip"][0].parent
    assert executed(folder) == sorted(f"{mode}-s{seed}" for mode in MODES for seed in (0, 1, 2))
    assert comparison.seeds == (0, 1, 2)


def test_differences_are_taken_seed_by_seed() -> None:
    base = [with_return(v) for v in (100.0, 200.0, 300.0)]
    other = [with_return(v + 10.0) for v in (100.0, 200.0, 300.0)]
    rows = {measure.title: cells for measure, cells in tabulate([base, other])}
    first, second = rows["final return, mean of agents"]
    assert first.difference is None
    assert second.difference is not None
    assert second.difference.mean == 10.0
    assert second.mean.mean == 210.0
    assert second.improvement == 1.0


@pytest.mark.parametrize("count", [1, 2, 3, 4, 5, 6])
def test_intervals_and_p_values_begin_at_five_seeds(count: int) -> None:
    modes = [[with_return(100.0 * s + 7.0 * m * s) for s in range(1, count + 1)] for m in (0, 1)]
    found = Comparison(
        ("gossip", "central"), tuple(range(count)), tabulate(modes), {"gossip": ("-",)}, {}
    )
    rows = {measure.title: cells for measure, cells in found.rows}
    for cell in (cells[1] for cells in rows.values() if cells[1].difference is not None):
        intervals = [cell.mean.low, cell.mean.high, cell.difference.low, cell.difference.high]
        assert all(math.isnan(value) for value in intervals) == (count < 5)
    final = rows["final return, mean of agents"][1]
    assert final.p_value == (None if count < 5 else 2 / 2**count)
    values, against = found.tables()[:2]
    assert ("95%" in values.caption) == (count >= 5)
    assert ("need at least 5 seeds" in values.caption) == (count < 5)
    line = next(row for row in against.rows if row[0] == "final return, mean of agents")
    assert line[3:] == (f"{count} of {count}", "-" if count < 5 else f"{2 / 2**count:.3g}")


def test_the_interquartile_mean_over_runs_leaves_out_the_best_and_the_worst_run() -> None:
    base = [with_return(v) for v in (0.0, 10.0, 20.0, 30.0, 1000.0)]
    other = [with_return(v) for v in (900.0, 12.0, 22.0, 32.0, 40.0)]
    rows = {measure.title: cells for measure, cells in tabulate([base, other])}
    first, second = rows["final return, interquartile mean over runs"]
    assert (first.mean.mean, second.mean.mean) == (20.0, pytest.approx(94 / 3))
    assert second.difference is not None
    assert second.difference.mean == 2.0
    assert "final return, interquartile mean over agents of a run" in rows
    # Wins and ranks of the same values stand in the row of their mean, and only there.
    assert (second.improvement, second.p_value) == (None, None)
    plain = rows["final return, mean of agents"][1]
    assert plain.improvement == 0.8
    assert plain.p_value is not None


def test_a_target_not_reached_is_worse_than_any_reached() -> None:
    base = [with_return(1.0, target_rounds=None), with_return(1.0, target_rounds=90)]
    other = [with_return(1.0, target_rounds=80), with_return(1.0, target_rounds=85)]
    rows = {measure.title: cells for measure, cells in tabulate([base, other])}
    first, second = rows["rounds to target"]
    assert first.mean.count == 1
    assert math.isnan(first.values[0])
    assert second.improvement == 1.0


def test_measures_that_no_run_has_are_left_out() -> None:
    titles = [measure.title for measure, _ in tabulate([[record(2, rounds=2, quadratic=True)]])]
    assert "error at the end" in titles
    assert "final return, mean of agents" not in titles


def test_a_terminal_of_80_columns_cuts_no_word_off(comparison: Comparison) -> None:
    console = Console(file=io.StringIO(), width=80)
    console.print(comparison.to_rich())
    assert "…" not in console.file.getvalue()


def test_the_terminal_shows_every_mode_and_every_difference(comparison: Comparison) -> None:
    console = Console(file=io.StringIO(), width=260)
    console.print(comparison.to_rich())
    text = console.file.getvalue()
    assert "better on" in text
    for mode in MODES:
        assert comparison.differences[mode]
        assert all(fact in text for fact in comparison.differences[mode])


@pytest.mark.slow
def test_the_report_can_show_the_comparison(
    comparison: Comparison, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("p2pfrl.results.plots.FIGURES", {"modes": FIGURES["modes"]})
    paths = [path for found in comparison.directories.values() for path in found]
    page = report(paths, tmp_path, comparison.tables()).read_text()
    for title in ("Comparison", "Against gossip", "Beyond the mode", "Summary"):
        assert f"<h2>{title}</h2>" in page
    assert "Nothing is sent" in page


def test_what_differs_names_messages_and_interfaces(comparison: Comparison) -> None:
    gossip, central, independent = (" ".join(comparison.differences[mode]) for mode in MODES)
    assert "8 messages per exchange" in gossip
    assert "8 messages per exchange" in central
    assert "coordinator's single interface of 1000 Mbit/s" in central
    assert "Nothing is sent" in independent


def test_what_differs_is_a_range_where_seeds_draw_different_graphs(tmp_path: Path) -> None:
    scenario = write_scenario(tmp_path)
    text = scenario.read_text().replace("agents = 4", "agents = 9")
    scenario.write_text(text + '[topology]\nkind = "erdos_renyi"\nprobability = 0.4\n')
    found = compare(scenario, ["gossip"], [0, 1, 2, 3], tmp_path / "out", run=fake)
    edges = [
        len(p2pfrl.load(scenario, overrides={"seed": s}).topology.at(9, s, 0).edges)
        for s in range(4)
    ]
    assert min(edges) < max(edges)
    facts = " ".join(found.differences["gossip"])
    assert f"{min(edges)} to {max(edges)} messages per exchange" in facts


def test_the_json_is_valid_and_beside_the_runs(comparison: Comparison) -> None:
    written = json.loads(
        (comparison.directories["gossip"][0].parent / "comparison.json").read_text()
    )
    assert written == json.loads(json.dumps(comparison.to_json(), allow_nan=False))
    row = next(row for row in written["table"] if row["measure"] == "bytes sent")
    assert len(row["modes"]["central"]["values"]) == 3
    assert row["modes"]["gossip"]["difference"] is None


def test_bad_modes_seeds_and_failed_runs_are_errors(tmp_path: Path) -> None:
    scenario = write_scenario(tmp_path)
    with pytest.raises(P2PFRLError, match="different modes"):
        compare(scenario, ["gossip", "gossip"], [0], tmp_path, run=fake)
    with pytest.raises(P2PFRLError, match="different whole numbers"):
        compare(scenario, ["gossip"], [1, 1], tmp_path, run=fake)
    with pytest.raises(P2PFRLError, match="mode"):
        compare(scenario, ["gosip"], [1], tmp_path, run=fake)
    with pytest.raises(P2PFRLError, match=r"all 1 runs have failed(.|\n)*it went wrong"):
        compare(scenario, ["gossip"], [2], tmp_path / "out", run=fails_on_seed_2)


def test_failed_runs_are_named_and_the_others_compared(tmp_path: Path) -> None:
    scenario, out = write_scenario(tmp_path), tmp_path / "out"
    found = compare(scenario, ["gossip", "central"], [1, 2, 3], out, run=fails_on_seed_2)
    assert dict(found.failed) == dict.fromkeys(("gossip-s2", "central-s2"), "it went wrong")
    cells = next(cells for measure, cells in found.rows if measure.name == "bytes_sent")
    assert [math.isnan(value) for value in cells[1].values] == [False, True, False]
    assert cells[1].difference is not None
    assert cells[1].difference.count == 2
    first = found.tables()[0]
    assert first.title == "Failed runs"
    assert first.rows[0] == ("gossip-s2", "it went wrong")
    assert len(found.labels) == 4
    again = read_comparison(out)
    assert again.to_json() == found.to_json()
    assert again.tables() == found.tables()


def test_files_recipes_and_settings_are_members_and_files_are_tasks(tmp_path: Path) -> None:
    first = write_scenario(tmp_path)
    second = tmp_path / "wide.toml"
    second.write_text(first.read_text().replace("agents = 4", "agents = 6"))
    found = compare(
        [first, second],
        (),
        range(5),
        tmp_path / "out",
        recipes=["fedavg", "dpsgd"],
        run=fake,
    )
    assert found.members == ("bowl · fedavg", "bowl · dpsgd", "wide · fedavg", "wide · dpsgd")
    modes = [load(paths[0]).mode for paths in found.directories.values()]
    assert modes == ["central", "gossip"] * 2
    assert [one.label for one in found.over_tasks] == ["fedavg", "dpsgd"]
    assert [one.runs for one in found.over_tasks] == [10, 10]
    assert all(0 <= one.mean.low <= one.mean.mean <= one.mean.high <= 1 for one in found.over_tasks)
    titles = [table.title for table in found.tables()]
    # `fake` gives all runs of a seed one digest
    assert titles[:4] == ["Equal", "Aggregates over tasks", "Aggregates", "Comparison"]
    assert read_comparison(tmp_path / "out").over_tasks == found.over_tasks
    runs, columns = found.runs(), found.columns()
    assert {len(values) for values in runs.values()} == {20}
    assert runs["member"][5], runs["seed"][5] == ("bowl · dpsgd", 0)
    assert {len(values) for values in columns.values()} == {len(found.rows) * 4}
    assert [*columns] == (tmp_path / "out" / "comparison.csv").read_text().split("\n")[0].split(",")


def test_labels_of_members_name_the_lines_of_figures(tmp_path: Path) -> None:
    found = compare(
        write_scenario(tmp_path), (), [0], tmp_path / "out", recipes=["fedavg", "fedprox"], run=fake
    )
    groups = group(map(load, found.labels), found.labels)
    assert [g.label for g in groups] == ["fedavg", "fedprox"]
