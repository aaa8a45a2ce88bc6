"""The audit log of a process is a chain of hashes, and the first bad entry is named."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from p2pfrl.cli import main
from p2pfrl.commands.arguments import DONE, FAILED
from p2pfrl.core.errors import RecordError
from p2pfrl.deploy.audit import AUDIT, Audit, audited, hash_of, read_chain, verdicts
from p2pfrl.deploy.ledgers import open_ledgers
from p2pfrl.deploy.local import run_processes
from p2pfrl.laws.runs import text
from p2pfrl.scenario import loads

Lines = list[str]


def rewritten(folder: Path, count: int) -> None:
    """Put the log of other events into the place of a log."""
    (folder / "other").mkdir()
    written(folder / "other", count).replace(folder / AUDIT)


def written(folder: Path, count: int = 6) -> Path:
    audit = Audit(folder / AUDIT, now=lambda: 5.0)
    audit.add("begin", agents=(0, 1))
    for k in range(count - 2):
        audit.note("joined", {"agents": (k + 2,), "incarnation": 0})
    audit.note("engine", {"agents": (9,)})
    audit.add("end", why="rounds")
    return folder / AUDIT


def test_what_is_written_is_intact_and_unlisted_events_are_left_out(tmp_path: Path) -> None:
    chain = read_chain(written(tmp_path))
    assert (chain.entries, chain.problem, chain.ended) == (6, "", "rounds")


def test_entries_are_on_disk_before_the_process_goes_on_but_those_that_a_ledger_has(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, durable = tmp_path / AUDIT, list[int]()
    monkeypatch.setattr("os.fsync", lambda file: durable.append(path.stat().st_size))
    audit = Audit(path)
    for what in ("begin", "release", "joined", "release", "release_refused"):
        audit.add(what)
    sizes = [len(line) for line in path.read_bytes().splitlines(keepends=True)]
    assert durable == [sum(sizes[:count]) for count in (1, 3, 5)]


def changed(lines: Lines) -> Lines:
    lines[2] = lines[2].replace('"agents":[3]', '"agents":[4]')
    return lines


def rehashed(lines: Lines) -> Lines:
    entry = json.loads(lines[2]) | {"agents": [4]}
    lines[2] = json.dumps(entry | {"hash": hash_of(entry)})
    return lines


TAMPERED: dict[str, tuple[Callable[[Lines], Lines], int, str]] = {
    "changed": (changed, 3, "it was changed"),
    "changed with a new hash": (rehashed, 4, "does not follow"),
    "taken out": (lambda lines: [*lines[:2], *lines[3:]], 3, "missing or doubled"),
    "the first taken out": (lambda lines: lines[1:], 1, "missing or doubled"),
    "doubled": (lambda lines: [*lines[:3], lines[2], *lines[3:]], 4, "missing or doubled"),
    "swapped": (lambda lines: [lines[1], lines[0], *lines[2:]], 1, "missing or doubled"),
    "no JSON": (lambda lines: [*lines[:1], "{", *lines[1:]], 2, "not an entry"),
    "a list": (lambda lines: [*lines[:1], "[]", *lines[1:]], 2, "not an entry"),
    "deep": (lambda lines: [*lines[:1], "[" * 100_000, *lines[1:]], 2, "not an entry"),
    "keys missing": (lambda lines: [*lines[:1], "{}", *lines[1:]], 2, "not an entry"),
}


@pytest.mark.parametrize("name", TAMPERED)
def test_the_first_bad_entry_is_named(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tamper, bad, reason = TAMPERED[name]
    path = written(tmp_path)
    lines = path.read_text("utf-8").splitlines()
    path.write_text("\n".join(tamper(lines)) + "\n", encoding="utf-8")
    assert main(["audit", str(tmp_path)]) == FAILED
    said = capsys.readouterr().out
    assert f"{path}:{bad}: " in said
    assert reason in said
    with pytest.raises(RecordError, match="move both away to begin another log"):
        Audit(path)


def test_a_line_that_a_kill_cut_off_is_no_damage_and_is_cut(tmp_path: Path) -> None:
    path = written(tmp_path)
    content = path.read_bytes()
    path.write_bytes(content[:-7])
    assert read_chain(path).is_cut
    audit = Audit(path)
    assert audit.chain.entries == 5
    audit.add("begin")
    assert (read_chain(path).entries, read_chain(path).problem) == (6, "")


def test_entries_taken_off_the_end_are_found_by_the_hash_in_the_summary(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = written(tmp_path)
    chain = read_chain(path)
    summary = {"audit": {"entries": chain.entries, "hash": chain.last}}
    (tmp_path / "peer.json").write_text(json.dumps(summary), encoding="utf-8")
    assert main(["audit", str(tmp_path)]) == DONE
    assert f"6 entries, intact, hash {chain.last}" in capsys.readouterr().out
    lines = path.read_text("utf-8").splitlines(keepends=True)
    path.write_text("".join(lines[:-1]), encoding="utf-8")
    assert main(["audit", str(tmp_path)]) == FAILED
    assert f"{path}:6: expected 6 entries" in capsys.readouterr().out


def without_its_end(path: Path) -> None:
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(lines[:-2]))


SHORTENED: dict[str, tuple[Callable[[Path], object], str]] = {
    "shortened": (without_its_end, "expected 6 entries, as peer.json says, got 4"),
    "removed": (Path.unlink, "expected 6 entries, as peer.json says, got 0"),
    "replaced": (lambda path: rewritten(path.parent, 7), "of entry 6, as peer.json says, got "),
    "other bytes without a line": (
        lambda path: path.write_bytes(b"\x8f" * 300),
        "neither an entry",
    ),
}


@pytest.mark.parametrize("name", SHORTENED)
def test_a_process_does_not_begin_on_a_log_that_lost_its_end_while_it_was_down(
    name: str, tmp_path: Path
) -> None:
    tamper, reason = SHORTENED[name]
    path = written(tmp_path)
    chain = read_chain(path)
    summary = {"audit": {"entries": chain.entries, "hash": chain.last}}
    (tmp_path / "peer.json").write_text(json.dumps(summary), encoding="utf-8")
    Audit(path)  # whole, it goes on
    tamper(path)
    left = path.read_bytes() if path.exists() else None
    with pytest.raises(RecordError, match=f"{reason}.*move both away to begin another log"):
        Audit(path)
    assert (path.read_bytes() if path.exists() else None) == left
    path.unlink(missing_ok=True)
    (tmp_path / "peer.json").unlink()
    assert Audit(path).chain.entries == 0


@pytest.mark.parametrize(
    ("tail", "is_torn"),
    [
        (b'{"num', True),
        (b'{"number":6,"time":5.0,"wh', True),
        (b'{"number":6,"ti\0\0\0\0', True),
        (b"\0" * 9, True),
        (b'{"number":5,"time":5.0', False),
        (b'{"number":6,"time":5.0\x8f', False),
        (b"hello", False),
    ],
)
def test_only_what_a_kill_may_leave_of_a_line_is_cut_off(
    tail: bytes, is_torn: bool, tmp_path: Path
) -> None:
    path = written(tmp_path)
    path.write_bytes(path.read_bytes() + tail)
    assert bool(verdicts(tmp_path)[0]["problem"]) != is_torn
    if is_torn:
        assert Audit(path).chain.entries == 6
    else:
        with pytest.raises(RecordError, match=r"audit\.jsonl:7: neither an entry"):
            Audit(path)


@pytest.mark.parametrize(
    "content",
    ["", "null", "{", "{}", '{"audit": 1}', '{"audit": {"entries": "6", "hash": ""}}'],
)
def test_a_summary_that_cannot_confirm_the_end_is_a_problem(
    content: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    written(tmp_path)
    (tmp_path / "peer.json").write_text(content)
    assert main(["audit", str(tmp_path)]) == FAILED
    assert "peer.json is damaged" in capsys.readouterr().out


def test_a_log_that_was_written_anew_before_its_process_went_on_is_found(tmp_path: Path) -> None:
    chain = read_chain(written(tmp_path))
    summary = {"audit": {"entries": chain.entries, "hash": chain.last}}
    (tmp_path / "peer.json").write_text(json.dumps(summary), encoding="utf-8")
    Audit(tmp_path / AUDIT).add("begin")  # started again, and killed
    assert [one["problem"] for one in verdicts(tmp_path)] == [""]
    rewritten(tmp_path, 7)
    assert "of entry 6, as peer.json says" in verdicts(tmp_path)[0]["problem"]


def test_a_directory_without_a_log_is_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["audit", str(tmp_path)]) == FAILED
    assert "expected an audit log" in capsys.readouterr().err


def test_every_release_is_an_entry_with_its_epsilon_and_so_is_one_that_was_refused(
    tmp_path: Path,
) -> None:
    audit = Audit(tmp_path / AUDIT)
    kept = audited(audit, lambda spent: 10.0 * spent)
    ledger = open_ledgers(tmp_path, [3], print, kept)[3]
    assert ledger.charge(0.5, 0.6, 1)
    assert not ledger.charge(0.5, 0.6, 2)
    entries = [json.loads(line) for line in (tmp_path / AUDIT).read_text("utf-8").splitlines()]
    assert [
        (entry["what"], entry["agent"], entry["round"], entry["epsilon"]) for entry in entries
    ] == [("release", 3, 1, 5.0), ("release_refused", 3, 2, 5.0)]


@pytest.mark.slow
def test_processes_write_what_happened_and_the_end(tmp_path: Path) -> None:
    privacy = {"kind": "clip_noise", "clip": 1.0}
    tables = {"exchange": {"payload": "delta"}, "privacy": privacy}
    scenario = loads(text(4, 3, mode="central", **tables))
    run_processes(scenario, tmp_path / "run", 2, quiet=True)
    found = verdicts(tmp_path / "run")
    assert len(found) == 3
    assert all(one["problem"] == "" and one["ended"] == "rounds" for one in found)
    lines = (tmp_path / "run" / "peers" / "0-1" / AUDIT).read_text("utf-8").splitlines()
    whats = [json.loads(line)["what"] for line in lines]
    assert whats[0] == "begin"
    assert whats.count("release") == 6
    assert "joined" in whats
