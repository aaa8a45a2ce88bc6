"""Laws of pairwise averaging: the rate of random pairs, and exactly-once exchanges."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from p2pfrl.consensus.mixing import RULES as MIXING
from p2pfrl.consensus.theory import lambda_2, pairwise_rate
from p2pfrl.consensus.topologies import RULES as TOPOLOGIES
from p2pfrl.core.graph import Graph
from p2pfrl.laws.base import Figure, Law, at_least, at_most, near
from p2pfrl.laws.runs import FLAT, Array, Table, play, start

PAIRS: Table = {"kind": "pairwise"}
FREE: Table = {"kind": "asynchronous"}
CLOCKS: Table = {"seconds_per_env_step": 1.0, "variation": {"kind": "exponential"}}
"""Exponential training times: the next agent to ask is uniform and independent of the past."""
ATOMIC: Table = {"latency": 0, "bandwidth": 1e18}
LOSSY: Table = {
    "loss": 0.2,
    "duplicate": 0.1,
    "jitter": "2ms",
    "latency": "1ms",
    "peer_timeout": "20ms",
}


def spread(agents: int, rounds: int, seed: int, topology: Table) -> float:
    """Return sum_i ||x_i - mean||^2 after n `rounds` exchanges of random pairs."""
    learner = {**FLAT, "dimension": 32}
    record = play(
        agents,
        rounds,
        seed=seed,
        learner=learner,
        topology=topology,
        mixing=PAIRS,
        schedule=FREE,
        compute=CLOCKS,
        network=ATOMIC,
        evaluation={"episodes": 0},
    )
    return float(np.square(record.parameters - record.parameters.mean(axis=0)).sum())


def factor(agents: int, rounds: tuple[int, int], seeds: int, topology: Table) -> float:
    """Return the factor per exchange of the mean over seeds, between two rounds."""
    early, late = (sum(spread(agents, r, seed, topology) for seed in range(seeds)) for r in rounds)
    return float((late / early) ** (1.0 / (agents * (rounds[1] - rounds[0]))))


def graph(kind: str, agents: int) -> Graph:
    """Return a graph without options."""
    return TOPOLOGIES[kind]().at(agents, 0, 0)


def predicted(on: Graph, rounds: tuple[int, int]) -> float:
    """Return the predicted factor per exchange of E||x - mean||^2 between two rounds."""
    n = on.n
    step = np.zeros((n * n, n * n))
    for i, neighbors in enumerate(on.successors):
        for j in neighbors:
            w = np.eye(n)
            w[[i, i, j, j], [i, j, i, j]] = 0.5
            step += np.kron(w, w) / (n * len(neighbors))
    moment = (np.eye(n) - 1.0 / n).reshape(-1)
    early, late = (
        np.trace((np.linalg.matrix_power(step, n * r) @ moment).reshape(n, n)) for r in rounds
    )
    return float((late / early) ** (1.0 / (n * (rounds[1] - rounds[0]))))


def _rates() -> Iterator[Figure]:
    yield near(
        "ring of 16: factor of E||x - mean||^2 per exchange",
        0.990581,
        factor(16, (5, 40), 10, {"kind": "ring"}),
        5e-4,
    )
    expected = predicted(graph("path", 8), (4, 30))
    yield near(
        "path of 8: factor from round 4 to 30",
        expected,
        factor(8, (4, 30), 20, {"kind": "path"}),
        2e-3,
    )
    yield near("ring of 16: rho(E[W (x) W])", 0.990581, pairwise_rate(graph("ring", 16)), 1e-6)
    bound = lambda_2(MIXING["pairwise"]().weights(graph("ring", 16)))
    yield near(
        "ring of 16: the bound lambda_2(E[W]), which is no more than that", 0.995242, bound, 1e-6
    )


def _means() -> Iterator[Figure]:
    slow: Table = {"seconds_per_env_step": 1.0}
    for lr, rounds in ((0.0, 40), (0.1, 40)):
        learner: Table = {
            "lr": lr,
            "initial_spread": 1.0,
            "curvature": [1.0, 1.0],
            "spread": 1.0,
            "noise": 0.0,
        }
        record = play(
            16,
            None,
            seed=3,
            stop={"virtual_time": f"{rounds}.9s"},
            learner=learner,
            mixing=PAIRS,
            schedule=FREE,
            compute=slow,
            network=LOSSY,
        )
        expected = trained_mean(
            start(record, 3).mean(axis=0), record.problem["x_star"].mean(axis=0), lr, rounds
        )
        error = float(np.abs(record.parameters.mean(axis=0) - expected).max())
        yield at_least(
            f"lr = {lr:g}: messages lost of {rounds * 16} exchanges",
            100,
            record.summary["messages_dropped"],
        )
        yield at_most(f"lr = {lr:g}: largest deviation of the mean", 1e-12, error)


def trained_mean(x: Array, target: Array, lr: float, rounds: int) -> Array:
    """Return the mean after gradient steps with curvature 1 where exchanges preserve it."""
    return target + (1.0 - lr) ** rounds * (x - target)


LAWS = (
    Law(
        "pairwise_rate",
        "random pairs agree at rho(E[W (x) W]) per exchange",
        "Boyd, Ghosh, Prabhakar, Shah, IEEE Trans. Information Theory 52(6), 2006",
        _rates,
        is_slow=True,
    ),
    Law(
        "pairwise_mean",
        "exchanges in pairs keep the mean under loss, duplicates and training: each happens exactly once",
        "Lian, Zhang, Zhang, Liu, ICML 2018, arXiv 1710.06952",
        _means,
    ),
)
