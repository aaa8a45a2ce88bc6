"""A simulated run that is stopped at any event and resumed ends as the run that was not stopped."""

import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

import p2pfrl
from p2pfrl.core.causes import PassingError
from p2pfrl.core.errors import RecordError
from p2pfrl.experiment import checkpoints
from p2pfrl.experiment.run import resume
from p2pfrl.laws.runs import Table, text
from p2pfrl.results.record import Record
from p2pfrl.scenario import Scenario, loads

LOSSY: Table = {
    "network": {
        "latency": "20ms",
        "jitter": "30ms",
        "loss": {"kind": "burst", "good_to_bad": 0.1, "bad_to_good": 0.4},
        "duplicate": 0.1,
    },
    "compute": {"seconds_per_env_step": "50ms", "speed": {"kind": "lognormal", "sigma": 0.5}},
    "learner": {"noise": 0.1, "initial_spread": 1.0},
}
FAULTS = [
    {"at": "150ms", "kind": "crash", "agents": [1]},
    {"at": "400ms", "kind": "restart", "agents": [1]},
    {"at": "300ms", "kind": "partition", "groups": [[0, 1], [2, 3]]},
    {"at": "600ms", "kind": "heal"},
    {"at": "500ms", "kind": "straggle", "agents": [0], "factor": 3.0},
    {"at": "700ms", "kind": "leave", "agents": [3]},
]
OUTAGES = [
    {"at": "80ms", "kind": "crash", "agents": ["edge1"]},
    {"at": "100ms", "kind": "crash", "agents": ["coordinator", 1]},
    {"at": "150ms", "kind": "restart", "agents": ["edge1"]},
    {"at": "300ms", "kind": "restart", "agents": ["coordinator", 1]},
    {"at": "400ms", "kind": "crash", "agents": ["edge0"]},
]
SLOW: Table = {"compute": LOSSY["compute"]}
SHORT: Table = {"schedule": {"deadline": "300ms"}}
WORLDS: dict[str, Table] = {
    "synchronous": {},
    "synchronous, loss and faults": {**LOSSY, **SHORT, "faults": FAULTS},
    "combine while adapting": {**LOSSY, **SHORT, "exchange": {"order": "combine_while_adapting"}},
    "last known": {**LOSSY, **SHORT, "mixing": {"on_loss": "last_known"}},
    "asynchronous, loss and faults": {
        **LOSSY,
        "schedule": {"kind": "asynchronous"},
        "faults": FAULTS,
    },
    "opting out": {
        **LOSSY,
        **SHORT,
        "faults": [
            {"at": "200ms", "kind": "opt_out", "agents": [1]},
            {"at": "300ms", "kind": "opt_out", "agents": [3]},
        ],
    },
    "attacks": {
        **LOSSY,
        **SHORT,
        "attacks": (
            {"kind": "replay", "agents": [0], "rounds": 2, "until": 6},
            {"kind": "alie", "agents": [0], "z": 1.0, "from": "1s"},
            {"kind": "nan", "agents": [1], "from": 3, "until": 5},
        ),
    },
    "neighborhood, loss and faults": {
        **LOSSY,
        **SHORT,
        "topology": {"kind": "complete"},
        "mixing": {"kind": "neighborhood", "aggregator": {"kind": "trimmed_mean"}},
        "faults": FAULTS,
    },
    "clipped gossip, asynchronous": {
        **LOSSY,
        "schedule": {"kind": "asynchronous"},
        "mixing": {"kind": "clipped_gossip"},
    },
    "centered clipping, loss": {
        **LOSSY,
        **SHORT,
        "mode": "central",
        "coordinator": {"aggregator": {"kind": "centered_clipping"}},
    },
    "pairwise": {**LOSSY, "schedule": {"kind": "asynchronous"}, "mixing": {"kind": "pairwise"}},
    "push-sum": {**LOSSY, **SHORT, "mixing": {"kind": "push_sum"}},
    "choco": {
        "mixing": {"kind": "choco"},
        "compressor": {"kind": "difference", "compressor": {"kind": "topk"}},
    },
    "privacy": {
        **LOSSY,
        **SHORT,
        "privacy": {"kind": "clip_noise", "clip": 1.0, "noise_multiplier": 2.0, "budget": 4.0},
        "faults": FAULTS[:2],
    },
    "secure sums, crashes": {
        **LOSSY,
        **SHORT,
        "agents": 5,
        "mode": "central",
        "secure": {"kind": "secure_aggregation"},
        "faults": [OUTAGES[1], OUTAGES[3]],
    },
    "neighborhood masks, crashes": {
        **SLOW,
        "topology": {"kind": "complete"},
        "secure": {"kind": "neighborhood_masks"},
        "faults": FAULTS[:2],
    },
    "gradient tracking": {"mixing": {"kind": "gradient_tracking"}},
    "extra": {"mixing": {"kind": "extra"}},
    "chebyshev": {"mixing": {"kind": "chebyshev"}},
    "extra, with crashes": {"mixing": {"kind": "extra"}, "faults": FAULTS[:2], **SLOW},
    "choco, with crashes": {
        "mixing": {"kind": "choco"},
        "compressor": {"kind": "difference", "compressor": {"kind": "topk"}},
        "faults": FAULTS[:2],
        **SLOW,
    },
    "work by time, with crashes": {
        **LOSSY,
        **SHORT,
        "work": {"assign": "time", "time": "120ms"},
        "faults": FAULTS[:2],
    },
    "gate": {"gate": {"kind": "norm", "threshold": 0.05, "max_silence": 3}, **LOSSY, **SHORT},
    "personal": {"personal": {"kind": "ditto"}},
    "central, loss": {**LOSSY, **SHORT, "mode": "central"},
    "scaffold": {"mode": "central", "correction": {"kind": "control_variate"}},
    "fedbuff": {
        **LOSSY,
        "mode": "central",
        "schedule": {"kind": "buffered", "size": 2},
        "exchange": {"payload": "delta"},
        "coordinator": {"server_optimizer": {"kind": "adam"}},
    },
    "error feedback": {
        "mode": "central",
        "exchange": {"payload": "delta"},
        "compressor": {"kind": "error_feedback"},
    },
    "central, slow interfaces": {
        "mode": "central",
        "network": {"latency": "5ms", "bandwidth": "4kB/s"},
    },
    "cartpole, asynchronous": {
        "environment": {"id": "CartPole-v1", "instances": 2},
        "learner": {"kind": "ppo", "steps": 8, "update_epochs": 1, "num_minibatches": 1},
        "schedule": {"kind": "asynchronous"},
        "compute": {"speed": {"kind": "lognormal", "sigma": 0.5}},
    },
    "cartpole, pooled": {
        "mode": "pooled",
        "environment": {"id": "CartPole-v1", "instances": 2},
        "learner": {"kind": "a2c", "steps": 8},
    },
    "dqn": {
        "environment": {"id": "CartPole-v1", "instances": 2},
        "learner": {"kind": "dqn", "steps": 8, "learn_start": 8, "batch_size": 4},
    },
    "sac": {
        "environment": {"id": "Pendulum-v1", "instances": 2},
        "learner": {
            "kind": "sac",
            "steps": 8,
            "learn_start": 16,
            "batch_size": 4,
            "capacity": 40,
            "hidden": [8],
        },
    },
    "tabular, loss": {
        **{name: LOSSY[name] for name in ("network", "compute")},
        **SHORT,
        "environment": {"id": "gridworld"},
        "learner": {"kind": "tabular_q"},
    },
    "shared worlds, crashes": {
        **SLOW,
        "environment": {"id": "spectrum", "members": 2, "instances": 1},
        "learner": {"kind": "a2c", "steps": 4, "hidden": [2]},
        "faults": FAULTS[:2],
    },
    "coordinators that crash": {
        **LOSSY,
        **SHORT,
        "mode": "hierarchical",
        "hierarchy": {"groups": [[0, 1], [2, 3]], "edge_rounds": 2},
        "faults": OUTAGES,
    },
    "a coordinator that crashes, asynchronous": {
        **LOSSY,
        "mode": "central",
        "schedule": {"kind": "buffered", "size": 3},
        "exchange": {"payload": "delta"},
        "faults": OUTAGES,
    },
    "hierarchical": {
        "mode": "hierarchical",
        "hierarchy": {"groups": [[0, 1], [2, 3]], "edge_rounds": 2},
        "coordinator": {"participation": {"kind": "uniform", "fraction": 0.5}},
    },
    "a tree of three levels, with crashes": {
        **LOSSY,
        **SHORT,
        "agents": 6,
        "mode": "hierarchical",
        "hierarchy": {"branching": 2, "edge_rounds": 2},
        "faults": OUTAGES,
    },
}


