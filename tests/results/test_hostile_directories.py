"""Run directories of somebody else: whatever is in them, one line and little memory."""

import json
import os
import resource
import shutil
from pathlib import Path

import pytest

import p2pfrl
from p2pfrl.cli import main
from p2pfrl.core.files import checksum

SCENARIO = """
name = "own"
agents = 2
[stop]
rounds = 2
[learner]
kind = "quadratic"
dimension = 2
"""
COMMANDS = {
    "report": lambda run: ["report", str(run)],
    "plot": lambda run: ["plot", str(run)],
    "verify": lambda run: ["verify", str(run), "--quiet"],
    "collect": lambda run: ["collect", str(run), "--out", str(run.parent / "collected")],
    "resume": lambda run: ["scenario", "--resume", str(run), "--quiet"],
}


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("made") / "run"
    p2pfrl.run(p2pfrl.loads(SCENARIO), out=folder)
    return folder


@pytest.fixture
def run(made, tmp_path):
    return shutil.copytree(made, tmp_path / "run")


def refused(capsys, command: str, run: Path) -> str:
    """Run a command on a directory; return its one line of error."""
    assert main(COMMANDS[command](run)) in (1, 2)
    said = capsys.readouterr().err.strip()
    assert "Traceback" not in said
    assert len(said.splitlines()) == 1
    assert len(said) < 1000
    assert str(run) in said
    return said


SPECIAL = {
    "a device": lambda path: path.symlink_to("/dev/zero"),
    "a pipe": os.mkfifo,
    "a directory": Path.mkdir,
    "a link to nothing": lambda path: path.symlink_to("nowhere"),
    "a link to itself": lambda path: path.symlink_to(path.name),
}


@pytest.mark.parametrize("special", SPECIAL)
@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize(
    "name", ["summary.json", "scenario.toml", "metrics.csv", "parameters.safetensors"]
)
def test_what_is_no_regular_file_is_refused_unread(run, capsys, command, name, special):
    reads_it = name in ("summary.json", "scenario.toml") or command in ("report", "plot")
    if not reads_it or command in ("collect", "resume"):
        name = "summary.json"
    path = run / name
    path.unlink()
    SPECIAL[special](path)
    refused(capsys, command, run)


def test_a_huge_file_is_refused_by_its_size(run, capsys):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for name in ("summary.json", "scenario.toml", "metrics.csv", "parameters.safetensors"):
        (run / name).rename(run / "kept")
        with (run / name).open("wb") as file:
            file.truncate(2**33)
        assert "the limit is" in refused(capsys, "report", run)
        (run / "kept").replace(run / name)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100_000


def change(run: Path, name: str, content: bytes) -> None:
    """Replace a file and its checksum, as somebody does who knows the format."""
    (run / name).write_bytes(content)
    summary = json.loads((run / "summary.json").read_bytes())
    summary["files"][name] = checksum(content)
    (run / "summary.json").write_text(json.dumps(summary))


NUMBERS = ["1e999", "-1e999", "NaN", '"text"', "[]", "{}", "true", "9" * 400]


@pytest.mark.parametrize("value", NUMBERS)
@pytest.mark.parametrize("key", ["rounds", "virtual_seconds", "final_return", "versions", "agents"])
@pytest.mark.parametrize("command", ["report", "verify"])
def test_a_summary_with_other_types_is_refused(run, capsys, command, key, value):
    if key in ("versions", "final_return") and value == "{}":
        return
    summary = json.loads((run / "summary.json").read_bytes())
    summary[key] = "HERE"
    text = json.dumps(summary).replace('"HERE"', value)
    (run / "summary.json").write_text(text)
    refused(capsys, command, run)


def test_a_summary_of_another_type_says_what_was_expected(run, capsys):
    summary = json.loads((run / "summary.json").read_bytes())
    for key, value, words in (
        ("rounds", 2.5, "rounds: expected an integer, got 2.5"),
        ("wall_seconds", "long", "wall_seconds: expected a number, got 'long'"),
        ("consensus_distance", "0", "consensus_distance: expected a number or null, got '0'"),
        ("final_return", [1], "final_return: expected a table, got [1]"),
    ):
        (run / "summary.json").write_text(json.dumps({**summary, key: value}))
        assert words in refused(capsys, "verify", run)


@pytest.mark.parametrize("command", ["show", "runs"])
def test_texts_of_a_record_do_not_steer_the_terminal(run, capsys, command):
    summary = json.loads((run / "summary.json").read_bytes())
    codes = "a\x1b[2J\x9bb\rc\nd"
    (run / "summary.json").write_text(json.dumps({**summary, "name": codes, "mode": codes}))
    assert main([command, str(run)]) == 0
    shown = capsys.readouterr().out
    assert r"a\x1b[2J\x9bb\rc\nd" in shown
    assert all(line.isprintable() for line in shown.splitlines())


@pytest.mark.parametrize(
    "content", [b"", b"[]", b"null", b"{}", b"\xff\xfe", b"[" * 100_000, b'{"format": 1}']
)
@pytest.mark.parametrize("command", ["report", "plot", "verify"])
def test_a_summary_that_is_none_is_refused(run, capsys, command, content):
    (run / "summary.json").write_bytes(content)
    refused(capsys, command, run)


@pytest.mark.parametrize("special", SPECIAL)
@pytest.mark.parametrize("name", ["metrics.csv", "status.json", "summary.json", "checkpoints"])
def test_the_status_of_a_run_waits_for_no_pipe(run, capsys, name, special):
    path = run / name
    if path.exists():
        path.unlink()
    SPECIAL[special](path)
    assert main(["status", str(run)]) in (0, 1)
    assert capsys.readouterr().out.startswith(f"{run}: ")


FORGED = {
    "no rows of numbers": ("metrics.csv", b"round,virtual_seconds,return_mean\nx,y,z\n"),
    "no such column": ("metrics.csv", b"a,b\n1,2\n"),
    "an agent too many": ("agents.csv", b"round,agent,return\n1,7,0.5\n"),
    "an agent that is none": ("agents.csv", b"round,agent,return\n1,nan,0.5\n"),
    "a huge number": ("agents.csv", b"round,agent,return\n1," + b"9" * 400 + b",0.5\n"),
    "no graph": ("graph.json", b"{}"),
    "another graph": ("graph.json", b'{"agents": 1e999, "successors": []}'),
    "a negative size": ("graph.json", b'{"agents": -1, "successors": []}'),
    "no tensors": ("parameters.safetensors", b"\xff" * 64),
    "an empty file": ("timeline.csv", b""),
    "another kind": ("timeline.csv", b"agent,kind,start,end\n0,sleep,0,1\n"),
    "no staleness": ("staleness.csv", b"x\n1\n"),
}


@pytest.mark.parametrize("name", FORGED)
def test_a_file_with_another_content_and_its_checksum_is_refused(run, capsys, name):
    change(run, *FORGED[name])
    refused(capsys, "report", run)


def test_a_scenario_that_is_not_the_run_s_is_refused(run, capsys):
    endless = SCENARIO.replace("rounds = 2", "rounds = 1000000000")
    (run / "scenario.toml").write_text(endless)
    assert "changed since the run wrote it" in refused(capsys, "verify", run)
