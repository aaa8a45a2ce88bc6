"""A process that is killed, -9, goes on from its checkpoint with what its rule remembers."""

import json
import signal
import subprocess
import sys
import time
from contextlib import suppress

import numpy as np
import pytest

from p2pfrl.deploy.collect import collect
from p2pfrl.experiment.run import simulate
from p2pfrl.laws.runs import text
from p2pfrl.scenario import loads

PLAIN = {"lr": 0.0, "initial_spread": 1.0, "dimension": 3, "steps": 800}
NOISY = {"lr": 0.05, "noise": 0.1, "initial_spread": 1.0, "dimension": 3, "steps": 800}
MASS = {"learner": PLAIN, "mixing": {"kind": "push_sum"}, "topology": {"kind": "directed_ring"}}
DIFFERENCE = {"kind": "difference", "compressor": {"kind": "qsgd"}}
EVERY_MESSAGE = {
    "gradient_tracking": {"mixing": {"kind": "gradient_tracking"}},
    "extra": {"mixing": {"kind": "extra"}},
    "chebyshev": {"mixing": {"kind": "chebyshev"}},
    "choco": {"mixing": {"kind": "choco"}, "compressor": DIFFERENCE},
    "choco, combining first": {
        "mixing": {"kind": "choco"},
        "compressor": DIFFERENCE,
        "exchange": {"order": "combine_while_adapting"},
    },
    "difference": {"compressor": DIFFERENCE},
}


def peer(file, home, *words):
    command = [sys.executable, "-m", "p2pfrl", "peer", str(file), "--out", str(home), "--quiet"]
    return subprocess.Popen([*command, *words], stdout=subprocess.PIPE, text=True)


def wait_for_round(home, agent, round):
    """Wait until the agent's checkpoint is of `round`, in which it counts in tens."""
    deadline = time.monotonic() + 60
    checkpoint = home / "checkpoints" / f"agent-{agent}.safetensors"
    while time.monotonic() < deadline:
        with suppress(FileNotFoundError):  # for a moment, the newest one is not in its place
            if f'"round":"{round}'.encode() in checkpoint.read_bytes()[:20000]:
                return
        time.sleep(0.002)
    raise AssertionError(f"agent {agent} did not come to round {round}")


def killed_and_started_again(folder, scenario, rounds):
    """Return the record of two processes of two agents each.

    The second is killed at `rounds` in turn.
    """
    file = folder / "run.toml"
    file.write_text(scenario)
    homes = [folder / "a", folder / "b"]
    here = ["--agents", "0-1", "--lead", "--rendezvous", "127.0.0.1:0", "--json"]
    lead = peer(file, homes[0], *here)
    started = [lead]
    try:
        address = json.loads(lead.stdout.readline())["rendezvous"]
        other = ["--agents", "2-3", "--rendezvous", address, "--json"]
        last = peer(file, homes[1], *other)
        started.append(last)
        for round in rounds:
            wait_for_round(homes[1], 2, round)
            last.send_signal(signal.SIGKILL)
            last.wait()
            last = peer(file, homes[1], *other)
            started.append(last)
        for process in (lead, last):
            process.communicate(timeout=300)
            assert process.returncode == 0
    finally:
        for process in started:
            process.kill()
            process.communicate()
    record = collect(homes, folder / "all")
    assert [found["incarnation"] for found in record.summary["peers"]] == [0, len(rounds)]
    return record


@pytest.mark.slow
def test_push_sum_loses_no_mass_with_a_process_that_is_killed_and_started_again(tmp_path):
    record = killed_and_started_again(tmp_path, text(4, 500, seed=3, **MASS), [2])
    alone = simulate(loads(text(4, 1, seed=3, learner=PLAIN, mode="independent"))).parameters
    mean = np.tile(alone.mean(axis=0), (4, 1))
    np.testing.assert_allclose(record.parameters, mean, atol=1e-9)


@pytest.mark.slow
@pytest.mark.parametrize("name", EVERY_MESSAGE)
def test_rules_that_need_every_message_end_as_if_no_process_had_been_killed(name, tmp_path):
    scenario = text(4, 60, seed=3, learner=NOISY, **EVERY_MESSAGE[name])
    record = killed_and_started_again(tmp_path, scenario, [2, 4])
    expected = simulate(loads(scenario))
    np.testing.assert_array_equal(record.parameters, expected.parameters)
    assert record.summary["rounds"] == 60
    assert record.summary["env_steps"] == expected.summary["env_steps"]
