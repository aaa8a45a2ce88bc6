"""A sweep runs every point once, survives crashes, and resumes without repeating or trusting half-written runs."""

from __future__ import annotations

import csv
from dataclasses import replace
from pathlib import Path

import pytest
from runs import dies_on_seed_2, executed, fails_on_seed_2, fake, write_scenario

from p2pfrl.core.errors import P2PFRLError, ScenarioError
from p2pfrl.experiment.jobs import Job, run_all
from p2pfrl.experiment.sweep import grid, sweep
from p2pfrl.results.record import load, save

GRID = {"learner.lr": [0.1, 0.01], "agents": [4, 8]}


def test_the_grid_holds_every_combination() -> None:
    assert len(grid(GRID)) == 4
    assert grid({}) == ({},)
    assert grid(GRID)[1] == {"learner.lr": 0.1, "agents": 8}
    with pytest.raises(P2PFRLError, match="at least one value"):
        grid({"agents": []})


def test_every_point_runs_once_and_the_table_holds_it(tmp_path: Path) -> None:
    result = sweep(write_scenario(tmp_path), GRID, [0, 1], tmp_path / "out", run=fake)
    assert result.failed == 0
    assert len(executed(tmp_path / "out")) == len(set(executed(tmp_path / "out"))) == 8
    rows = list(csv.DictReader(result.table.read_text().splitlines()))
    assert [(r["learner.lr"], r["agents"], r["seed"]) for r in rows[:3]] == [
        ("0.1", "4", "0"),
        ("0.1", "4", "1"),
        ("0.1", "8", "0"),
    ]
    assert all(r["state"] == "done" and float(r["final_return.mean"]) > 0 for r in rows)
    assert all((Path(r["directory"]) / "summary.json").exists() for r in rows)


def test_resume_runs_only_what_is_missing_or_damaged(tmp_path: Path) -> None:
    scenario, out = write_scenario(tmp_path), tmp_path / "out"
    first = sweep(scenario, GRID, [0, 1], out, run=fake)
    directories = [Path(row["directory"]) for row in first.rows]
    (directories[0] / "summary.json").unlink()
    (directories[3] / "summary.json").write_text("{")
    (out / "executed.log").unlink()
    again = sweep(scenario, GRID, [0, 1], out, resume=True, run=fake)
    assert executed(out) == sorted([directories[0].name, directories[3].name])
    assert [row["state"] for row in again.rows].count("kept") == 6
    assert again.failed == 0


def test_resume_does_not_keep_runs_of_another_scenario(tmp_path: Path) -> None:
    scenario, out = write_scenario(tmp_path), tmp_path / "out"
    sweep(scenario, {}, [0], out, run=fake)
    scenario.write_text(scenario.read_text().replace("rounds = 6", "rounds = 7"))
    assert sweep(scenario, {}, [0], out, resume=True, run=fake).rows[0]["state"] == "done"
    assert len(executed(out)) == 2


def test_resume_does_not_keep_interrupted_runs(tmp_path: Path) -> None:
    scenario, out = write_scenario(tmp_path), tmp_path / "out"
    directory = Path(sweep(scenario, {}, [0], out, run=fake).rows[0]["directory"])
    run = load(directory)
    save(replace(run, summary=run.summary | {"stopped_by": "interrupt"}), directory)
    assert sweep(scenario, {}, [0], out, resume=True, run=fake).rows[0]["state"] == "done"


def test_what_was_run_is_overwritten_only_when_told(tmp_path: Path) -> None:
    scenario, out = write_scenario(tmp_path), tmp_path / "out"
    sweep(scenario, {}, [0], out, run=fake)
    with pytest.raises(
        ScenarioError,
        match=r"out: expected none of these 2 runs, got 1, such as run-s0; --resume keeps",
    ):
        sweep(scenario, {}, [0, 1], out, run=fake)
    with pytest.raises(ScenarioError, match="expected none of these 1 runs, got 1"):
        run_all([Job(str(scenario), (), out / "run-s0")], execute=fake)
    assert len(executed(out)) == 1
    sweep(scenario, {}, [0], out, overwrite=True, run=fake)
    assert len(executed(out)) == 2
    sweep(scenario, {}, [1], out, run=fake)
    assert len(executed(out)) == 3


def test_one_failure_does_not_stop_the_others(tmp_path: Path) -> None:
    result = sweep(write_scenario(tmp_path), {}, [1, 2, 3], tmp_path / "out", run=fails_on_seed_2)
    assert [row["state"] for row in result.rows] == ["done", "failed: it went wrong", "done"]
    assert result.failed == 1
    assert [row["final_return.mean"] is None for row in result.rows] == [False, True, False]


def test_processes_share_the_work_and_give_the_same_table(tmp_path: Path) -> None:
    scenario = write_scenario(tmp_path)
    told: list[tuple[int, int]] = []
    two = sweep(
        scenario,
        {},
        [0, 1, 2],
        tmp_path / "two",
        jobs=2,
        run=fake,
        progress=lambda k, n, _: told.append((k, n)),
    )
    one = sweep(scenario, {}, [0, 1, 2], tmp_path / "one", run=fake)
    keys = ("seed", "state", "final_return.mean", "bytes_sent")
    assert [[row[k] for k in keys] for row in two.rows] == [
        [row[k] for k in keys] for row in one.rows
    ]
    assert told == [(1, 3), (2, 3), (3, 3)]


def test_a_killed_process_is_reported_and_resume_does_the_rest(tmp_path: Path) -> None:
    scenario, out = write_scenario(tmp_path), tmp_path / "out"
    result = sweep(scenario, {}, [1, 2, 3], out, jobs=2, run=dies_on_seed_2)
    assert "--resume" in result.rows[1]["state"]
    assert result.failed >= 1
    complete = [path.parent.name for path in out.glob("*/summary.json")]
    before = executed(out)
    again = sweep(scenario, {}, [1, 2, 3], out, jobs=2, resume=True, run=fake)
    assert again.failed == 0
    for name in ("run-s1", "run-s2", "run-s3"):
        assert executed(out).count(name) == before.count(name) + (name not in complete), name


def test_real_runs_are_the_same_in_one_process_and_in_several(tmp_path: Path) -> None:
    scenario = write_scenario(tmp_path)
    digests = [
        [
            load(row["directory"]).summary["digest"]
            for row in sweep(scenario, {}, [0, 1], tmp_path / str(n), jobs=n).rows
        ]
        for n in (1, 2)
    ]
    assert digests[0] == digests[1]
    assert len(set(digests[0])) == 2


def test_a_bad_setting_is_refused_before_anything_runs(tmp_path: Path) -> None:
    with pytest.raises(ScenarioError, match="lr"):
        sweep(
            write_scenario(tmp_path), {"learner.lr": [0.1, -1.0]}, [0], tmp_path / "out", run=fake
        )
    assert executed(tmp_path / "out") == []
    with pytest.raises(P2PFRLError, match="at least one seed"):
        sweep(write_scenario(tmp_path), {}, [], tmp_path / "out", run=fake)
    with pytest.raises(P2PFRLError, match="share a directory"):
        sweep(write_scenario(tmp_path), {}, [1, 1], tmp_path / "out", run=fake)
