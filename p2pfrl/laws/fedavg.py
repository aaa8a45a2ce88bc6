"""Law of equivalence: gossip on the complete graph with uniform weights is FedAvg."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from p2pfrl.laws.base import Figure, Law, at_most
from p2pfrl.laws.runs import Table, play
from p2pfrl.results.record import Record

COMPLETE: dict[str, Any] = {"topology": {"kind": "complete"}, "mixing": {"kind": "uniform"}}
_NOISY: Table = {"steps": 2, "noise": 0.3}
_WAYS: dict[str, tuple[int, int, dict[str, Any]]] = {
    "2 agents": (2, 10, {"learner": {"noise": 0.3}}),
    "9 agents": (9, 10, {"learner": _NOISY}),
    "24 agents": (24, 4, {"learner": _NOISY}),
    "3 updates per exchange": (6, 10, {"learner": _NOISY, "schedule": {"every": 3}}),
    "PPO on CartPole": (
        5,
        3,
        {
            "environment": {"id": "CartPole-v1", "instances": 2},
            "learner": {"kind": "ppo", "steps": 16, "hidden": [16]},
            "evaluation": {"episodes": 0},
        },
    ),
}


def both(agents: int, rounds: int, tables: dict[str, Any], seed: int) -> tuple[Record, Record]:
    """Return the records of gossip on the complete graph, and of FedAvg."""
    gossip = play(agents, rounds, mode="gossip", seed=seed, **tables, **COMPLETE)
    return gossip, play(agents, rounds, mode="central", seed=seed, **tables)


def _equal() -> Iterator[Figure]:
    for what, (agents, rounds, tables) in _WAYS.items():
        gossip, central = both(agents, rounds, tables, seed=agents)
        apart = float(np.abs(gossip.parameters - central.parameters).max())
        yield at_most(f"{what}: largest difference after {rounds} rounds", 1e-12, apart)
        between = float(np.ptp(gossip.parameters, axis=0).max())
        yield at_most(f"{what}: largest difference between agents", 1e-12, between)


LAWS = (
    Law(
        "gossip_is_fedavg",
        "gossip on the complete graph with uniform weights follows FedAvg's trajectory",
        "computed",
        _equal,
    ),
)
