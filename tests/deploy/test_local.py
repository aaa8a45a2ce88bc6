"""A run as processes on one machine: interrupted, continued, and never without its parent."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from p2pfrl.cli import main
from p2pfrl.core.errors import P2PFRLError
from p2pfrl.deploy import local
from p2pfrl.deploy.local import _Process, run_processes
from p2pfrl.deploy.projection import round_bytes
from p2pfrl.deploy.status import stop
from p2pfrl.results.directory import Content, content_of, going_on
from p2pfrl.scenario import load
from p2pfrl.scenario.bind import outline

SCENARIO = """name = "ring"
agents = 4
stop = {rounds = 150}
learner = {kind = "quadratic", dimension = 3, steps = 800, initial_spread = 1.0}
"""
DEADLINE = 300.0


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "ring.toml").write_text(SCENARIO)
    return tmp_path / "ring.toml"


def interrupted(number: signal.Signals | None, folder: Path) -> tuple[int, str]:
    """End a run after its first line of progress; return code and stderr.

    Without a signal, `p2pfrl stop` ends it.
    """
    words = ["scenario", "ring.toml", "--transport", "tcp", "-j", "2", "--out", "run"]
    said = folder / "stderr"
    with said.open("wb") as file:
        process = subprocess.Popen(
            [sys.executable, "-m", "p2pfrl", *words],
            stdout=subprocess.DEVNULL,
            stderr=file,
            cwd=folder,
        )
    deadline = time.monotonic() + DEADLINE
    while "round" not in said.read_text():
        assert process.poll() is None, said.read_text()
        assert time.monotonic() < deadline
        time.sleep(0.05)
    if number is None:
        assert stop(folder / "run") == "stopped"
    else:
        process.send_signal(number)
    process.wait(DEADLINE)
    deadline = time.monotonic() + DEADLINE
    while peers_of(folder):
        assert time.monotonic() < deadline
        time.sleep(0.1)
    return process.returncode, said.read_text()


def peers_of(folder: Path) -> list[str]:
    """Return the command lines of the processes whose working directory is the folder."""
    found = []
    for path in Path("/proc").glob("[0-9]*"):
        try:
            if (path / "cwd").resolve() == folder:
                command = (path / "cmdline").read_bytes()
                found += [command.decode()] if b"peer" in command else []
        except OSError:
            continue
    return found


@pytest.mark.parametrize(
    "number",
    [
        signal.SIGKILL,
        *(
            pytest.param(number, marks=pytest.mark.slow)
            for number in (signal.SIGINT, signal.SIGHUP, None)
        ),
    ],
)
def test_processes_end_with_their_parent_and_the_same_command_continues(
    number: signal.Signals | None, file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, said = interrupted(number, tmp_path)
    if number != signal.SIGKILL:
        assert code == 130
        assert "interrupted: the same command with --out run continues" in said
    assert "Traceback" not in said
    assert re.search(r"^round \d+/150  .*virtual time", said, re.MULTILINE)
    if number is None:
        assert main(["status", "run", "--json"]) == 0
        found = json.loads(capsys.readouterr().out)
        assert [status["agents"] for status in found] == [[0, 1], [2, 3]]
        assert {status["state"] for status in found} == {"ended by interrupt"}
        assert all(0 < status["round"] < 150 for status in found)
        assert main(["status", "run"]) == 0
        assert "run/peers/0-1: ended by interrupt  round" in capsys.readouterr().out
        assert main(["stop", "run"]) == 0
        assert capsys.readouterr().out == "run: not running\n"
    words = [
        "scenario",
        "ring.toml",
        "--transport",
        "tcp",
        "-j",
        "2",
        "--out",
        "run",
        "-q",
        "--json",
    ]
    if number != signal.SIGINT:
        return
    assert main([*words, "--seed", "5"]) == 2
    assert "got an unfinished run" in capsys.readouterr().err
    assert main(words) == 0
    summary = json.loads(capsys.readouterr().out)
    assert (summary["rounds"], summary["stopped_by"]) == (150, "rounds")
    assert [peer["incarnation"] for peer in summary["peers"]] == [1, 1]
    assert main(words) == 2
    assert "got a finished run" in capsys.readouterr().err


@pytest.mark.slow
def test_a_run_that_not_all_processes_had_joined_is_refused_or_begins_anew(
    file: Path, tmp_path: Path
) -> None:
    scenario, run = load(file, {"stop.rounds": 40}), tmp_path / "run"
    run_processes(scenario, run, 2, quiet=True)
    predicted = 40 * 4 * round_bytes(outline(scenario).layout, ("x",))
    written = sum(path.stat().st_size for path in run.glob("peers/*/journal.bin"))
    assert written == pytest.approx(predicted, rel=0.15)
    (run / "summary.json").unlink()
    (run / "peers/2-3/checkpoints/fleet.json").unlink()
    with pytest.raises(P2PFRLError, match=r"1 of 2 processes had met .* --overwrite begins anew"):
        run_processes(scenario, run, 2, quiet=True)
    for path in run.glob("peers/*/checkpoints/*.safetensors"):
        path.unlink()
    record = run_processes(scenario, run, 2, quiet=True)
    assert [peer["incarnation"] for peer in record.summary["peers"]] == [0, 0]


@pytest.mark.slow
def test_a_process_that_fails_says_why_in_the_error_of_the_run(file: Path, tmp_path: Path) -> None:
    scenario, run = load(file, {"stop.rounds": 2}), tmp_path / "run"
    run_processes(scenario, run, 2, quiet=True)
    (run / "summary.json").unlink()
    (run / "peers/0-1/checkpoints/process.json").write_text("{")
    with pytest.raises(P2PFRLError, match=r"agents 0-1 ended with code 1: .*not a process file"):
        run_processes(scenario, run, 2, quiet=True)


def test_a_run_that_ends_before_its_first_process_began_is_one_that_the_same_command_continues(
    file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(*args: object, **kwargs: object) -> None:
        raise KeyboardInterrupt

    scenario, run = load(file, {"stop.rounds": 2}), tmp_path / "run"
    monkeypatch.setattr(local, "_start", killed)
    with pytest.raises(KeyboardInterrupt):
        run_processes(scenario, run, 2, quiet=True)
    assert content_of(run) is Content.UNFINISHED
    assert (
        going_on(run) == f"p2pfrl scenario {run}/deployed.toml --transport tcp --jobs 1 --out {run}"
    )
    monkeypatch.undo()
    assert run_processes(scenario, run, 2, quiet=True).summary["rounds"] == 2


def test_a_lead_says_once_where_it_listens_and_every_other_process_is_told() -> None:
    line = json.dumps({"rendezvous": "127.0.0.1:7"})
    said = subprocess.Popen(
        [sys.executable, "-c", f"print({line!r})"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    lead = _Process([0], said)
    assert [lead.rendezvous() for _ in range(3)] == ["127.0.0.1:7"] * 3
    lead.finish()
    lead.wait()
