"""A sweep runs every point once, survives crashes, and resumes.

It neither repeats runs nor trusts half-written ones.
"""

from __future__ import annotations

import csv
import os
import re
import signal
import threading
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from runs import (
    deaf,
    dies_on_seed_2,
    executed,
    fails_on_seed_2,
    fake,
    leaves_on_seed_2,
    raises_on_seed_2,
    waits,
    write_scenario,
)

from p2pfrl.cli import main
from p2pfrl.core.children import withheld
from p2pfrl.core.errors import P2PFRLError, ScenarioError
from p2pfrl.experiment import jobs
from p2pfrl.experiment.compare import compare
from p2pfrl.experiment.jobs import Execute, Job, run_all
from p2pfrl.experiment.sweep import grid, sweep
from p2pfrl.results.groups import Group
from p2pfrl.results.plots import Figure
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


@pytest.mark.slow
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
    with pytest.raises(ScenarioError, match="expected no sweep, got one with other runs"):
        sweep(scenario, {}, [1], out, run=fake)
    sweep(scenario, {}, [1], out, run=fake, resume=True)
    assert len(executed(out)) == 3


def test_one_failure_does_not_stop_the_others(tmp_path: Path) -> None:
    result = sweep(write_scenario(tmp_path), {}, [1, 2, 3], tmp_path / "out", run=fails_on_seed_2)
    assert [row["state"] for row in result.rows] == ["done", "failed: it went wrong", "done"]
    assert result.failed == 1
    assert [row["final_return.mean"] is None for row in result.rows] == [False, True, False]


@pytest.mark.slow
@pytest.mark.parametrize("jobs", [1, 2])
@pytest.mark.parametrize("run", [raises_on_seed_2, leaves_on_seed_2])
def test_whatever_a_run_raises_is_its_row_and_the_others_are_done(
    run: Execute, jobs: int, tmp_path: Path
) -> None:
    told: list[tuple[int, str | None]] = []
    result = sweep(
        write_scenario(tmp_path),
        {},
        [1, 2, 3],
        tmp_path / "out",
        jobs=jobs,
        run=run,
        progress=lambda done, _, last: told.append((done, last.error)),
    )
    first, failed, third = (row["state"] for row in result.rows)
    assert (first, third, result.failed) == ("done", "done", 1)
    assert re.match(r"failed: (UnpicklableError: gravity|SystemExit: 1) \(.*runs.py:\d+\)$", failed)
    assert sorted(done for done, error in told if error is None) == [1, 2]
    assert [f"failed: {error}" for _, error in told if error is not None] == [failed]


def test_the_table_is_written_while_the_sweep_runs(tmp_path: Path) -> None:
    tables: list[list[str]] = []

    def read(*_: object) -> None:
        rows = csv.DictReader((tmp_path / "out/sweep.csv").read_text().splitlines())
        tables.append([row["state"] for row in rows])

    scenario, out = write_scenario(tmp_path), tmp_path / "out"
    sweep(scenario, {}, [1, 2], out, run=fails_on_seed_2, progress=read)
    assert tables[0] == ["done"]
    assert [len(table) for table in tables] in ([1, 1], [1, 2])
    tables.clear()
    sweep(scenario, {}, [1, 2], out, run=fake, resume=True, progress=read)
    assert tables[0] == ["kept"]


@pytest.mark.slow
def test_a_killed_process_fails_one_run_alone(tmp_path: Path) -> None:
    result = sweep(
        write_scenario(tmp_path), {}, [0, 1, 2, 3, 4], tmp_path / "out", jobs=2, run=dies_on_seed_2
    )
    states = [row["state"] for row in result.rows]
    assert states[2].startswith("failed: its process ended with code 9; run again with --resume")
    assert states[:2] + states[3:] == ["done"] * 4


def test_an_interrupt_in_the_parent_interrupts_all_children(tmp_path: Path) -> None:
    scenario, out = write_scenario(tmp_path), tmp_path / "out"
    interrupt = threading.Thread(target=interrupt_when, args=(out, 2))
    interrupt.start()
    with pytest.raises(KeyboardInterrupt):
        sweep(scenario, {}, [0, 1, 2], out, jobs=2, run=waits)
    interrupt.join()
    assert len(list(out.glob("*/interrupted"))) == 2
    for path in out.glob("*/process"):
        with pytest.raises(ProcessLookupError):
            os.kill(int(path.read_text()), 0)


def interrupt_when(out: Path, count: int) -> None:
    while len([path for path in out.glob("*/process") if path.read_text()]) < count:
        time.sleep(0.05)
    os.kill(os.getpid(), signal.SIGINT)