def world(tables: Table, rounds: int = 4) -> Scenario:
    own = dict(tables)
    return loads(text(own.pop("agents", 4), rounds, seed=3, **own))


def assert_equal(found: Record, expected: Record) -> None:
    assert found.summary["digest"] == expected.summary["digest"]
    for name, values in expected.metrics.items():
        np.testing.assert_array_equal(found.metrics[name], values, err_msg=name)
    for name, values in expected.agents.items():
        np.testing.assert_array_equal(found.agents[name], values, err_msg=name)
    np.testing.assert_array_equal(found.parameters, expected.parameters)
    np.testing.assert_array_equal(found.staleness, expected.staleness)
    assert found.timeline == expected.timeline
    ignored = ("wall_seconds", "files")
    assert {k: v for k, v in found.summary.items() if k not in ignored} == {
        k: v for k, v in expected.summary.items() if k not in ignored
    }


class KilledError(PassingError):
    """Stands for kill -9: nothing is written after it."""


def stop_at(event: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let runs write a checkpoint before event number `event`, and be killed right after it."""
    began = checkpoints.Checkpoints.begin

    def begin(self: checkpoints.Checkpoints, world: object) -> None:
        began(self, world)  # type: ignore[arg-type]
        left = [event]

        def step() -> None:
            if left[0]:
                left[0] -= 1
                world.loop.when_idle(step)  # type: ignore[attr-defined]
                _one(world.loop)
                return
            self.save(world, {}, wall_seconds=0.0)  # type: ignore[arg-type]
            raise KilledError

        world.loop.when_idle(step)  # type: ignore[attr-defined]

    monkeypatch.setattr(checkpoints.Checkpoints, "begin", begin)


def _one(loop: object) -> None:
    """Handle one event, as the loop itself does."""
    if not loop._left and loop._instants:  # type: ignore[attr-defined]
        loop._advance()  # type: ignore[attr-defined]
    if loop._left:  # type: ignore[attr-defined]
        _, callback, args = loop._left.pop()  # type: ignore[attr-defined]
        callback(*args)


def check(scenario: Scenario, event: int, folder: Path, expected: Record) -> bool:
    """Kill the run before event number `event` and resume it; return whether it got that far."""
    with pytest.MonkeyPatch.context() as patch:
        stop_at(event, patch)
        try:
            p2pfrl.run(scenario, out=folder)
        except KilledError:
            pass
        else:
            return False
    assert not (folder / "summary.json").exists()
    assert_equal(resume(folder), expected)
    assert not (folder / checkpoints.FOLDER).exists()
    return True


def killed_at_every(step: int, name: str, folder: Path) -> int:
    """Kill a world before every `step`-th event, resume it each time, and return how often."""
    scenario = world(WORLDS[name])
    expected = p2pfrl.run(scenario, out=folder / "whole")
    killed = 0
    while check(scenario, killed * step, folder / str(killed), expected):
        killed += 1
    return killed


SOME = [
    "synchronous, loss and faults",
    "asynchronous, loss and faults",
    "pairwise",
    "privacy",
    "choco",
    "central, slow interfaces",
    "scaffold",
    "fedbuff",
    "hierarchical",
    "a coordinator that crashes, asynchronous",
]


@pytest.mark.parametrize("name", SOME)
def test_a_run_that_is_killed_and_resumed_ends_as_if_it_had_not_been(name, tmp_path):
    assert killed_at_every(23, name, tmp_path) >= 2


@pytest.mark.slow
@pytest.mark.parametrize("name", WORLDS)
def test_a_run_that_is_killed_at_any_event_and_resumed_ends_as_if_it_had_not_been(name, tmp_path):
    assert killed_at_every(1, name, tmp_path) >= 30


LONG = {
    "synchronous": text(8, 400, seed=5, checkpoint={"every": 7}, **LOSSY, **SHORT),
    "asynchronous": text(
        8, 400, seed=5, checkpoint={"every": "20ms"}, schedule={"kind": "asynchronous"}, **LOSSY
    ),
    "central": text(8, 400, seed=5, checkpoint={"every": 7}, mode="central", **LOSSY, **SHORT),
    "faults": text(8, 400, seed=5, checkpoint={"every": 7}, faults=FAULTS[:5], **LOSSY, **SHORT),
}


def kill_after(seconds: float, file: Path, out: Path) -> None:
    """Start the run as a process of its own, and kill it, -9.

    It is killed `seconds` after its first checkpoint.
    """
    command = [sys.executable, "-m", "p2pfrl", "scenario", str(file), "--quiet", "--out", str(out)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + 120
        while not (out / "checkpoints" / "run.state").exists() and process.poll() is None:
            assert time.monotonic() < deadline, "no checkpoint was written"
            time.sleep(0.005)
        time.sleep(seconds)
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()


@pytest.mark.slow
@pytest.mark.parametrize("name", LONG)
def test_a_process_that_is_killed_at_five_seeded_moments_is_resumed_to_the_same_digest(
    name, tmp_path
):
    file = tmp_path / "long.toml"
    file.write_text(LONG[name])
    expected = p2pfrl.run(loads(LONG[name]))
    interrupted = 0
    for number, seconds in enumerate(np.random.default_rng(7).uniform(0.0, 0.8, 5)):
        out = tmp_path / str(number)
        kill_after(float(seconds), file, out)
        if not (out / "summary.json").exists():
            interrupted += 1
            assert resume(out).summary["digest"] == expected.summary["digest"]
    assert interrupted >= 3


@pytest.mark.slow
def test_the_command_resumes_a_killed_process_and_says_no_to_anything_else(tmp_path, capsys):
    from p2pfrl.cli import main

    file = tmp_path / "long.toml"
    file.write_text(LONG["central"])
    out = tmp_path / "run"
    kill_after(0.0, file, out)
    expected = p2pfrl.run(loads(LONG["central"])).summary["digest"]
    assert main(["scenario", str(file), "--resume", str(out)]) == 2
    assert "give no file and no other settings" in capsys.readouterr().err
    assert main(["scenario", "--resume", str(out), "--json", "--quiet"]) == 0
    assert expected in capsys.readouterr().out
    assert main(["verify", str(out), "--quiet"]) == 0
    assert main(["scenario", "--resume", str(out)]) == 1
    assert "this run has finished" in capsys.readouterr().err


def test_a_full_disk_and_a_torn_file_leave_the_last_good_checkpoint(tmp_path, monkeypatch, capsys):
    scenario = world({**WORLDS["central, loss"], "checkpoint": {"every": 1}}, rounds=12)
    expected = p2pfrl.run(scenario)
    written = checkpoints.write
    calls = []

    def failing(path: Path, *args: object, **options: object) -> None:
        calls.append(path)
        if len(calls) in (8, 9, 13):
            raise RecordError(f"{path}: cannot be written: No space left on device")
        if len(calls) == 18:
            raise KilledError
        written(path, *args, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(checkpoints, "write", failing)
    with pytest.raises(KilledError):
        p2pfrl.run(scenario, out=tmp_path / "run")
    monkeypatch.undo()
    said = capsys.readouterr().err
    assert said.count("No space left on device; the run goes on, and checkpoints are missing") == 2
    assert "checkpoints are written again: 2 are missing" in said
    newest = tmp_path / "run" / "checkpoints" / "run.state"
    newest.write_bytes(newest.read_bytes()[:-100])
    assert_equal(resume(tmp_path / "run"), expected)
    assert "going on from run.previous" in capsys.readouterr().err


def test_checkpoints_of_another_scenario_are_refused_with_both_values(tmp_path):
    scenario = world({})
    with pytest.MonkeyPatch.context() as patch:
        stop_at(20, patch)
        with pytest.raises(KilledError):
            p2pfrl.run(scenario, out=tmp_path)
    copy = tmp_path / "checkpoints" / "scenario.toml"
    copy.write_text(copy.read_text().replace("seed = 3", "seed = 4"))
    with pytest.raises(RecordError, match=r"scenario: expected .*, got"):
        resume(tmp_path)


def test_a_run_without_a_checkpoint_starts_from_its_beginning(tmp_path):
    scenario = world({})
    expected = p2pfrl.run(scenario)

    def die(*args: object) -> bool:
        raise KilledError

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(checkpoints.Checkpoints, "is_due", die)
        with pytest.raises(KilledError):
            p2pfrl.run(scenario, out=tmp_path)
    assert_equal(resume(tmp_path), expected)
