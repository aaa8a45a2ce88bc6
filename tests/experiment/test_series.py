"""Runs are named by the directories of their series, in the order of the series."""

from __future__ import annotations

import csv
import json
import math
from pathlib import Path

import pytest
from factory import record
from runs import fails_on_seed_2, fake, write_scenario

import p2pfrl
from p2pfrl.cli import main
from p2pfrl.core.errors import P2PFRLError, RecordError, ScenarioError
from p2pfrl.experiment.compare import compare
from p2pfrl.experiment.series import series_of
from p2pfrl.experiment.sweep import sweep
from p2pfrl.results.directory import reserved
from p2pfrl.results.record import save

RATES = {"learner.lr": [0.05, 0.1, 0.02]}


def test_runs_of_a_series_keep_its_order(tmp_path: Path) -> None:
    file = write_scenario(tmp_path)
    found = compare(file, ["gossip", "central"], [0], tmp_path / "c", run=fake)
    series = series_of([tmp_path / "c"])
    with pytest.raises(RecordError, match="directory of one run, got one of 2, such as central-s0"):
        p2pfrl.load_record(tmp_path / "c")
    assert [series.labels[path] for path in series.runs] == list(found.members)
    swept = sweep(file, RATES, [0], tmp_path / "s", run=fake)
    assert [str(path) for path in series_of([tmp_path / "s"]).runs] == [
        row["directory"] for row in swept.rows
    ]
    assert not series.notes


def test_a_run_that_has_failed_is_named_once(tmp_path: Path) -> None:
    file = write_scenario(tmp_path)
    compare(file, ["gossip"], [1, 2], tmp_path / "c", run=fails_on_seed_2)
    assert [*series_of([tmp_path / "c"]).notes] == [
        f"{tmp_path / 'c' / 'gossip-s2'}: failed, left out"
    ]
    sweep(file, {}, [1, 2], tmp_path / "s", run=fails_on_seed_2)
    (note,) = series_of([tmp_path / "s"]).notes
    assert note.endswith("run-s2: failed, left out")


def test_a_series_without_a_finished_run_says_how_it_goes_on(tmp_path: Path) -> None:
    (tmp_path / "c" / "a-s0" / "checkpoints").mkdir(parents=True)
    (tmp_path / "c" / "a-s0" / "checkpoints" / "scenario.toml").write_text("")
    with pytest.raises(RecordError, match=r"none of its 1 runs is finished; .*--resume, goes on"):
        series_of([tmp_path / "c"])
    with pytest.raises(P2PFRLError, match="at least one run directory"):
        series_of([])


def test_tables_are_of_a_directory_its_name_or_a_series(tmp_path: Path) -> None:
    sweep(write_scenario(tmp_path), RATES, [0], tmp_path / "s", run=fake)
    whole = p2pfrl.load_table(tmp_path / "s", "runs")
    assert len(whole["run"]) == 3
    assert [*p2pfrl.load_table(str(tmp_path / "s"), "runs")["run"]] == [*whole["run"]]
    one = p2pfrl.load_table([whole["run"][0], Path(whole["run"][2])], "runs")
    assert [*one["run"]] == [whole["run"][0], whole["run"][2]]
    with pytest.raises(ScenarioError, match="table: expected one of rounds, "):
        p2pfrl.load_table(tmp_path / "s", "nope")


def test_from_python_one_name_stands_for_a_list_and_defaults_are_those_of_the_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = write_scenario(tmp_path)
    found = compare(file, recipes="fedavg", seeds=[0], out=tmp_path / "a", run=fake)
    assert found.members == ("fedavg",)
    assert compare(file, "central", [0], tmp_path / "b", run=fake).members == ("central",)
    monkeypatch.chdir(tmp_path)
    found = compare(file, run=fake)
    assert found.members == ("gossip", "central", "independent")
    assert found.seeds == (0, 1, 2, 3, 4)
    assert len([*Path("runs/bowl").glob("*-compare")]) == 1
    for settings in ({"learner.lr": 0.1}, {"learner.lr": "0.1"}):
        with pytest.raises(ScenarioError, match=r"learner\.lr: expected a list of values, got"):
            sweep(file, settings, run=fake)  # type: ignore[arg-type]
        with pytest.raises(ScenarioError, match=r"learner\.lr: expected a list of values, got"):
            compare(file, settings=settings, run=fake)  # type: ignore[arg-type]


