"""Notes on the scenarios of runs and of series, members that are one run, and members left out."""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Any

import pytest

import p2pfrl
from p2pfrl.cli import main
from p2pfrl.core.errors import ScenarioError, ScenarioWarning
from p2pfrl.experiment.compare import compare, read_comparison
from p2pfrl.experiment.sweep import read_sweep, sweep
from p2pfrl.experiment.verify import verify
from p2pfrl.scenario import load, loads
from p2pfrl.scenario.checks.notes import notes

TEXT = """
name = "bowl"
agents = 4
stop = {rounds = 2}
learner = {kind = "quadratic", dimension = 2}
"""
RAMP = """
name = "ramp"
agents = 2
stop = {{rounds = 6, virtual_time = "2s"}}
schedule = {{every = 10}}
environment = {{id = "cartpole"{drift}}}
learner = {{kind = "reinforce", hidden = [2]}}
{more}
"""
IDLE = "in mode 'gossip' without effect: coordinator"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "bowl.toml"
    path.write_text(TEXT)
    return path


def test_what_has_no_effect_is_a_warning_in_python_and_a_note_in_the_summary(
    file: Path, tmp_path: Path
) -> None:
    with pytest.warns(ScenarioWarning) as caught:
        record = p2pfrl.run(load(file), aggregator="median", out=tmp_path / "run")
    assert [str(warning.message) for warning in caught] == [IDLE]
    assert caught[0].filename == __file__
    assert record.summary["notes"] == [IDLE]
    assert json.loads((tmp_path / "run" / "summary.json").read_text())["notes"] == [IDLE]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        plain = p2pfrl.run(load(file))
        assert verify(tmp_path / "run").is_equal
    assert "notes" not in plain.summary
    assert plain.summary["digest"] == record.summary["digest"]


