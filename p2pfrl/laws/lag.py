"""Laws of lazily aggregated gradients: fewer uploads at the same convergence."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from p2pfrl.core.rng import Purpose, generator
from p2pfrl.laws.base import Figure, Law, at_least, at_most, near
from p2pfrl.laws.runs import Table, play
from p2pfrl.learning.learners.base import Task
from p2pfrl.learning.learners.quadratic import Quadratic
from p2pfrl.results.record import Record

AGENTS = 9
_TOLERANCE = 1e-8
_MOST = 45


def learner(growth: float) -> Table:
    """Return nine quadratics with largest curvatures growth^0 to growth^8, condition number 100."""
    return {"dimension": 32, "curvature": [0.01, 1.0], "curvature_growth": growth}


def descent(growth: float, seed: int, rounds: int, *, lazy: bool, dropout: float = 0.0) -> Record:
    """Run gradient descent on the sum with step 1 / L, with all or with lazy gradients."""
    A = (
        Quadratic(dimension=32, curvature=(0.01, 1.0), curvature_growth=growth)
        .prepare(Task(seed, AGENTS))
        .A
    )
    alpha = 1.0 / float(np.linalg.eigvalsh(A.sum(axis=0))[-1])
    coordinator: Table = {
        "aggregator": {"kind": "latest", "reduce": "sum"},
        "server_optimizer": {"kind": "sgd", "lr": alpha},
    }
    return play(
        AGENTS,
        rounds,
        mode="central",
        seed=seed,
        learner=learner(growth),
        exchange={"payload": "gradient"},
        coordinator=coordinator,
        availability={"dropout": dropout},
        gate={"kind": "lag", "alpha": alpha} if lazy else {"kind": "none"},
    )


def uploads(record: Record) -> int:
    """Return the number of gradients that the coordinator received."""
    return int(record.staleness.sum())


def rounds_to(record: Record, seed: int, tolerance: float) -> int:
    """Return the rounds until the objective's relative gap is at most `tolerance`."""
    A, x_star = record.problem["A"], record.problem["x_star"]
    solved = np.linalg.solve(A.sum(axis=0), np.einsum("nij,nj->i", A, x_star))
    (first, least) = (
        0.5 * float(np.einsum("ni,nij,nj->n", x - x_star, A, x - x_star).mean())
        for x in (generator(seed, Purpose.START).standard_normal(A.shape[1]), solved)
    )
    reached = np.flatnonzero(record.metrics["objective"] - least <= tolerance * (first - least))
    return (
        int(record.metrics["round"][reached[0]])
        if len(reached)
        else len(record.metrics["round"]) + 1
    )


def costs(growth: float, seed: int) -> tuple[int, int, int, int]:
    """Return the rounds and uploads of plain and of lazy descent to the tolerance."""
    found: list[int] = []
    for lazy in (False, True):
        rounds = rounds_to(descent(growth, seed, _MOST, lazy=lazy), seed, _TOLERANCE)
        found += [rounds, uploads(descent(growth, seed, rounds, lazy=lazy))]
    return found[0], found[1], found[2], found[3]


def _lag() -> Iterator[Figure]:
    seed = 1
    rounds, sent, lazy_rounds, lazy_sent = costs(4.0, seed)
    yield at_least(f"curvature 4^m, seed {seed}: uploads, plain / lazy", 4.0, sent / lazy_sent)
    yield at_most(f"curvature 4^m, seed {seed}: rounds, lazy / plain", 1.1, lazy_rounds / rounds)
    rounds, sent, lazy_rounds, lazy_sent = costs(1.0, seed)
    yield at_most(f"equal curvature, seed {seed}: uploads, plain / lazy", 2.0, sent / lazy_sent)


def policy_gradients(perturbation: float, seed: int, *, lazy: bool) -> Record:
    """Run 600 rounds of exact policy gradients; ten garnets differ by `perturbation`."""
    alpha = 0.2
    coordinator: Table = {
        "aggregator": {"kind": "latest", "reduce": "sum"},
        "server_optimizer": {"kind": "sgd", "lr": alpha},
    }
    vary = {"perturbation": perturbation, "reward_perturbation": perturbation}
    return play(
        10,
        600,
        mode="central",
        seed=seed,
        learner={"kind": "softmax_pg", "gamma": 0.9},
        environment={"id": "garnet", "states": 10, "actions": 4, "vary": vary, "instances": 1},
        exchange={"payload": "gradient"},
        evaluation={"episodes": 0},
        coordinator=coordinator,
        gate={"kind": "lag", "alpha": alpha} if lazy else {"kind": "none"},
    )


def _lapg() -> Iterator[Figure]:
    for perturbation, seed in ((0.3, 1), (1.0, 1), (1.0, 2)):
        plain, lazy = (policy_gradients(perturbation, seed, lazy=lazy) for lazy in (False, True))
        name = f"garnets that differ by {perturbation}, seed {seed}"
        yield at_least(f"{name}: uploads, plain / lazy", 10.0, uploads(plain) / uploads(lazy))
        ratio = float(lazy.metrics["objective"][-1] / plain.metrics["objective"][-1])
        yield near(f"{name}: final return, lazy / plain", 1.0, ratio, 0.005)


LAWS = (
    Law(
        "lag",
        "lazily aggregated gradients save uploads where curvatures differ, at no cost in rounds",
        "Chen, Giannakis, Sun, Yin, NeurIPS 2018, arXiv 1805.09965; computed",
        _lag,
    ),
    Law(
        "lapg",
        "lazily aggregated policy gradients of unlike agents save uploads, and reach the same return",
        "Chen, Zhang, Giannakis, Basar, IEEE Transactions on Control of Network Systems 9(2), 2022, arXiv 1812.03239",
        _lapg,
        is_slow=True,
    ),
)
