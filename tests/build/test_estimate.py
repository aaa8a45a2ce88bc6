"""What a run needs, as estimated before it starts: against runs, and what is said."""

from __future__ import annotations

import subprocess
import sys

import pytest

from p2pfrl import loads
from p2pfrl.build import estimate
from p2pfrl.build.estimate import available, available_memory, slower, what_is_short
from p2pfrl.build.pace import with_environments
from p2pfrl.build.preview import needs
from p2pfrl.cli import main
from p2pfrl.commands.progress import Lines

_GOSSIP = """
name = "estimated"
agents = 256
stop = {rounds = 5}
learner = {kind = "quadratic", dimension = 8}
topology = {kind = "torus"}
"""
_PPO = """
name = "estimated"
agents = 256
stop = {rounds = 3}
environment = {id = "cartpole", instances = 4}
evaluation = {episodes = 2}
learner = {kind = "ppo", steps = 32, shared_trunk = true, num_minibatches = 2, update_epochs = 1}
topology = {kind = "torus"}
"""
_DQN = """
name = "estimated"
agents = 16
stop = {rounds = 8}
environment = {id = "cartpole", instances = 4}
evaluation = {episodes = 2}
learner = {kind = "dqn"}
"""


def _complete(text: str) -> str:
    return text.replace('"torus"', '"complete"')