def test_the_command_prints_a_note_once(
    file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["--set", "coordinator.aggregator.kind=median", "--out", str(tmp_path / "run")]
    assert main(["scenario", str(file), "--quiet", "--no-report", *words]) == 0
    assert capsys.readouterr().err.count(IDLE) == 1


@pytest.mark.parametrize("name", ["compare", "sweep"])
def test_a_series_says_what_has_no_effect_and_which_members_are_one_run(
    name: str, file: Path, tmp_path: Path
) -> None:
    settings = {"coordinator.aggregator.kind": ["mean", "median"]}
    out = tmp_path / "o"
    with pytest.warns(ScenarioWarning) as caught:
        found: Any = (
            compare(file, (), [0, 1], out, settings=settings)
            if name == "compare"
            else sweep(file, settings, [0, 1], out)
        )
    assert [str(warning.message) for warning in caught] == [f"aggregator median: {IDLE}"]
    read = read_comparison(out).tables() if name == "compare" else read_sweep(out)[0]
    for tables in (found.tables(), read):
        rows = {table.title: table.rows for table in tables}
        assert rows["Equal"] == (("aggregator mean and aggregator median are one run",),)
        assert rows["Notes"] == (("aggregator median", IDLE),)
    if name == "compare":
        known = json.loads((out / "comparison.json").read_text())
        assert known["notes"] == {IDLE: ["aggregator median"]}
        assert known["equal"] == [["aggregator mean", "aggregator median"]]
    else:
        assert [row["notes"] for row in found.rows] == [None, None, IDLE, IDLE]
        assert len({row["digest"] for row in found.rows}) == 2


def test_members_that_differ_are_not_called_equal(file: Path, tmp_path: Path) -> None:
    found = sweep(file, {"learner.lr": [0.1, 0.2]}, [0], tmp_path / "o")
    assert {table.title for table in found.tables()}.isdisjoint({"Equal", "Notes"})


@pytest.mark.parametrize("name", ["compare", "sweep"])
def test_a_member_that_is_not_valid_is_named_before_the_runs_and_the_others_run(
    name: str, file: Path, tmp_path: Path
) -> None:
    seen: list[str] = []

    def run(job: Any) -> None:
        seen.append(job.label)
        p2pfrl.run(job.load(), out=job.directory)

    settings = {"learner.lr": [0.1, -1, 0.2]}
    with pytest.warns(ScenarioWarning) as caught:
        found: Any = (
            compare(file, (), [0], tmp_path / "o", settings=settings, run=run)
            if name == "compare"
            else sweep(file, settings, [0], tmp_path / "o", run=run)
        )
    (said,) = [str(warning.message) for warning in caught]
    assert said.startswith("lr -1: left out: overrides: learner.lr: must be at least 0.0, got -1")
    assert seen == ["lr 0.1", "lr 0.2"]
    if name == "compare":
        assert found.members == ("lr 0.1", "lr 0.2")
        assert "got -1" in found.failed[0][1]
    else:
        assert [row["state"][:6] for row in found.rows] == ["done", "failed", "done"]
        assert found.failed == 1
    with pytest.raises(ScenarioError, match=r"got -1\n.*got -2"):
        sweep(file, {"learner.lr": [-1, -2]}, [0], tmp_path / "none", run=run)
    assert len(seen) == 2


def test_the_command_names_a_member_that_is_left_out_and_fails(
    file: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("p2pfrl.results.report.report", lambda *given: None)
    words = ["--recipes", "fedavg,fedper", "--seed", "0", "--quiet", "--csv"]
    assert main(["compare", str(file), *words, "--out", str(tmp_path / "o")]) == 1
    said = capsys.readouterr()
    assert "note: fedper: left out: " in said.err
    assert "no part 'trunk'" in said.err
    assert "fedavg" in said.out


@pytest.mark.parametrize(
    ("at", "expected"),
    [("1000s", "faults.0; at = 1000 is not before stop.virtual_time = 2"), ("1s", None)],
)
def test_a_fault_after_the_end_has_a_note(at: str, expected: str | None) -> None:
    more = f"faults = [{{kind = 'crash', agents = [0], at = '{at}'}}]"
    found = [*notes(loads(RAMP.format(drift="", more=more)))]
    assert found == ([] if expected is None else [f"without effect: {expected}"])


@pytest.mark.parametrize(
    ("drift", "begins"),
    [
        ("{kind = 'ramp', start = 60, length = 5, factor = 2.0}", 61),
        ("{kind = 'ramp', start = 59, length = 5, factor = 2.0}", None),
        ("{kind = 'step', at = 61, factor = 2.0}", 61),
        ("{kind = 'step', at = 60, factor = 2.0}", None),
        ("{kind = 'sine', period = 500, factor = 2.0}", None),
        ("{kind = 'trace', path = 'late.csv'}", 70),
    ],
)
def test_a_drift_after_the_last_update_has_a_note(
    drift: str, begins: int | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "late.csv").write_text("80,2.0\n70,1,3.0\n")
    found = [*notes(loads(RAMP.format(drift=f", drift = {{length = {drift}}}", more="")))]
    why = f"it begins in update {begins}, and an agent makes at most 60"
    expected = f"without effect: environment.drift.length; {why}"
    assert found == ([] if begins is None else [expected])


def test_a_fault_whose_time_has_not_come_when_the_run_ends_is_noted(
    file: Path, tmp_path: Path
) -> None:
    crash = {"kind": "crash", "agents": [3]}
    other = {"kind": "crash", "agents": [2]}
    late = load(file, overrides={"faults": [{"at": "1us", **other}, {"at": "200s", **crash}]})
    with pytest.warns(ScenarioWarning, match="at = 200, and the run ended at") as caught:
        record = p2pfrl.run(late, out=tmp_path / "run")
    (note,) = record.summary["notes"]
    assert note.startswith("without effect: faults.1; at = 200")
    assert [str(warning.message) for warning in caught] == [note]
    assert caught[0].filename == __file__
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert verify(tmp_path / "run").is_equal
    timed = load(file, overrides={"stop.virtual_time": "1s", "faults": [{"at": "2s", **crash}]})
    (static,) = p2pfrl.run(timed).summary["notes"]
    assert "is not before stop.virtual_time = 1" in static