def test_the_table_has_the_aggregates_of_the_score(tmp_path: Path) -> None:
    file = write_scenario(tmp_path)
    found = compare(file, ["gossip", "central"], range(5), tmp_path / "c", run=fake)
    text = (tmp_path / "c" / "comparison.csv").read_text("utf-8")
    rows = [*csv.DictReader(text.splitlines())]
    ranked = [row for row in rows if row["iqm"] not in ("", "nan")]
    assert {row["measure"] for row in ranked} == {"final return, mean of agents"}
    for row, one in zip(ranked, found.standings, strict=True):
        assert row["member"] == one.label
        assert float(row["iqm"]) == one.iqm.mean
        assert float(row["iqm_low"]) == one.iqm.low
        assert float(row["bootstrap_high"]) == one.mean.high
    assert math.isnan(float(ranked[0]["probability"] or "nan"))
    assert found.standings[1].improvement is not None
    assert float(ranked[1]["probability"]) == found.standings[1].improvement.mean


def test_a_comparison_does_not_take_the_place_of_another(tmp_path: Path) -> None:
    file = write_scenario(tmp_path)
    compare(file, "gossip", [0], tmp_path / "c", run=fake)
    with pytest.raises(ScenarioError, match="expected no comparison, got one; --resume keeps"):
        compare(file, "central", [0], tmp_path / "c", run=fake)
    found = compare(file, "central", [0], tmp_path / "c", run=fake, resume=True)
    assert found.members == ("central",)


def test_series_do_not_go_on_without_their_directory(capsys: pytest.CaptureFixture[str]) -> None:
    for command in ("compare", "sweep"):
        assert main([command, "consensus_ring.toml", "--resume"]) == 2
        assert "--resume: expected --out with the directory to go on in" in capsys.readouterr().err


def test_problems_of_all_members_are_said_once_and_leave_no_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["compare", "no_such_file.toml"]) == 2
    assert capsys.readouterr().err.count("no_such_file.toml") == 1
    assert not [*Path().rglob("*-compare")]


def test_a_directory_in_use_is_said_to_be_in_use(tmp_path: Path) -> None:
    with reserved(tmp_path / "run"):
        (tmp_path / "run" / "checkpoints").mkdir()
        (tmp_path / "run" / "checkpoints" / "scenario.toml").write_text("")
        with pytest.raises(ScenarioError, match="is in use by process"), reserved(tmp_path / "run"):
            pass


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"final_return": None}, "it has no 'final_return'"),
        ({"format": "p2pfrl-record-9"}, "written by another version of p2pfrl, in the format"),
        ({"format": 99}, "damaged or not a p2pfrl record: its format is 99"),
        (None, "damaged or not a p2pfrl record: expected a table, got a list"),
    ],
)
def test_a_summary_that_is_not_whole_is_refused_in_words(
    change: dict[str, object] | None, said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    save(record(2, rounds=2), tmp_path / "run")
    path = tmp_path / "run" / "summary.json"
    summary = json.loads(path.read_text())
    whole: object = []
    if change is not None:
        without = {key for key, value in change.items() if value is None}
        whole = {k: v for k, v in (summary | change).items() if k not in without}
    path.write_text(json.dumps(whole))
    assert main(["show", str(tmp_path / "run")]) == 1
    assert said in capsys.readouterr().err


@pytest.mark.parametrize("seeds", ["01", 0, [], [0.5], [True], [1, 1]])
def test_seeds_are_different_whole_numbers(seeds: object, tmp_path: Path) -> None:
    file = write_scenario(tmp_path)
    for run in (
        lambda: compare(file, seeds=seeds, out=tmp_path / "c", run=fake),  # type: ignore[arg-type]
        lambda: sweep(file, {}, seeds, tmp_path / "s", run=fake),  # type: ignore[arg-type]
    ):
        with pytest.raises(ScenarioError, match="seeds: expected different whole numbers"):
            run()


def test_what_is_no_list_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(ScenarioError, match="scenario: expected a file"):
        compare(3, out=tmp_path / "c", run=fake)  # type: ignore[arg-type]
    with pytest.raises(P2PFRLError, match="runs: expected a directory"):
        p2pfrl.load_table(3)  # type: ignore[arg-type]
    with pytest.raises(ScenarioError, match="settings: expected values by dotted key"):
        sweep(write_scenario(tmp_path), ["agents=2"], run=fake)  # type: ignore[arg-type]


def test_figures_are_not_drawn_into_a_run(tmp_path: Path) -> None:
    save(record(2, rounds=2), tmp_path / "run")
    before = (tmp_path / "run" / "agents.csv").read_bytes()
    assert main(["plot", str(tmp_path / "run"), "--out", str(tmp_path / "run")]) == 2
    assert (tmp_path / "run" / "agents.csv").read_bytes() == before
