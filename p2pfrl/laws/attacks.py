"""Laws of attacks: what they do to agents without a defense, in runs."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from p2pfrl.laws.base import Figure, Law, at_most, near
from p2pfrl.laws.runs import FLAT, Array, Table, play, start

LIARS = [2, 5, 9]
_UNEVEN: Table = {
    "seconds_per_env_step": "50ms",
    "speed": {"kind": "cycle", "list": [1.0, 0.3, 2.0]},
}
"""Attackers that are faster than some honest agents, whose updates they know all the same."""


def _average_zero() -> Iterator[Figure]:
    attack = {"kind": "average_zero", "agents": LIARS}
    learner = {"noise": 1.0, "steps": 3}
    for rounds in (1, 10):
        run = play(13, rounds, mode="central", learner=learner, compute=_UNEVEN, attacks=(attack,))
        most = float(np.abs(run.parameters).max())
        yield at_most(f"largest parameter after {rounds} rounds, 3 of 13", 1e-12, most)


def _graphs() -> Iterator[tuple[str, Table, int]]:
    yield "complete graph of 13", {"kind": "complete"}, 13
    yield "torus of 16", {"kind": "torus", "rows": 4}, 16


def spreads(topology: Table, n: int, eps: float, rounds: int) -> tuple[Array, Array]:
    """Return start and end `(h, d)` of those honest agents that have a Byzantine neighbor."""
    attack = {"kind": "dissensus", "agents": LIARS, "eps": eps}
    run = play(n, rounds, learner=FLAT, topology=topology, attacks=(attack,))
    near_liars = [
        i for i in range(n) if i not in LIARS and set(LIARS).intersection(run.graph.successors[i])
    ]
    return start(run, 1)[near_liars], run.parameters[near_liars].astype(np.float64)


def _dissensus() -> Iterator[Figure]:
    for name, topology, n in _graphs():
        before, after = spreads(topology, n, eps=1.0, rounds=10)
        moved = float(np.abs(after - before).max())
        yield at_most(f"{name}: largest move of agents beside an attacker", 1e-12, moved)
    before, after = spreads({"kind": "complete"}, 13, eps=1.5, rounds=10)
    factor = float((after.std(axis=0) / before.std(axis=0)).mean())
    # Beside three attackers, ten honest agents weigh 10/13 in every row: x - mean grows by
    # 1 + (eps - 1) 10 / 13 a round.
    yield near("complete graph, eps = 1.5: growth in 10 rounds", (1 + 5 / 13) ** 10, factor, 1e-9)


def _free_rider() -> Iterator[Figure]:
    # Of n agents h train: the coordinator's step is h / n of that of h agents alone.
    learner = {"lr": 0.5, "curvature": [1.0, 1.0], "spread": 0.0}
    attack = {"kind": "free_rider", "agents": LIARS}
    rounds, share = 12, 10 / 13
    run = play(13, rounds, mode="central", learner=learner, attacks=(attack,))
    left = float(run.metrics["error"][-1])
    alone = play(13, 1, mode="central", learner={**learner, "lr": 0.0})
    begun = float(alone.metrics["error"][-1])
    yield near(
        "error after 12 rounds, of that at the start",
        (1 - 0.5 * share) ** rounds,
        left / begun,
        1e-9,
    )


LAWS = (
    Law(
        "average_zero",
        "three agents that know all updates hold a plain mean at zero, also if they are faster",
        "Jordan, Grötschla, Fan, Wattenhofer, AAMAS 2024, arXiv 2401.03489",
        _average_zero,
    ),
    Law(
        "dissensus",
        "dissensus of strength 1 holds the neighbors of attackers where they are; more drives them apart",
        "He, Karimireddy, Jaggi, 2022, arXiv 2202.01545",
        _dissensus,
    ),
    Law(
        "free_riders",
        "free riders slow a plain mean down by their share",
        "computed",
        _free_rider,
    ),
)
