"""A run writes its rows while it runs, and the files of its record at its end."""

from __future__ import annotations

import csv
import errno
import json
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import BinaryIO

import pytest
from factory import record
from runs import write_scenario

import p2pfrl
from p2pfrl.cli import main
from p2pfrl.commands.lan import _SHOWN, _print
from p2pfrl.core.errors import P2PFRLError, RecordError
from p2pfrl.core.writes import Writes, strictly
from p2pfrl.deploy.status import Status, statuses, stop, write_failure
from p2pfrl.results.agent_table import AgentTable
from p2pfrl.results.record import FAILURE, save
from p2pfrl.results.stream import PERIOD, Stream


def rows(path: Path) -> list[dict[str, str]]:
    return list(csv.DictReader(path.read_text().splitlines()))


def test_rows_are_in_the_files_while_the_run_runs(tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []

    def look(row: object) -> None:
        seen.append((len(rows(out / "metrics.csv")), len(rows(out / "agents.csv"))))

    out = tmp_path / "run"
    scenario = p2pfrl.load(write_scenario(tmp_path), {"stop.rounds": 3})
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("p2pfrl.results.stream.PERIOD", 0.0)
        p2pfrl.run(scenario, out=out, progress=look)
    assert seen == [(1, 4), (2, 8), (3, 12)]


def test_a_finished_run_has_the_same_files_with_and_without_stream(tmp_path: Path) -> None:
    scenario = p2pfrl.load(write_scenario(tmp_path))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("p2pfrl.results.stream.PERIOD", 0.0)
        p2pfrl.run(scenario, out=tmp_path / "a")
        patch.setattr(Stream, "write", lambda *_: None)
        patch.setattr(Stream, "begin", lambda _: None)
        p2pfrl.run(scenario, out=tmp_path / "b")
    names = {path.name for path in (tmp_path / "a").iterdir()}
    assert names == {path.name for path in (tmp_path / "b").iterdir()}
    for name in names - {"summary.json"}:
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes(), name


def test_streamed_rows_are_those_of_the_record(tmp_path: Path) -> None:
    scenario = p2pfrl.load(write_scenario(tmp_path), {"stop.rounds": 4})
    record = p2pfrl.run(scenario, out=tmp_path / "run")
    names = list(record.metrics)
    found = [
        dict(zip(names, values, strict=True))
        for values in zip(*record.metrics.values(), strict=True)
    ]
    (tmp_path / "new").mkdir()
    times = iter([0.0, 0.0, PERIOD / 2, 2 * PERIOD, 2 * PERIOD])
    stream = Stream(tmp_path / "new", record.scenario, strictly, now=lambda: next(times))
    stream.begin()
    stream.write(found[:1], AgentTable())
    stream.write(found[:2], AgentTable())
    assert len(rows(tmp_path / "new/metrics.csv")) == 1
    stream.write(found[:3], AgentTable())
    assert len(rows(tmp_path / "new/metrics.csv")) == 3
    stream.close(found, AgentTable())
    assert (tmp_path / "new/metrics.csv").read_bytes() == (
        tmp_path / "run/metrics.csv"
    ).read_bytes()
    assert (tmp_path / "new/scenario.toml").read_bytes() == (
        tmp_path / "run/scenario.toml"
    ).read_bytes()


def test_a_killed_run_leaves_its_rows_and_its_status(tmp_path: Path) -> None:
    file, out = write_scenario(tmp_path), tmp_path / "run"
    settings = ["--set", "stop.rounds=1_000_000", "--set", "checkpoint.every=0.2s"]
    process = subprocess.Popen(
        [sys.executable, "-m", "p2pfrl", "scenario", str(file), "--out", str(out), "-q", *settings]
    )
    try:
        deadline = time.monotonic() + 120
        while not (out / "metrics.csv").exists() or len(rows(out / "metrics.csv")) < 20:
            assert process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.05)
        (status,) = statuses(out)
        assert status["state"] == "running"
        assert status["process"].startswith(f"process {process.pid} on ")
        assert status["round"] >= 20
    finally:
        process.kill()
        process.wait()
    found = rows(out / "metrics.csv")
    assert [int(row["round"]) for row in found[:-1]] == list(range(1, len(found)))
    assert "stop" in (out / "scenario.toml").read_text()
    assert not (out / "summary.json").exists()
    (status,) = statuses(out)
    assert (status["state"], status["process"], status["rounds"]) == ("killed", None, None)
    assert stop(out) == "not running"


