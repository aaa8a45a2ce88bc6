"""Law of determinism: equal seeds give equal runs, bit for bit."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from p2pfrl.experiment.run import simulate
from p2pfrl.laws.base import Figure, Law, near
from p2pfrl.laws.runs import Table, ended, text
from p2pfrl.scenario import loads

ROUGH: dict[str, Any] = {
    "network": {
        "latency": {"kind": "lognormal", "median": "20ms", "sigma": 1.0},
        "bandwidth": "1Mbit/s",
        "loss": 0.1,
        "duplicate": 0.1,
        "jitter": "30ms",
        "peer_timeout": "200ms",
    },
    "compute": {
        "seconds_per_env_step": "10ms",
        "speed": {"kind": "lognormal", "median": 1.0, "sigma": 0.5},
    },
    "learner": {"noise": 1.0},
    "availability": {"dropout": 0.1},
}
_FAULTS: tuple[Table, ...] = (
    {"at": "50ms", "kind": "crash", "agents": [3]},
    {"at": "100ms", "kind": "partition", "groups": [[0, 1, 2, 3], [4, 5, 6, 7]]},
    {"at": "150ms", "kind": "straggle", "agents": [1], "factor": 4},
    {"at": "200ms", "kind": "restart", "agents": [3]},
    {"at": "300ms", "kind": "heal"},
    {"at": "350ms", "kind": "loss", "probability": 0.3},
    {"at": "400ms", "kind": "leave", "agents": [5]},
)
_SCHEDULES: dict[str, Table] = {
    "synchronous": {"kind": "synchronous", "deadline": "100ms"},
    "asynchronous": {"kind": "asynchronous", "max_staleness": 6},
}
WORLDS = {
    f"{mode}, {kind}": text(8, 18, mode=mode, faults=_FAULTS, schedule=schedule, **ROUGH)
    for mode in ("gossip", "central")
    for kind, schedule in _SCHEDULES.items()
}
"""Scenarios with every feature that draws random numbers."""
WORLDS["ppo"] = text(
    6,
    4,
    learner={"kind": "ppo", "steps": 16, "hidden": [16]},
    environment={"id": "CartPole-v1", "instances": 2},
    network={"loss": 0.2, "latency": {"kind": "lognormal", "median": "20ms", "sigma": 0.5}},
    schedule={"kind": "asynchronous"},
)
WORLDS["matchings"] = text(9, 15, topology={"kind": "random_matchings"}, **ROUGH)


def _deterministic() -> Iterator[Figure]:
    for name, world in WORLDS.items():
        scenario = loads(world)
        first, again, other = (
            ended(simulate(scenario, seed=seed, trace=True)) for seed in (1, 1, 2)
        )
        is_same = (
            first.summary["digest"] == again.summary["digest"] and first.events == again.events
        )
        is_same = is_same and np.array_equal(first.parameters, again.parameters)
        yield near(
            f"{name}: runs of one seed that agree in every event and bit, of 2",
            2.0,
            1.0 + is_same,
            0.0,
        )
        digests = {first.summary["digest"], other.summary["digest"]}
        yield near(f"{name}: different digests of 2 seeds", 2.0, float(len(digests)), 0.0)


LAWS = (
    Law(
        "determinism",
        "one seed gives one run, bit for bit, with loss, duplicates, jitter, faults and no barrier",
        "computed",
        _deterministic,
    ),
)
