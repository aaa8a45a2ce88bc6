"""The same seed gives the same digest, in any process; another seed gives another."""

from __future__ import annotations

import os
import subprocess
import sys

import numpy as np
import pytest

import p2pfrl
from p2pfrl.bench.laws.runs import play, text
from p2pfrl.scenario import loads

ROUGH = {
    "network": {
        "latency": {"kind": "lognormal", "median": "20ms", "sigma": 1.0}, "bandwidth": "1Mbit/s", "loss": 0.1,
        "duplicate": 0.1, "jitter": "30ms", "peer_timeout": "200ms",
    },
    "compute": {"seconds_per_env_step": "10ms", "speed": {"kind": "lognormal", "median": 1.0, "sigma": 0.5}},
    "learner": {"noise": 1.0},
    "availability": {"dropout": 0.1},
}  # fmt: skip
FAULTS = (
    {"at": "50ms", "kind": "crash", "agents": [3]},
    {"at": "100ms", "kind": "partition", "groups": [[0, 1, 2, 3], [4, 5, 6, 7]]},
    {"at": "150ms", "kind": "straggle", "agents": [1], "factor": 4},
    {"at": "200ms", "kind": "restart", "agents": [3]},
    {"at": "300ms", "kind": "heal"},
    {"at": "350ms", "kind": "loss", "probability": 0.3},
    {"at": "400ms", "kind": "leave", "agents": [5]},
)
WORLDS = {
    f"{mode}_{kind}": text(
        8, 30, mode=mode, faults=FAULTS,
        schedule={"kind": kind, **({"deadline": "100ms"} if kind == "synchronous" else {"max_staleness": 6})}, **ROUGH,
    )
    for mode in ("gossip", "central") for kind in ("synchronous", "asynchronous")
}  # fmt: skip
WORLDS["ppo"] = text(
    6, 4, learner={"kind": "ppo", "steps": 16, "hidden": [16]}, environment={"id": "CartPole-v1", "instances": 2},
    network={"loss": 0.2, "latency": {"kind": "lognormal", "median": "20ms", "sigma": 0.5}},
    schedule={"kind": "asynchronous"},
)  # fmt: skip
WORLDS["matchings"] = text(9, 30, topology={"kind": "random_matchings"}, **ROUGH)

PROGRAM = """
import sys, p2pfrl
from p2pfrl.scenario import loads
for scenario in sys.stdin.read().split("-----"):
    print(p2pfrl.run(loads(scenario)).summary["digest"])
"""


def digests_in_a_fresh_process(hash_seed: str) -> list[str]:
    """Return the digests of all worlds from a new interpreter under this PYTHONHASHSEED."""
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], input="-----".join(WORLDS.values()), text=True,
        capture_output=True, check=True,
        env={**os.environ, "PYTHONHASHSEED": hash_seed}, timeout=120,
    )  # fmt: skip
    return done.stdout.split()


def test_digests_agree_across_processes_and_hash_seeds() -> None:
    here = [p2pfrl.run(loads(world)).summary["digest"] for world in WORLDS.values()]
    assert len(set(here)) == len(WORLDS)
    assert digests_in_a_fresh_process("1") == here
    assert digests_in_a_fresh_process("271828") == here


@pytest.mark.parametrize("world", WORLDS)
def test_another_seed_is_another_run(world: str) -> None:
    scenario = loads(WORLDS[world])
    first, again, other = (p2pfrl.run(scenario, seed=seed, trace=True) for seed in (1, 1, 2))
    assert first.events == again.events
    np.testing.assert_array_equal(first.parameters, again.parameters)
    assert first.summary["digest"] == again.summary["digest"] != other.summary["digest"]


def test_a_rough_world_is_rough() -> None:
    run = p2pfrl.run(loads(WORLDS["gossip_synchronous"]))
    assert run.summary["messages_dropped"] > 10
    assert run.summary["deadlines_expired"] > 0
    assert run.summary["messages_late"] > 0
    assert run.summary["stopped_by"] == "rounds"


def test_the_digest_depends_on_one_bit_of_one_parameter() -> None:
    run = play(3, 2)
    assert run.summary["digest"] != play(3, 2, learner={"lr": 0.05000000001}).summary["digest"]
