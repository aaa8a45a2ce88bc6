"""A run directory belongs to one run; nothing that is not ours is replaced or deleted."""

from __future__ import annotations

import os
from multiprocessing import get_context
from pathlib import Path

import pytest
from factory import record
from runs import fake, write_scenario

import p2pfrl
from p2pfrl.core.errors import P2PFRLError, RecordError, ScenarioError
from p2pfrl.deploy.calibrate import write as calibrate
from p2pfrl.experiment.compare import compare
from p2pfrl.experiment.sweep import sweep
from p2pfrl.results.directory import (
    Content,
    clear,
    content_of,
    new_directory,
    reserved,
    reserved_for_peer,
)
from p2pfrl.results.plots import FIGURES, Look
from p2pfrl.results.record import load, save
from p2pfrl.results.report import plot, report

OWN = {
    "figures/return.svg": "my figure",
    "figures/notes.svg": "my drawing",
    "report.html": "<title>my page</title>",
    "trace.json": "[]",
    "scenario.toml": "agents = 3",
    "metrics.csv": "1,2",
    "sweep.csv": "1,2",
    "comparison.json": "{}",
    "checkpoints/model.pt": "weights",
    "summary.json": '{"format": "mine"}',
}


def fill(folder: Path, *names: str) -> dict[str, str]:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(OWN[name])
    return files(folder)


def files(folder: Path) -> dict[str, str]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes().decode(errors="replace")
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


@pytest.mark.parametrize("name", OWN)
@pytest.mark.parametrize("what", ["run", "sweep", "compare", "save"])
def test_files_that_are_not_ours_are_never_touched(what: str, name: str, tmp_path: Path) -> None:
    scenario, out = write_scenario(tmp_path), tmp_path / "out"
    before = fill(out, name)
    write = {
        "run": lambda: p2pfrl.run(p2pfrl.load(scenario), out=out, overwrite=True),
        "sweep": lambda: sweep(scenario, {}, [0], out, run=fake, overwrite=True),
        "compare": lambda: compare(scenario, ["gossip"], [0], out, run=fake, overwrite=True),
        "save": lambda: save(record(2, rounds=2), out),
    }
    with pytest.raises(P2PFRLError, match=r"give another (--out|directory)"):
        write[what]()
    assert files(out) == before


