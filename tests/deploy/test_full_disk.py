"""A full disk under a process: it stops and says why, or goes on and says what is missing."""

from __future__ import annotations

import errno
import itertools
import json
from io import FileIO
from pathlib import Path

import processes
import pytest
from written import Written, quadratic

from p2pfrl.core.errors import P2PFRLError, RecordError
from p2pfrl.core.writes import Writes
from p2pfrl.deploy.collect import collect
from p2pfrl.deploy.process import Place, deploy
from p2pfrl.net import checkpoint
from p2pfrl.net.checkpoint import Checkpoints
from p2pfrl.net.log import RunLog
from p2pfrl.net.mesh import Security, Timing
from p2pfrl.scenario.checks.resuming import refuse_unsaved

LIMIT = 20_000
"""Bytes of a file on the full disk: less than a journal of 40 rounds, more than a checkpoint."""


def test_a_process_whose_disk_is_full_names_the_file_and_its_neighbor_is_told(
    tmp_path: Path,
) -> None:
    scenario = quadratic(**{"stop.rounds": 40, "schedule.deadline": "20s"})
    healthy, full = processes.run(scenario, [[0], [1]], tmp_path, failing=[1], limits={1: LIMIT})
    cause = f"{full}/journal.bin: an entry of the journal cannot be written: File too large"
    summary = json.loads((full / "peer.json").read_text())
    assert summary["stopped_by"] == "failure"
    assert summary["failure"].startswith(cause)
    assert "free space and start this process again with the same command" in summary["failure"]
    assert summary["writes_failed"] == {"entries of the journal": 2}
    lines = [json.loads(line) for line in (healthy / "log.jsonl").read_text().splitlines()]
    assert [cause in line["detail"] for line in lines if line["what"] == "lost"] == [True]
    other = json.loads((healthy / "peer.json").read_text())
    assert (other["links_lost"], other["rounds"], other["stopped_by"]) == (1, 40, "rounds")


def test_a_process_goes_on_without_what_its_full_disk_does_not_hold_if_that_is_asked_for(
    tmp_path: Path,
) -> None:
    scenario = quadratic(**{"stop.rounds": 40, "checkpoint.on_error": "continue"})
    healthy, full = processes.run(scenario, [[0], [1]], tmp_path, limits={1: LIMIT})
    summary, other = (json.loads((home / "peer.json").read_text()) for home in (full, healthy))
    assert (summary["stopped_by"], summary["rounds"]) == ("rounds", 40)
    missing = summary["writes_failed"]["entries of the journal"]
    assert missing > 10
    assert (
        json.loads((full / "status.json").read_text())["writes_failed"] == summary["writes_failed"]
    )
    assert (other["writes_failed"], other["links_lost"]) == ({}, 0)
    lines = [json.loads(line) for line in (full / "log.jsonl").read_text().splitlines()]
    said = [line["detail"] for line in lines if line["what"] == "writes"]
    assert len(said) == 1
    assert said[0].endswith(
        "File too large; the run goes on, and entries of the journal are missing from now on"
    )
    record = collect([healthy, full], tmp_path / "out")
    assert record.summary["rounds"] == 40
    assert record.metrics["active"].tolist().count(1) == missing - 2


class Full(FileIO):
    """A file of which the last write fits in part."""

    is_full = False

    def write(self, data: object) -> int:
        if not self.is_full:
            return super().write(data)  # type: ignore[arg-type]
        super().write(bytes(data)[:7])  # type: ignore[call-overload]
        raise OSError(errno.ENOSPC, "No space left on device")


def test_entries_that_do_not_fit_are_cut_off_and_their_totals_are_in_the_next(
    tmp_path: Path,
) -> None:
    said: list[str] = []
    writes = Writes(said.append, goes_on=True, fix="")
    other = Written(quadratic(), tmp_path / "0", 0).rounds(0, 9).ends()
    own = Written(quadratic(), tmp_path / "1", 1, writes=writes).rounds(0, 3)
    path = tmp_path / "1" / "journal.bin"
    own.journal._file.close()
    own.journal._file = file = Full(path, "r+b")
    size = path.stat().st_size
    file.is_full = True
    own.rounds(4, 6)
    assert path.stat().st_size == size
    file.is_full = False
    record = collect([other, own.rounds(7, 9).ends()], tmp_path / "out")
    assert record.metrics["active"].tolist() == [2] * 4 + [1] * 3 + [2] * 3
    assert record.summary["env_steps"] == 20
    assert record.agents["episodes"].max() == 10
    assert record.staleness.tolist() == [20]
    assert writes.failed == {"entries of the journal": 3}
    assert [text.rpartition("; ")[2] for text in said] == [
        "the run goes on, and entries of the journal are missing from now on",
        "entries of the journal are written again: 3 are missing",
    ]


def test_a_journal_whose_beginning_did_not_fit_begins_later(tmp_path: Path) -> None:
    writes = Writes(lambda text: None, goes_on=True, fix="")
    own = Written(quadratic(), tmp_path / "1", 1, writes=writes)
    own.journal._file.truncate(16)
    own.journal._end = 16
    own.journal._has_begun = False
    own.journal._file.close()
    own.journal._file = file = Full(tmp_path / "1" / "journal.bin", "r+b")
    file.is_full = True
    own.journal.begin()
    own.rounds(0, 2)
    file.is_full = False
    own.rounds(3, 4).ends()
    other = Written(quadratic(), tmp_path / "0", 0).rounds(0, 4).ends()
    record = collect([other, tmp_path / "1"], tmp_path / "out")
    assert record.metrics["active"].tolist() == [1, 1, 1, 2, 2]
    assert record.summary["env_steps"] == 10


