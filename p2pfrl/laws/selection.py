"""Laws of participation: unbiased choices of agents, and their error."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from p2pfrl.laws.base import Figure, Law, at_least, at_most
from p2pfrl.laws.runs import Array, Table, play

_FAR: Table = {"curvature": [1e-6, 1e-6], "spread": 1e9, "lr": 1e-3}
"""Optima so far away that an agent's displacement, about 1, is the same in every round."""
_AGENTS, _ROUNDS = 10, 100


def moved(rule: Table, rounds: int, seed: int) -> tuple[Array, Array]:
    """Return the coordinator's mean move per round `(d,)`, and the agents' moves `(n, d)`."""
    run = play(
        _AGENTS,
        rounds,
        mode="central",
        seed=seed,
        learner=_FAR,
        exchange={"payload": "delta"},
        coordinator={"participation": rule},
    )
    before = play(_AGENTS, 1, mode="independent", seed=seed, learner={**_FAR, "lr": 0.0}).parameters
    own = play(_AGENTS, 1, mode="independent", seed=seed, learner=_FAR).parameters - before
    return (run.parameters[0] - before[0]) / rounds, own


def _unbiased() -> Iterator[Figure]:
    for rule in ({"kind": "uniform", "fraction": 0.3}, {"kind": "weighted", "fraction": 0.3}):
        mean, own = moved(rule, _ROUNDS, seed=1)
        deviation = own.std(axis=0) * np.sqrt(
            (1.0 / 3.0) * (7.0 / 9.0 if rule["kind"] == "uniform" else 1.0) / _ROUNDS
        )
        errors = (mean - own.mean(axis=0)) / deviation
        what = f"{rule['kind']}, 3 of 10: error of the mean move in standard deviations"
        yield at_most(f"{what}, largest of 8 coordinates", 4.0, float(np.abs(errors).max()))
        yield at_least(f"{what}, rms", 0.3, float(np.sqrt(np.mean(errors**2))))
    mean, own = moved({"kind": "round_robin", "fraction": 0.5}, 40, seed=1)
    apart = float(np.abs(mean - own.mean(axis=0)).max())
    yield at_most("round_robin, 5 of 10, 40 rounds: error of the mean move", 1e-6, apart)
    mean, own = moved({"kind": "power_of_choice", "fraction": 0.3, "candidates": 10}, 40, seed=1)
    apart = float(np.abs(mean - own.mean(axis=0)).max())
    yield at_least("power_of_choice, the 3 of the highest loss: error of the mean move", 0.1, apart)


def _preferred() -> Iterator[Figure]:
    agents, lr = 5, 0.05
    learner: Table = {"dimension": 1, "curvature": [1.0, 1.0], "spread": 1.0, "lr": lr}
    worst = {"aggregator": {"kind": "preferred", "by": "loss", "fraction": 1 / agents}}
    run = play(agents, 250, mode="central", learner=learner, coordinator=worst)
    optima = run.problem["x_star"][:, 0]
    low, high = float(optima.min()), float(optima.max())
    middle, reach = (low + high) / 2.0, lr * (1.0 + lr) * (high - low) / 2.0
    found = abs(float(run.parameters[0, 0]) - middle)
    yield at_most("only the highest loss: distance from the minimax point", reach, found)
    other = abs(float(optima.mean()) - middle)
    yield at_least("the mean of all: distance from the minimax point", 2.0 * reach, other)


LAWS = (
    Law(
        "participation",
        "uniform and weighted choices move the coordinator as all agents do, on average; the worst agents do not",
        "Li et al., ICLR 2020, arXiv 1907.02189; Cho et al., AISTATS 2022, arXiv 2010.01243",
        _unbiased,
    ),
    Law(
        "preferred",
        "the update of the highest loss alone leads to the minimax point, within the length of a step",
        "Laguel, Pillutla, Malick, Harchaoui, CISS 2021, arXiv 2112.09429",
        _preferred,
    ),
)
