"""Laws of client drift: the bias of local steps on unlike objectives, and its corrections."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from p2pfrl.laws.base import Figure, Law, at_least, at_most
from p2pfrl.laws.runs import Array, Table, play_tables
from p2pfrl.results.record import Record

_INSTANCES = ((8, 5, 10, 0.05, 1), (6, 9, 4, 0.08, 2), (4, 3, 25, 0.02, 3))
"""Agents, dimension, local steps, learning rate, seed."""
_MU = 0.5


def _run(
    instance: tuple[int, int, int, float, int],
    rounds: int,
    correction: Table,
    coordinator: Table | None = None,
) -> Record:
    agents, dimension, steps, lr, seed = instance
    learner = {"dimension": dimension, "steps": steps, "lr": lr}
    tables = {"learner": learner, "correction": correction, "coordinator": coordinator or {}}
    return play_tables(agents, rounds, tables, mode="central", seed=seed)


def optimum(record: Record) -> Array:
    """Return (sum A_i)^-1 sum A_i x*_i."""
    A, x_star = record.problem["A"], record.problem["x_star"]
    return np.linalg.solve(A.sum(axis=0), np.einsum("nij,nj->i", A, x_star))


def fedavg_point(record: Record, lr: float, steps: int) -> Array:
    """Return FedAvg's fixed point (sum G_i)^-1 sum G_i x*_i with G_i = I - (I - lr A_i)^steps."""
    A, x_star = record.problem["A"], record.problem["x_star"]
    identity = np.eye(A.shape[-1])
    G = identity - np.linalg.matrix_power(identity - lr * A, steps)
    return np.linalg.solve(G.sum(axis=0), np.einsum("nij,nj->i", G, x_star))


def fedprox_point(record: Record, mu: float) -> Array:
    """Return exact FedProx's fixed point, with P_i = (A_i + mu I)^-1."""
    A, x_star = record.problem["A"], record.problem["x_star"]
    identity = np.eye(A.shape[-1])
    P = np.linalg.inv(A + mu * identity)
    right = np.einsum("nij,njk,nk->i", P, A, x_star) / len(A)
    return np.linalg.solve(identity - mu * P.mean(axis=0), right)


def _distance(record: Record, point: Array) -> float:
    return float(np.abs(record.parameters - point).max())


def _drift() -> Iterator[Figure]:
    for instance in _INSTANCES:
        agents, dimension, steps, lr, _ = instance
        where = f"n = {agents}, d = {dimension}, {steps} steps"
        plain = _run(instance, 80, {"kind": "none"})
        yield at_most(
            f"{where}: FedAvg to its fixed point",
            1e-10,
            _distance(plain, fedavg_point(plain, lr, steps)),
        )
        yield at_least(f"{where}: FedAvg to the optimum", 1e-2, _distance(plain, optimum(plain)))
        same = _run(instance, 80, {"kind": "prox", "mu": 0.0})
        yield at_most(
            f"{where}: FedProx with mu = 0 to FedAvg",
            0.0,
            float(np.abs(same.parameters - plain.parameters).max()),
        )
        solved = (agents, dimension, 200, 0.1, instance[-1])
        prox = _run(solved, 20, {"kind": "prox", "mu": _MU})
        yield at_most(
            f"{where}: FedProx, solved locally, to its fixed point",
            1e-10,
            _distance(prox, fedprox_point(prox, _MU)),
        )
        yield at_least(f"{where}: FedProx to the optimum", 1e-2, _distance(prox, optimum(prox)))


def _corrected() -> Iterator[Figure]:
    for instance in _INSTANCES:
        agents, dimension, steps, *_ = instance
        where = f"n = {agents}, d = {dimension}, {steps} steps"
        scaffold = _run(instance, 100, {"kind": "control_variate"})
        yield at_most(
            f"{where}: SCAFFOLD to the optimum, 100 rounds",
            1e-10,
            _distance(scaffold, optimum(scaffold)),
        )
        early = [
            _run(instance, 20, {"kind": kind}) for kind in ("control_variate", "residual_variate")
        ]
        apart = float(np.abs(early[0].parameters - early[1].parameters).max())
        yield at_most(f"{where}: SCAFFOLD to SCAFFLSA, 20 rounds", 1e-11, apart)
        yield at_least(
            f"{where}: SCAFFOLD to the optimum, 20 rounds",
            1e-10,
            _distance(early[0], optimum(early[0])),
        )
        half: Table = {"participation": {"kind": "uniform", "fraction": 0.5}}
        partial = _run(instance, 250, {"kind": "control_variate"}, coordinator=half)
        yield at_most(
            f"{where}: SCAFFOLD, half take part, 250 rounds",
            1e-10,
            _distance(partial, optimum(partial)),
        )


LAWS = (
    Law(
        "client_drift",
        "FedAvg and FedProx end at their closed forms, not at the optimum; FedProx with mu = 0 is FedAvg",
        "McMahan et al., AISTATS 2017; Li et al., MLSys 2020, arXiv 1812.06127",
        _drift,
    ),
    Law(
        "control_variates",
        "SCAFFOLD ends at the optimum, and SCAFFLSA follows the same path",
        "Karimireddy et al., ICML 2020, arXiv 1910.06378; Mangold et al., NeurIPS 2024, arXiv 2402.04114",
        _corrected,
    ),
)
