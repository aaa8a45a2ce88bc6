"""`--workers`: processes that train in a run of the command line, and how they end."""

import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from process_groups import wait_until_gone

from p2pfrl.cli import main

SCENARIO = """
name = "w"
agents = 4
[stop]
rounds = 3
[environment]
id = "cartpole"
instances = 1
[learner]
kind = "ppo"
hidden = [4]
steps = 8
[evaluation]
episodes = 0
"""


@pytest.fixture
def file(tmp_path: Path) -> str:
    path = tmp_path / "w.toml"
    path.write_text(SCENARIO)
    return str(path)


@pytest.mark.parametrize("value", ["0", "many", "1.5", "2000"])
def test_a_number_that_is_none_is_refused(file, value, capsys):
    assert main(["scenario", file, "--workers", value]) == 2
    assert f"--workers: expected auto or a number from 1 to 1,024, got '{value}'" in (
        capsys.readouterr().err
    )


def test_processes_of_a_deployment_share_the_cores_as_they_are_told(file, capsys):
    assert main(["scenario", file, "--workers", "auto", "--transport", "tcp"]) == 2
    said = "--transport tcp has processes of its own, which share the cores; give a number"
    assert said in capsys.readouterr().err


def test_a_process_that_trains_nobody_has_no_workers(file, capsys):
    words = ["peer", file, "--set", "mode=central", "--agents", "coordinator", "--lead"]
    assert main([*words, "--workers", "2"]) == 2
    assert "--workers 2: no agent trains in this process" in capsys.readouterr().err
    assert main([*words, "--workers", "0"]) == 2
    assert "--workers: expected auto or a number from 1" in capsys.readouterr().err


def test_the_summary_says_how_many_train(file, tmp_path, capsys):
    arguments = ["scenario", file, "--quiet", "--no-report", "--out"]
    assert main([*arguments, str(tmp_path / "two"), "--workers", "2"]) == 0
    assert ", 2 worker processes" in capsys.readouterr().out
    assert main([*arguments, str(tmp_path / "auto"), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["workers"] == 1
    two = json.loads((tmp_path / "two" / "summary.json").read_text())
    assert two["workers"] == 2
    assert two["digest"] == found["digest"]
    assert main(["verify", str(tmp_path / "two"), "--quiet"]) == 0


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_no_process_is_left_however_a_run_ends(file, tmp_path, number):
    out = tmp_path / "run"
    command = [
        "scenario",
        file,
        "--set",
        "stop.rounds=1000000",
        "--workers",
        "2",
        "--out",
        str(out),
    ]
    with subprocess.Popen(
        [sys.executable, "-m", "p2pfrl", *command],
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as run:
        assert run.stderr is not None
        is_there = any(line.startswith("round ") for line in run.stderr)
        run.send_signal(number if is_there else signal.SIGKILL)
        said = run.stderr.read()
    assert is_there, said
    assert run.returncode == (-number if number == signal.SIGKILL else 130)
    wait_until_gone(run.pid)
