"""A run as processes on one machine: interrupted, continued, and never without its parent."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from p2pfrl.cli import main
from p2pfrl.core.errors import P2PFRLError
from p2pfrl.deploy.local import run_processes
from p2pfrl.scenario import load

SCENARIO = """name = "ring"
agents = 4
stop = {rounds = 150}
learner = {kind = "quadratic", dimension = 3, steps = 800, initial_spread = 1.0}
"""
DEADLINE = 150.0


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "ring.toml").write_text(SCENARIO)
    return tmp_path / "ring.toml"


def interrupted(number: signal.Signals, folder: Path) -> tuple[int, str]:
    """End a run after a saved round of all of its processes; return code and stderr."""
    words = ["scenario", "ring.toml", "--transport", "tcp", "-j", "2", "--out", "run"]
    process = subprocess.Popen(
        [sys.executable, "-m", "p2pfrl", *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=folder,
    )
    deadline = time.monotonic() + DEADLINE
    while len(list(folder.glob("run/peers/*/checkpoints/agent-*.safetensors"))) < 4:
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.05)
    process.send_signal(number)
    process.wait(DEADLINE)
    deadline = time.monotonic() + DEADLINE
    while peers_of(folder):
        assert time.monotonic() < deadline
        time.sleep(0.1)
    return process.returncode, process.communicate()[1]


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


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGKILL])
def test_processes_end_with_their_parent_and_the_same_command_continues(
    number: signal.Signals, file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, said = interrupted(number, tmp_path)
    if number != signal.SIGKILL:
        assert code == 130
        assert "interrupted: the same command with --out run continues" in said
    assert "Traceback" not in said
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


def test_a_run_that_not_all_processes_had_joined_is_refused_or_begins_anew(
    file: Path, tmp_path: Path
) -> None:
    scenario, run = load(file, {"stop.rounds": 2}), tmp_path / "run"
    run_processes(scenario, run, 2, quiet=True)
    (run / "summary.json").unlink()
    (run / "peers/2-3/checkpoints/fleet.json").unlink()
    with pytest.raises(P2PFRLError, match=r"1 of 2 processes had met .* --overwrite begins anew"):
        run_processes(scenario, run, 2, quiet=True)
    for path in run.glob("peers/*/checkpoints/*.safetensors"):
        path.unlink()
    record = run_processes(scenario, run, 2, quiet=True)
    assert [peer["incarnation"] for peer in record.summary["peers"]] == [0, 0]


def test_a_process_that_fails_says_why_in_the_error_of_the_run(file: Path, tmp_path: Path) -> None:
    scenario, run = load(file, {"stop.rounds": 2}), tmp_path / "run"
    run_processes(scenario, run, 2, quiet=True)
    (run / "summary.json").unlink()
    (run / "peers/0-1/checkpoints/process.json").write_text("{")
    with pytest.raises(P2PFRLError, match=r"agents 0-1 ended with code 1: .*not a process file"):
        run_processes(scenario, run, 2, quiet=True)
