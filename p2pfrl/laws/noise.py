"""Law of the noise floor: D-PSGD's stationary consensus distance under gradient noise."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from p2pfrl.laws.base import Figure, Law, near
from p2pfrl.laws.runs import Table, play

_FLOORS = {"adapt_then_combine": 0.2355, "combine_while_adapting": 0.3855}


def energy(
    agents: int,
    lr: float,
    sigma: float,
    order: str,
    *,
    topology: Table,
    curvature: float = 1e-12,
    seed: int = 1,
    width: int = 1024,
    rounds: tuple[int, int] = (70, 150),
) -> float:
    """Return sum_i ||x_i - mean||^2 / d, mean over some rounds, on equal quadratics."""
    run = play(
        agents,
        rounds[1],
        seed=seed,
        topology=topology,
        exchange={"order": order},
        learner={
            "dimension": width,
            "curvature": [curvature] * 2,
            "spread": 0.0,
            "noise": sigma,
            "lr": lr,
        },
    )
    return float(np.mean(agents * run.metrics["consensus_distance"][rounds[0] :] ** 2 / width))


def _floor() -> Iterator[Figure]:
    for order, floor in _FLOORS.items():
        measured = energy(16, 0.1, 1.0, order, topology={"kind": "ring"})
        yield near(
            f"ring of 16, lr = 0.1, {order}: sum_i ||x_i - mean||^2 / d",
            floor,
            measured,
            0.03 * floor,
        )


def _precise() -> Iterator[Figure]:
    for order, floor in _FLOORS.items():
        measured = energy(
            16, 0.1, 1.0, order, topology={"kind": "ring"}, seed=7, width=8192, rounds=(150, 450)
        )
        yield near(
            f"ring of 16, lr = 0.1, {order}: sum_i ||x_i - mean||^2 / d",
            floor,
            measured,
            0.01 * floor,
        )


LAWS = (
    Law(
        "noise_floor",
        "noise keeps agents apart: lr^2 sigma^2 sum l_k^2 / (1 - l_k^2), or sum 1 / (1 - l_k^2) if mixing comes first",
        "Lian et al., NeurIPS 2017, arXiv 1705.09056",
        _floor,
    ),
    Law(
        "noise_floor_precise",
        "the same noise floor, to one percent",
        "Lian et al., NeurIPS 2017, arXiv 1705.09056",
        _precise,
        is_slow=True,
    ),
)
