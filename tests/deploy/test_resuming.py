"""A process that is killed, -9, goes on from its checkpoint with what its rule remembers."""

import json
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from p2pfrl.deploy.collect import collect
from p2pfrl.experiment.run import simulate
from p2pfrl.laws.runs import text
from p2pfrl.scenario import loads

PLAIN = {"lr": 0.0, "initial_spread": 1.0, "dimension": 3, "steps": 800}
TABLES = {"learner": PLAIN, "mixing": {"kind": "push_sum"}, "topology": {"kind": "directed_ring"}}


def peer(file, home, *words):
    command = [sys.executable, "-m", "p2pfrl", "peer", str(file), "--out", str(home), "--quiet"]
    return subprocess.Popen([*command, *words], stdout=subprocess.PIPE, text=True)


def wait_for_round(home, agent, round):
    """Wait until the agent's journal is past `round`."""
    deadline = time.monotonic() + 60
    checkpoint = home / "checkpoints" / f"agent-{agent}.safetensors"
    while time.monotonic() < deadline:
        if checkpoint.exists() and f'"round":"{round}'.encode() in checkpoint.read_bytes()[:20000]:
            return
        time.sleep(0.002)
    raise AssertionError(f"agent {agent} did not come to round {round}")


@pytest.mark.slow
def test_push_sum_loses_no_mass_with_a_process_that_is_killed_and_started_again(tmp_path):
    file = tmp_path / "mass.toml"
    file.write_text(text(4, 500, seed=3, **TABLES))
    homes = [tmp_path / "a", tmp_path / "b"]
    here = ["--agents", "0-1", "--lead", "--rendezvous", "127.0.0.1:0", "--json"]
    lead = peer(file, homes[0], *here)
    started = [lead]
    try:
        address = json.loads(lead.stdout.readline())["rendezvous"]
        other = ["--agents", "2-3", "--rendezvous", address, "--json"]
        killed = peer(file, homes[1], *other)
        started.append(killed)
        wait_for_round(homes[1], 2, 2)
        killed.send_signal(signal.SIGKILL)
        killed.wait()
        again = peer(file, homes[1], *other)
        started.append(again)
        for process in (lead, again):
            process.communicate(timeout=100)
            assert process.returncode == 0
    finally:
        for process in started:
            process.kill()
            process.communicate()
    record = collect(homes, tmp_path / "all")
    assert [found["incarnation"] for found in record.summary["peers"]] == [0, 1]
    alone = simulate(loads(text(4, 1, seed=3, learner=PLAIN, mode="independent"))).parameters
    mean = np.tile(alone.mean(axis=0), (4, 1))
    np.testing.assert_allclose(record.parameters, mean, atol=1e-9)