def test_the_lack_of_checkpoints_is_known_after_a_restart(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path, "scenario")
    checkpoints.incarnation()
    assert not checkpoints.are_newest
    for saved in (True, True, False, False, True):
        checkpoints.mark(saved=saved)
        assert checkpoints.are_newest is saved


@pytest.mark.parametrize(
    ("overrides", "rule"),
    [
        ({"mixing.kind": "gradient_tracking"}, "gradient_tracking"),
        ({"mixing.kind": "push_sum"}, "push_sum"),
        ({}, None),
    ],
)
def test_a_process_that_forgot_what_it_sent_is_refused_where_a_rule_needs_that(
    overrides: dict[str, object], rule: str | None, tmp_path: Path
) -> None:
    scenario = quadratic(**overrides)
    if rule is None:
        refuse_unsaved(scenario, tmp_path)
        return
    with pytest.raises(
        P2PFRLError, match=rf"gone on without checkpoints .* mixing = '{rule}' cannot"
    ):
        refuse_unsaved(scenario, tmp_path)


def test_a_log_on_a_full_disk_says_so_once_and_lines_go_on_when_they_can(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    log = RunLog(tmp_path / "gone" / "log.jsonl", quiet=False)
    log.note("one")
    log.note("two")
    (tmp_path / "gone").mkdir()
    log.note("three")
    assert (log.missing, log.lines) == (2, 3)
    assert capsys.readouterr().err.count("lines are missing from now on") == 1
    assert "three" in (tmp_path / "gone" / "log.jsonl").read_text()


def test_writes_end_the_run_or_count_and_say_it_once(tmp_path: Path) -> None:
    def fails() -> None:
        raise RecordError("a/b: cannot be written: No space left on device")

    said: list[str] = []
    stops = Writes(said.append, goes_on=False, fix="free space")
    with pytest.raises(RecordError, match=r"a/b: .*: No space left on device; free space$"):
        stops("rows", fails)
    goes_on = Writes(said.append, goes_on=True, fix="")
    results = [
        goes_on(kind, write)
        for kind, write in (
            ("rows", fails),
            ("rows", fails),
            ("checkpoints", fails),
            ("rows", int),
            ("rows", int),
            ("rows", fails),
            ("rows", int),
        )
    ]
    assert results == [False, False, False, True, True, False, True]
    assert goes_on.failed == {"rows": 3, "checkpoints": 1}
    assert [text.partition("; ")[2] or text for text in said] == [
        "the run goes on, and rows are missing from now on",
        "the run goes on, and checkpoints are missing from now on",
        "rows are written again: 2 are missing",
        "the run goes on, and rows are missing from now on",
        "rows are written again: 1 are missing",
    ]


def test_a_disk_that_is_full_again_and_again_does_not_fill_the_log() -> None:
    def fails() -> None:
        raise RecordError("full")

    said: list[str] = []
    writes = Writes(said.append, goes_on=True, fix="")
    for _ in range(1000):
        writes("rows", fails)
        writes("rows", int)
    assert writes.failed == {"rows": 1000}
    assert len(said) == 2 * (8 + len([16, 32, 64, 128, 256, 512]))


def alone(out: Path, capsys: pytest.CaptureFixture[str], **overrides: object) -> str:
    """Run both agents in one process; return what it says."""
    tables = {"stop.rounds": 6, "checkpoint.on_error": "continue"}
    place = Place((0, 1), lead=True, rendezvous=("127.0.0.1", 0))
    deploy(
        quadratic(**{**tables, **overrides}),
        place,
        out,
        security=Security(),
        timing=Timing(),
    )
    return capsys.readouterr().err


@pytest.mark.parametrize("mixing", ["metropolis", "gradient_tracking"])
def test_a_process_that_ended_without_checkpoints_says_so_when_it_comes_back_or_is_refused(
    mixing: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    saves = checkpoint.write_file
    full = itertools.count()

    def write(path: Path, content: bytes, **options: Path) -> None:
        if path.suffix == ".safetensors" and next(full) >= 4:
            raise RecordError(f"{path}: cannot be written: No space left on device")
        saves(path, content, **options)

    with monkeypatch.context() as patch:
        patch.setattr(checkpoint, "write_file", write)
        said = alone(tmp_path, capsys, **{"mixing.kind": mixing})
    assert said.count("the run goes on, and checkpoints are missing from now on") == 1
    summary = json.loads((tmp_path / "peer.json").read_text())
    assert summary["writes_failed"] == {"checkpoints": next(full) - 4}
    (tmp_path / "peer.json").unlink()  # as if it had been killed before its end
    if mixing == "gradient_tracking":
        with pytest.raises(P2PFRLError, match="had gone on without checkpoints"):
            alone(tmp_path, capsys, **{"mixing.kind": mixing})
        return
    said = alone(tmp_path, capsys, **{"mixing.kind": mixing})
    assert "had gone on without checkpoints, and what it did after the last one is lost" in said
    assert "going on from there" in said
    summary = json.loads((tmp_path / "peer.json").read_text())
    assert (summary["rounds"], summary["writes_failed"]) == (6, {})
    (tmp_path / "peer.json").unlink()
    assert "gone on without" not in alone(tmp_path, capsys, **{"mixing.kind": mixing})