RUNS = {
    "sparse": _GOSSIP,
    "complete": _complete(_GOSSIP.replace("agents = 256", "agents = 300").replace("5}", "2}")),
    "large problem": _GOSSIP.replace("dimension = 8", "dimension = 150").replace("256", "64"),
    "many rounds": _GOSSIP.replace("agents = 256", "agents = 36").replace("= 5", "= 300"),
    "policies": _PPO,
    "replay": _DQN,
    "tables": _PPO[: _PPO.index("environment")].replace("rounds = 3", "rounds = 30")
    + 'environment = {id = "gridworld"}\nlearner = {kind = "tabular_q"}\n'
    + 'topology = {kind = "torus"}\n',
    "central": _PPO.replace("name =", 'mode = "central"\nname =').replace("256", "64"),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", RUNS)
def test_memory_and_disk_are_right_within_a_factor_of_two(name, tmp_path):
    file = tmp_path / "it.toml"
    file.write_text(RUNS[name], encoding="utf-8")
    draws = name == "sparse"
    words = ["scenario", str(file), "--quiet", "--out", str(tmp_path / "run")]
    program = [
        "import resource, subprocess, sys",
        "subprocess.run([sys.executable, '-m', 'p2pfrl', *sys.argv[1:]], check=True, stdout=-3)",
        "used = resource.getrusage(resource.RUSAGE_CHILDREN)",
        "print(used.ru_maxrss * 1024, used.ru_utime + used.ru_stime)",
    ]
    argv = [*words, *([] if draws else ["--no-report"])]
    found = subprocess.run(
        [sys.executable, "-c", "\n".join(program), *argv],
        capture_output=True,
        text=True,
        check=True,
    )
    memory, seconds = map(float, found.stdout.split())
    disk = sum(path.stat().st_size for path in (tmp_path / "run").rglob("*") if path.is_file())
    expected = needs(loads(RUNS[name]), draws=draws)
    assert memory / 2 <= expected.memory <= 2 * memory
    assert disk / 2 <= expected.disk <= 2 * disk
    assert seconds / 6 <= expected.cpu_seconds <= 6 * seconds, "it is said to be rough"


def test_needs_grow_with_agents_rounds_and_edges(monkeypatch):
    monkeypatch.setattr(estimate, "slower", lambda: 1.0)  # one speed for all estimates
    base = loads(_GOSSIP)
    few = needs(base, draws=False)
    many = needs(loads(_GOSSIP, {"agents": 2048}), draws=False)
    assert many.memory > few.memory + 1792 * 12_000
    long = needs(loads(_GOSSIP, {"stop.rounds": 500}), draws=False)
    assert long.disk > 30 * few.disk
    assert long.cpu_seconds > 10 * few.cpu_seconds
    assert needs(loads(_complete(_GOSSIP)), draws=False).memory > few.memory + 200 * 256 * 245
    assert needs(base).memory - few.memory == 65_000_000


def test_checkpoints_of_long_runs_count():
    short, long = (needs(loads(_complete(_GOSSIP), {"stop.rounds": k})) for k in (2, 400))
    of_edges = 60 * 256 * 255
    assert long.memory - short.memory > of_edges
    never = {"stop.rounds": 400, "checkpoint.every": 1000}
    assert needs(loads(_complete(_GOSSIP), never)).memory < long.memory - of_edges / 2
    often = {"stop.rounds": 2, "checkpoint.every": 1}
    assert needs(loads(_complete(_GOSSIP), often)).memory > short.memory + of_edges / 2


def test_rounds_follow_from_steps_and_from_virtual_time():
    rounds = needs(loads(_PPO))
    steps = needs(loads(_PPO.replace("{rounds = 3}", "{env_steps = 98304}")))
    assert steps.disk == rounds.disk, "3 rounds of 256 agents and 128 steps"
    seconds = loads(_PPO).compute.seconds_per_env_step * 128 * 3
    timed = needs(loads(_PPO.replace("{rounds = 3}", f"{{virtual_time = {seconds}}}")))
    assert timed.disk == rounds.disk


def test_figures_have_two_digits():
    found = needs(loads(_GOSSIP)).shown()
    assert all(float(f"{value:.2g}") == value for value in found.values())


def test_external_environments_are_added_as_they_are_measured():
    scenario = loads(_PPO, {"evaluation.every": 2})
    measured = {"seconds_per_round": 10.0, "seconds_per_evaluation_at_most": 100.0}
    assert with_environments(scenario, measured, 5.0) == pytest.approx(
        5 + 3 * 10 + 2 * 100, rel=0.05
    )
    assert with_environments(scenario, None, 5.0) == 5.0


def test_the_memory_that_is_there_is_that_of_machine_and_container(tmp_path):
    machine, limit = tmp_path / "meminfo", tmp_path / "memory.max"
    machine.write_text("MemTotal:  2000 kB\nMemAvailable:    1000 kB\n")
    limit.write_text("max\n")
    assert available_memory(machine, limit) == 1_024_000
    limit.write_text("500000\n")
    assert available_memory(machine, limit) == 500_000
    assert available_memory(tmp_path / "none", tmp_path / "neither") is None


def test_a_note_says_what_is_short():
    found = {"memory_about": 31_000_000_000, "disk_running_about": 2_000_000}
    memory, disk = what_is_short(found, 22_000_000_000, 1_000_000)
    assert memory.startswith("agents: the run needs about 31 GB of memory, and 22 GB are available")
    assert disk.startswith("stop: the run needs about 2 MB of disk, and 1 MB are free")
    assert not what_is_short(found, 32_000_000_000, 3_000_000)
    assert not what_is_short(found, None, None)


def test_validate_prints_the_estimate_and_warns(tmp_path, capsys, monkeypatch):
    file = tmp_path / "it.toml"
    file.write_text(_GOSSIP, encoding="utf-8")
    monkeypatch.setattr("p2pfrl.build.estimate.available_memory", lambda: 10_000_000)
    assert main(["validate", str(file)]) == 0
    printed = capsys.readouterr()
    assert "memory_about" in printed.out
    assert "cpu_seconds_about" in printed.out
    assert "note: agents: the run needs about" in printed.err
    assert "10 MB are available" in printed.err


def test_the_disk_of_a_directory_that_is_not_there_yet_is_that_of_its_parent(tmp_path):
    _, there = available(tmp_path)
    _, later = available(tmp_path / "a" / "b")
    assert later == pytest.approx(there, rel=0.5)


def test_the_loop_measures_this_processor():
    ticks = iter([0.0, 1.7e-3, 2.0, 2.0 + 3e-3, 5.0, 5.0 + 3e-3])
    assert slower(lambda: next(ticks)) == pytest.approx(2.0)
    assert 0.25 <= slower() < 100


def test_lines_of_progress_say_how_long_the_rest_takes(capsys, monkeypatch):
    now = [0.0]
    monkeypatch.setattr("p2pfrl.commands.progress.time.monotonic", lambda: now[0])
    lines = Lines(1000)
    row = dict.fromkeys(
        ("return_mean", "error", "consensus_distance", "virtual_seconds", "env_steps"), 1.0
    )
    now[0] = 30.0
    lines({"round": 100, **row})
    now[0] = 290.0
    lines({"round": 990, **row})
    first, last = capsys.readouterr().err.splitlines()
    assert first.endswith("about 4 min 30 s left")
    assert "left" not in last
