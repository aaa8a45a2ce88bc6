"""The same seed gives the same digest in any process."""

from __future__ import annotations

import os
import subprocess
import sys

import p2pfrl
from p2pfrl.laws.determinism import WORLDS
from p2pfrl.laws.runs import play
from p2pfrl.scenario import loads

PROGRAM = """
import sys, p2pfrl
from p2pfrl.scenario import loads
for scenario in sys.stdin.read().split("-----"):
    print(p2pfrl.run(loads(scenario)).summary["digest"])
"""


def digests_in_a_fresh_process(hash_seed: str) -> list[str]:
    """Return the digests of all worlds from a new interpreter under this PYTHONHASHSEED."""
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        input="-----".join(WORLDS.values()),
        text=True,
        capture_output=True,
        check=True,
        env={**os.environ, "PYTHONHASHSEED": hash_seed},
        timeout=120,
    )
    return done.stdout.split()


def test_digests_agree_across_processes_and_hash_seeds() -> None:
    here = [p2pfrl.run(loads(world)).summary["digest"] for world in WORLDS.values()]
    assert len(set(here)) == len(WORLDS)
    assert digests_in_a_fresh_process("271828") == here


def test_a_rough_world_is_rough() -> None:
    run = p2pfrl.run(loads(WORLDS["gossip, synchronous"]))
    assert run.summary["messages_dropped"] > 10
    assert run.summary["deadlines_expired"] > 0
    assert run.summary["messages_late"] > 0
    assert run.summary["stopped_by"] == "rounds"


def test_the_digest_depends_on_one_bit_of_one_parameter() -> None:
    run = play(3, 2)
    assert run.summary["digest"] != play(3, 2, learner={"lr": 0.05000000001}).summary["digest"]