@pytest.mark.parametrize(
    "name", ["report.html", pytest.param("figures/return.svg", marks=pytest.mark.slow)]
)
def test_pages_and_figures_that_are_not_ours_are_never_replaced(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("p2pfrl.results.plots.FIGURES", {"return": FIGURES["return"]})
    runs = [
        save(record(2, rounds=2, seed=seed), tmp_path / f"r{seed}").directory for seed in (0, 1)
    ]
    found = [run for run in runs if run is not None]
    before = fill(tmp_path, name)
    with pytest.raises(ScenarioError, match="one that p2pfrl has written, got another"):
        report(found)
    if name != "report.html":
        with pytest.raises(ScenarioError, match="got another"):
            plot(found)
    assert files(tmp_path) == before
    (tmp_path / name).unlink()
    report(found)
    plot(found, look=Look(formats=("svg", "pdf")))
    report(found)


def test_a_run_is_replaced_only_when_told_and_what_is_beside_it_stays(tmp_path: Path) -> None:
    scenario, out = p2pfrl.load(write_scenario(tmp_path)), tmp_path / "out"
    p2pfrl.run(scenario, out=out, trace=True)
    (out / "notes.txt").write_text("mine")
    (out / "figures").mkdir()
    (out / "figures/mine.png").write_text("mine")
    (out / "figures/graph_0_gossip.png").write_text("ours")
    before = files(out)
    with pytest.raises(ScenarioError, match="got a finished run; --overwrite replaces it"):
        p2pfrl.run(scenario, seed=5, out=out)
    assert files(out) == before
    assert p2pfrl.run(scenario, seed=5, out=out, overwrite=True).seed == load(out).seed == 5
    after = files(out)
    assert after["notes.txt"] == after["figures/mine.png"] == "mine"
    assert not {"figures/graph_0_gossip.png", "trace.json", ".lock"} & set(after)


def test_a_run_that_cannot_be_built_leaves_the_old_one_and_no_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scenario, out = p2pfrl.load(write_scenario(tmp_path)), tmp_path / "out"
    p2pfrl.run(scenario, out=out)
    before = files(out)

    def fail(*_: object, **__: object) -> None:
        raise P2PFRLError("no such environment")

    monkeypatch.setattr("p2pfrl.experiment.run.build", fail)
    for folder in (out, tmp_path / "new"):
        with pytest.raises(P2PFRLError, match="no such environment"):
            p2pfrl.run(scenario, out=folder, overwrite=True)
    assert files(out) == before
    assert not (tmp_path / "new").exists()


@pytest.mark.slow
def test_a_directory_in_use_is_refused_and_a_dead_process_does_not_hold_it(tmp_path: Path) -> None:
    with (
        reserved(tmp_path / "a"),
        pytest.raises(ScenarioError, match=f"in use by process {os.getpid()} on"),
        reserved(tmp_path / "a", overwrite=True),
    ):
        pass
    assert not (tmp_path / "a").exists()
    child = get_context("spawn").Process(target=_die_with, args=(tmp_path / "b",))
    child.start()
    child.join()
    assert child.exitcode == 7
    assert (tmp_path / "b" / ".lock").exists()
    with reserved(tmp_path / "b"):
        (tmp_path / "b" / "x").touch()
    assert os.listdir(tmp_path / "b") == ["x"]


def _die_with(folder: Path) -> None:
    with reserved(folder):
        os._exit(7)


def test_two_sweeps_with_one_directory_do_not_mix(tmp_path: Path) -> None:
    scenario, out = write_scenario(tmp_path), tmp_path / "out"

    def again(*_: object) -> None:
        with pytest.raises(ScenarioError, match="out: is in use by process"):
            sweep(scenario, {}, [1], out, run=fake)

    sweep(scenario, {}, [0], out, run=fake, progress=again)
    with pytest.raises(ScenarioError, match="expected no sweep, got one with other runs; --resume"):
        sweep(scenario, {}, [1], out, run=fake)
    assert [
        row["state"] for row in sweep(scenario, {}, [0, 1], out, run=fake, resume=True).rows
    ] == [
        "kept",
        "done",
    ]


def test_new_directories_are_reserved_at_once(tmp_path: Path) -> None:
    found = [new_directory(tmp_path / "runs/ring") for _ in range(3)]
    assert [path.name for path in found] == ["ring", "ring-2", "ring-3"]
    assert all(path.is_dir() for path in found)
    (tmp_path / "file").touch()
    with pytest.raises(RecordError, match="cannot be made"):
        new_directory(tmp_path / "file/ring")


def test_a_process_of_a_deployment_and_a_calibration_touch_nothing_else(tmp_path: Path) -> None:
    before = fill(tmp_path, "scenario.toml")
    with (
        pytest.raises(ScenarioError, match=r"got scenario\.toml; give another --out"),
        reserved_for_peer(tmp_path),
    ):
        pass
    assert files(tmp_path) == before
    (tmp_path / "own/network.toml").parent.mkdir()
    (tmp_path / "own/network.toml").write_text("mine")
    with pytest.raises(ScenarioError, match=r"network\.toml: expected no file or one that p2pfrl"):
        calibrate([], tmp_path / "own")
    (tmp_path / "peer/checkpoints").mkdir(parents=True)
    (tmp_path / "peer/checkpoints/process.json").write_text("{}")
    with (
        reserved_for_peer(tmp_path / "peer"),
        pytest.raises(ScenarioError, match=f"in use by process {os.getpid()} on"),
        reserved_for_peer(tmp_path / "peer"),
    ):
        pass


def test_damaged_and_unfinished_runs_are_ours(tmp_path: Path) -> None:
    save(record(2, rounds=2), tmp_path / "a")
    for content in ("{", '{"format": 3}', "[]"):
        (tmp_path / "a/summary.json").write_text(content)
        assert content_of(tmp_path / "a") is Content.RECORD
    (tmp_path / "b/checkpoints").mkdir(parents=True)
    assert content_of(tmp_path / "b") is Content.OTHER
    (tmp_path / "b/checkpoints/scenario.toml").touch()
    assert content_of(tmp_path / "b") is Content.UNFINISHED
    clear(tmp_path / "b")
    assert content_of(tmp_path / "b") is content_of(tmp_path / "none") is Content.NOTHING
    with pytest.raises(RecordError, match="Not a directory"):
        content_of(tmp_path / "a/summary.json")


def test_every_figure_is_removed_with_its_run(tmp_path: Path) -> None:
    save(record(2, rounds=2), tmp_path)
    for name in FIGURES:
        for path in (f"figures/{name}.svg", f"figures/{name}_0_central.png", f"figures/{name}.pdf"):
            (tmp_path / path).parent.mkdir(exist_ok=True)
            (tmp_path / path).touch()
    clear(tmp_path)
    assert files(tmp_path) == {}