@pytest.mark.parametrize("command", ["sweep", "compare"])
def test_tables_and_lists_are_settings_like_others(command: str, tmp_path: Path) -> None:
    scenario, out = write_scenario(tmp_path), tmp_path / "out"
    latency = {"kind": "constant", "value": "1ms"}
    if command == "sweep":
        grid = {"network.latency": [latency, "5ms"], "learner.curvature": [[1.0, 2.0], [1.0, 3.0]]}
        first = sweep(scenario, {**grid, "faults": [[]]}, [0], out, run=fake)
        again = sweep(scenario, {**grid, "faults": [[]]}, [0], out, run=fake, resume=True)
        assert [row["state"] for row in first.rows] == ["done"] * 4
        assert [row["state"] for row in again.rows] == ["kept"] * 4
        assert first.rows[0]["network.latency"] == latency
    else:
        overrides = {"network.latency": latency, "faults": []}
        for resume in (False, True):
            compare(scenario, ["gossip"], [0], out, overrides=overrides, run=fake, resume=resume)
    assert len(executed(out)) == (4 if command == "sweep" else 1)


def test_values_and_seeds_may_be_arrays_and_a_word_is_no_list(tmp_path: Path) -> None:
    scenario = write_scenario(tmp_path)
    found = sweep(
        scenario, {"learner.lr": np.array([0.1, 0.2])}, np.arange(2), tmp_path / "a", run=fake
    )
    assert [(row["learner.lr"], row["seed"]) for row in found.rows] == [
        (0.1, 0),
        (0.1, 1),
        (0.2, 0),
        (0.2, 1),
    ]
    with pytest.raises(P2PFRLError, match="expected a list of values, got 'ppo'"):
        sweep(scenario, {"learner.kind": "ppo"}, [0], tmp_path / "b", run=fake)


@pytest.mark.slow
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


@pytest.mark.slow
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
            write_scenario(tmp_path), {"learner.lr": [-2.0, -1.0]}, [0], tmp_path / "out", run=fake
        )
    assert executed(tmp_path / "out") == []
    with pytest.raises(P2PFRLError, match="seeds: expected different whole numbers"):
        sweep(write_scenario(tmp_path), {}, [], tmp_path / "out", run=fake)
    twice = {"learner.lr": [0.1, 0.1]}
    with pytest.raises(P2PFRLError, match="share a directory"):
        sweep(write_scenario(tmp_path), twice, [1], tmp_path / "out", run=fake)


def test_a_report_has_the_runs_of_the_last_table_and_names_the_others(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn: list[list[str]] = []

    def draw(groups: Sequence[Group]) -> None:
        drawn.append([record.directory.name for g in groups for record in g.records])  # type: ignore[union-attr]

    monkeypatch.setattr("p2pfrl.results.plots.FIGURES", {"modes": Figure("Modes", draw)})
    scenario, out = write_scenario(tmp_path), tmp_path / "out"
    sweep(scenario, {"stop.rounds": [3]}, [0], out, run=fake)
    sweep(scenario, {"stop.rounds": [4]}, [0, 1], out, run=fake, resume=True)
    third = sweep(scenario, {"stop.rounds": [3]}, [0], out, run=fake, resume=True)
    (out / "figures").mkdir()
    (out / "figures" / "graph_7_gossip.svg").write_text("<!-- p2pfrl -->")
    (out / "figures" / "graph_8_gossip.svg").write_text("<svg>by somebody else</svg>")
    own = [Path(row["directory"]).name for row in third.rows]
    out.rename(tmp_path / "moved")
    assert main(["report", str(tmp_path / "moved")]) == 0
    assert drawn == [own]
    told = capsys.readouterr().err
    assert told.startswith("left out: rounds-4-")
    assert told.endswith(f"in {tmp_path / 'moved'}, but not in its sweep.csv\n")
    assert [path.name for path in (tmp_path / "moved" / "figures").iterdir()] == [
        "graph_8_gossip.svg"
    ]


def test_a_comparison_that_was_resumed_with_fewer_seeds_leaves_the_others_out(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    scenario, out = write_scenario(tmp_path), tmp_path / "out"
    compare(scenario, ["gossip", "central"], [0, 1], out, run=fake)
    compare(scenario, ["gossip", "central"], [0], out, run=fake, resume=True)
    assert main(["plot", str(out), "--only", "physics"]) == 0
    assert "left out: central-s1, gossip-s1: in " in capsys.readouterr().err


@pytest.mark.parametrize("seeds", [3, 4])
def test_the_interquartile_mean_is_shown_where_something_is_trimmed(
    seeds: int, tmp_path: Path
) -> None:
    found = sweep(write_scenario(tmp_path), {}, range(seeds), tmp_path / "out", run=fake)
    (table,) = found.tables()
    assert any(title.endswith(", IQM") for title in table.header) == (seeds == 4)
    assert ("IQM" in table.caption) == (seeds == 4)


def test_a_run_whose_interrupt_is_lost_ends_its_process_when_it_ends(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jobs, "PATIENCE", 30.0)
    with withheld():
        worker = jobs._Worker(deaf, ())
    worker.give(Job(str(write_scenario(tmp_path)), (), tmp_path / "run"))
    while not (tmp_path / "began").exists():
        time.sleep(0.01)
    worker.end()
    worker.join()
    assert worker._process.exitcode == 0
