"""A process of a series ends as a program does: finalizers run, and what is open is closed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import p2pfrl

ROOT = str(Path(p2pfrl.__file__).parents[1])
OWN = """
import atexit, os, time, weakref
import gymnasium, numpy as np

def note(what):
    with open("notes.txt", "a") as file:
        file.write(f"{what} {os.getpid()}\\n")

atexit.register(note, "atexit")
LEFT = open(f"left-{os.getpid()}.txt", "w")
LEFT.write("all of it")

class Env(gymnasium.Env):
    observation_space = gymnasium.spaces.Box(-1, 1, (2,))
    action_space = gymnasium.spaces.Discrete(2)
    def __init__(self, slow=False):
        self.slow = slow
        weakref.finalize(self, note, "finalize")
        note("made")
    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return np.zeros(2, np.float32), {}
    def step(self, action):
        if self.slow:
            note("step")
            time.sleep(0.05)
        return np.zeros(2, np.float32), 1.0, True, False, {}
    def close(self):
        note("close")
"""
SCENARIO = """name = "own"
agents = 2
stop = {rounds = 1}
environment = {id = "own:Env"}
learner = {kind = "reinforce", steps = 4, hidden = [4]}
"""


@pytest.fixture
def here(tmp_path: Path) -> Path:
    (tmp_path / "own.py").write_text(OWN)
    (tmp_path / "own.toml").write_text(SCENARIO)
    return tmp_path


def start(here: Path, *words: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "p2pfrl", *words, "--quiet"]
    environment = {**os.environ, "PYTHONPATH": ROOT}
    return subprocess.Popen(
        command,
        cwd=here,
        env=environment,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


def noted(here: Path) -> dict[str, set[str]]:
    """Return the processes that noted each word."""
    found: dict[str, set[str]] = {}
    for line in (here / "notes.txt").read_text().splitlines():
        what, process = line.split()
        found.setdefault(what, set()).add(process)
    return found


def test_finalizers_of_users_run_in_every_process_of_a_sweep(here: Path) -> None:
    process = start(here, "sweep", "own.toml", "--seeds", "0-3", "-j", "2", "--out", "runs")
    _, said = process.communicate(timeout=120)
    assert process.returncode == 0, said
    assert said == ""
    found = noted(here)
    assert len(found["made"]) == 3, "the command looks at one, and two processes run them"
    for what in ("atexit", "close", "finalize"):
        assert found[what] == found["made"], what
    for process_id in found["made"]:
        assert (here / f"left-{process_id}.txt").read_text() == "all of it"


def test_finalizers_of_users_run_where_a_sweep_is_interrupted(here: Path) -> None:
    settings = ("--set", "environment.kwargs.slow=true", "--set", "stop.rounds=1000")
    process = start(
        here, "sweep", "own.toml", "--seeds", "0-3", "-j", "2", "--out", "runs", *settings
    )
    limit = time.monotonic() + 60
    while len(noted(here).get("step", ()) if (here / "notes.txt").exists() else ()) < 2:
        assert time.monotonic() < limit
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=120)
    assert process.returncode == 130, said
    found = noted(here)
    for what in ("atexit", "close", "finalize"):
        assert found[what] == found["made"], what
