"""The end of a process of `p2pfrl peer`.

It is interrupted while it waits, or started again when all is done.
"""

import json
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from test_lan_usage import RING

from p2pfrl.cli import main
from p2pfrl.deploy.process import progress
from p2pfrl.deploy.status import Status

LEAD = (("--lead",), "Run on each of the others:", "interrupted while waiting for the others")
FIXED = (
    ("--peers", "0-1=127.0.0.1:0,2-3=127.0.0.1:1"),
    "waiting for agents 2-3 at 127.0.0.1:1",
    "",
)


@pytest.mark.parametrize(
    ("number", "way"),
    [
        pytest.param(signal.SIGTERM, LEAD, marks=pytest.mark.slow),
        (signal.SIGINT, FIXED),
        pytest.param(signal.SIGINT, LEAD, marks=pytest.mark.slow),
        pytest.param(signal.SIGTERM, FIXED, marks=pytest.mark.slow),
    ],
)
def test_an_interrupt_while_waiting_is_code_130_and_a_word(tmp_path, number, way):
    options, says, ends = way
    (tmp_path / "ring.toml").write_text(RING, encoding="utf-8")
    program = [
        sys.executable,
        "-u",
        "-m",
        "p2pfrl",
        "peer",
        "ring.toml",
        "--agents",
        "0-1",
        "--out",
        "run",
        *options,
    ]
    with subprocess.Popen(
        program, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as process:
        assert process.stdout is not None
        assert any(says in line for line in process.stdout)
        process.send_signal(number)
        said = process.stdout.read()
    assert process.returncode == 130
    assert ends in said
    assert "interrupt" in said
    assert "Traceback" not in said


@pytest.mark.parametrize("stop", ["stop.rounds=3", "stop={virtual_time = '0.5s'}"])
def test_a_finished_run_that_is_started_again_says_so_and_leaves_its_files_as_they_are(
    stop, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    Path("ring.toml").write_text(RING, encoding="utf-8")
    words = ["peer", "ring.toml", "--agents", "0-3", "--lead", "--out", "run", "--set", stop]
    assert main(words) == 0
    first = {path: path.read_bytes() for path in Path("run").rglob("*") if path.is_file()}
    assert b'"rounds": 3' in first[Path("run/peer.json")]
    capsys.readouterr()
    assert main(words) == 0
    assert "nothing is left to do" in capsys.readouterr().err
    assert {path: path.read_bytes() for path in Path("run").rglob("*") if path.is_file()} == first
    assert main([*words, "--set", "seed=9"]) == 1
    assert "belongs to scenario" in capsys.readouterr().err


def test_a_process_that_is_started_again_begins_at_its_saved_round(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    Path("ring.toml").write_text(RING, encoding="utf-8")
    words = ["peer", "ring.toml", "--agents", "0-3", "--lead", "--out", "run", "--json", "--quiet"]
    assert main([*words, "--set", "stop.rounds=3"]) == 0
    Path("run/peer.json").unlink()  # as if it had been killed
    capsys.readouterr()
    assert main([*words, "--set", "stop.rounds=3"]) == 0
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["rounds"] == 3
    assert json.loads(Path("run/status.json").read_text())["round"] == 3


def test_progress_says_who_is_awaited_until_a_round_has_ended():
    status = Status((4, 5), 17, 60, 198.1, 3.0, 1_500_000, 0, 9, {}, 0.0)
    waiting = progress(replace(status, waiting="agents 0-3 at 10.0.0.1:7000"))
    assert waiting == "agents 4-5  round 17/60  waiting for agents 0-3 at 10.0.0.1:7000"
    assert progress(status) == (
        "agents 4-5  round 17/60  return 198.1  sent 1.5 MB  deadlines expired 0"
    )