class Full:
    """A file on a full disk: of what is written the first half fits."""

    def __init__(self, file: BinaryIO) -> None:
        self.file = file

    def write(self, content: bytes) -> None:
        self.file.write(content[: len(content) // 2])
        self.file.flush()
        raise OSError(errno.ENOSPC, "No space left on device")

    def close(self) -> None:
        self.file.close()
        raise OSError(errno.ENOSPC, "No space left on device")


def test_rows_that_did_not_fit_on_the_disk_are_written_when_they_do(tmp_path: Path) -> None:
    said: list[str] = []
    now = iter(range(0, 1000, 10))
    writes = Writes(said.append, goes_on=True, fix="")
    stream = Stream(tmp_path, "agents = 2\n", writes, now=lambda: float(next(now)))
    stream.begin()
    rows = [{"round": float(number)} for number in range(1, 10)]
    stream.write(rows[:2], AgentTable())
    table = stream._tables[0]
    for _ in range(2):
        table.file = table.file or table.path.open("ab")
        table.file = Full(table.file)  # type: ignore[assignment, arg-type]
        stream.write(rows[:5], AgentTable())
    stream.write(rows[:7], AgentTable())
    stream.close(rows, AgentTable())
    assert (tmp_path / "metrics.csv").read_text().split() == ["round", *"123456789"]
    assert said == [
        f"{tmp_path}: rows of the run cannot be written: No space left on device; the run goes on, and rows are "
        "missing from now on",
        "rows are written again: 2 are missing",
    ]
    assert writes.failed == {"rows": 2}


def test_a_run_that_stops_at_a_full_disk_says_how_to_go_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "run"
    scenario = p2pfrl.load(write_scenario(tmp_path), {"checkpoint.on_error": "stop"})
    p2pfrl.run(scenario, out=tmp_path / "whole")

    def write(self: object, rows: int, columns: object) -> None:
        if rows > 2:
            raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("p2pfrl.results.stream.PERIOD", 0.0)
    monkeypatch.setattr("p2pfrl.results.stream._GrowingTable.write", write)
    with pytest.raises(
        RecordError, match=r"run: rows .*: No space left .*; free space, and give --resume"
    ):
        p2pfrl.run(scenario, out=out)


def test_a_summary_names_what_the_record_has_beside_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from p2pfrl.cli import main

    monkeypatch.setattr("p2pfrl.results.plots.FIGURES", {})
    file = write_scenario(tmp_path)
    assert main(["scenario", str(file), "--out", str(tmp_path / "run"), "--json", "-q"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["uploads"] == 6 * 8
    assert 0 < found["lambda_2"] < 1
    assert found["heterogeneity"] == {}
    assert found["measures"] == {}


@pytest.mark.parametrize("is_failing", [False, True])
def test_a_run_whose_record_does_not_fit_says_why_and_how_to_finish_it(
    is_failing: bool,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    file, out = write_scenario(tmp_path), tmp_path / "run"
    words = ["scenario", str(file), "--out", str(out), "-q"]

    def full(path: Path, content: bytes) -> str:
        raise RecordError(f"{path}: cannot be written: No space left on device")

    def fails(*args: object) -> None:
        raise P2PFRLError("it went wrong")

    monkeypatch.setattr("p2pfrl.results.record.write_bytes", full)
    if is_failing:
        monkeypatch.setattr("p2pfrl.results.recorder.Recorder.finish", fails)
    assert main(words) == 1
    last = capsys.readouterr().err.strip().splitlines()[-1]
    cause = "it went wrong" if is_failing else f"{out}/scenario.toml: cannot be written: No space"
    assert "cannot be written: No space left on device; " in last
    assert f"`p2pfrl scenario --resume {out}` " in last
    (status,) = statuses(out)
    assert status["state"].startswith(f"failed: {cause}")
    monkeypatch.undo()
    p2pfrl.resume(out)
    (status,) = statuses(out)
    assert status["state"] == "ended by rounds"


def test_a_run_whose_figures_do_not_fit_says_that_its_record_is_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def full(*args: object) -> None:
        raise RecordError("report.html: cannot be written: No space left on device")

    file, out = write_scenario(tmp_path), tmp_path / "run"
    monkeypatch.setattr("p2pfrl.commands.progress.report", full)
    assert main(["scenario", str(file), "--out", str(out), "-q"]) == 1
    last = capsys.readouterr().err.strip().splitlines()[-1]
    assert last.endswith(f"`p2pfrl report {out}` writes its report and figures")
    assert (out / "summary.json").is_file()


def test_a_process_that_was_started_again_says_what_its_counts_are(
    capsys: pytest.CaptureFixture[str],
) -> None:
    for start in (0, 2):
        _print(dict.fromkeys(_SHOWN, 1) | {"incarnation": start}, Path("x"))
        told = capsys.readouterr().out
        assert ("since the last start, which is number 3" in told) == (start == 2)


def test_status_says_why_a_run_or_process_has_failed(tmp_path: Path) -> None:
    run = record(4, rounds=3)
    failed = run.summary | {"stopped_by": FAILURE, "failure": "it went wrong"}
    save(replace(run, summary=failed), tmp_path / "run")
    assert statuses(tmp_path / "run")[0]["state"] == "failed: it went wrong"
    peer = tmp_path / "peer"
    peer.mkdir()
    Status((0,), 3, 9, None, 1.0, 10, 0, 100, {}, 5.0).write(peer)
    assert statuses(peer)[0]["state"] == "killed"
    write_failure(peer, "the disk is full")
    (status,) = statuses(peer)
    assert (status["state"], status["round"]) == ("failed: the disk is full", 3)
