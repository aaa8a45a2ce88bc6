"""Laws of personal models: fixed points of Ditto, APFL and MAML, and personal parts."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from p2pfrl.core.parameters import Vector
from p2pfrl.laws.base import Figure, Law, at_least, at_most, near
from p2pfrl.laws.runs import Array, Table, play_tables, start
from p2pfrl.results.record import Record

_INSTANCES = ((6, 4, 20, 0.05, 1), (9, 7, 35, 0.04, 2))
"""Agents, dimension, local steps, learning rate, seed."""
_ALPHA, _STIFF = 0.06, 300.0


def _run(
    instance: tuple[int, int, int, float, int], rounds: int, personal: Table, **learner: object
) -> Record:
    agents, dimension, steps, lr, seed = instance
    options: Table = {"dimension": dimension, "steps": steps, "lr": lr, **learner}
    more: dict[str, Table] = {"learner": options, "personal": personal}
    return play_tables(agents, rounds, more, mode="central", seed=seed)


def halves(record: Record) -> tuple[Array, Array]:
    """Return the shared and the personal half of the final parameters."""
    d = record.parameters.shape[1] // 2
    return record.parameters[:, :d].astype(np.float64), record.parameters[:, d:].astype(np.float64)


def ditto_point(record: Record, theta: Array, pull: float) -> Array:
    """Return (A_i + lambda I)^-1 (A_i x*_i + lambda theta) of every agent."""
    A, x_star = record.problem["A"], record.problem["x_star"]
    right = np.einsum("nij,nj->ni", A, x_star) + pull * theta
    return np.linalg.solve(A + pull * np.eye(A.shape[-1]), right[..., None])[..., 0]


def maml_point(record: Record, alpha: float, order: str) -> Array:
    """Return (sum W_i)^-1 sum W_i x*_i, the fixed point of FedAvg with one MAML step per round."""
    A, x_star = record.problem["A"], record.problem["x_star"]
    ahead = np.eye(A.shape[-1]) - alpha * A
    W = A @ ahead if order == "first" else ahead @ A @ ahead
    return np.linalg.solve(W.sum(axis=0), np.einsum("nij,nj->i", W, x_star))


def apfl_twin(
    record: Record, start: Array, rounds: int, lr: float, steps: int, alpha: float
) -> Array:
    """Return APFL's personal models under FedAvg, computed independently."""
    A, x_star = record.problem["A"], record.problem["x_star"]

    def update(x: Array) -> Array:
        for _ in range(steps):
            x = x - lr * np.einsum("nij,nj->ni", A, x - x_star)
        return x

    theta = np.broadcast_to(start, x_star.shape).astype(np.float64)
    v = theta.copy()
    for _ in range(rounds):
        mixture = alpha * v + (1 - alpha) * theta
        v = v + alpha * (update(mixture) - mixture)
        theta = np.broadcast_to(update(theta).mean(axis=0), theta.shape)
    return v


def _apart(found: Vector, expected: Vector) -> float:
    return float(np.abs(found - expected).max())


def _share(part: Array, whole: Array) -> float:
    return float(np.linalg.norm(part) / np.linalg.norm(whole))


def _ditto() -> Iterator[Figure]:
    for instance in _INSTANCES:
        where = f"n = {instance[0]}, d = {instance[1]}"
        for pull in (0.3, 2.0):
            record = _run(instance, 40, {"kind": "ditto", "lambda": pull})
            theta, own = halves(record)
            away = _apart(own, ditto_point(record, theta, pull))
            yield at_most(f"{where}, lambda = {pull}: to the closed form", 1e-8, away)
        plain = _run(instance, 40, {"kind": "none"})
        yield at_most(
            f"{where}: the shared model to that without Ditto", 0.0, _apart(theta, plain.parameters)
        )
        record = _run(instance, 40, {"kind": "ditto", "lambda": 1e-12})
        away = _apart(halves(record)[1], record.problem["x_star"])
        yield at_most(f"{where}, lambda -> 0: to the local optimum", 1e-8, away)
        theta, own = halves(
            _run(instance, 150, {"kind": "ditto", "lambda": _STIFF}, lr=1.5 / _STIFF)
        )
        tension, apart = _STIFF * (own - theta), record.problem["x_star"] - theta
        force = np.einsum("nij,nj->ni", record.problem["A"], apart)
        stiff = f"{where}, lambda = {_STIFF:g}"
        yield at_most(
            f"{stiff}: to theta, of the local optimum's distance", 0.04, _share(own - theta, apart)
        )
        yield at_most(
            f"{stiff}: lambda (v - theta) to A_i (x*_i - theta)",
            0.04,
            _share(tension - force, force),
        )


def _apfl() -> Iterator[Figure]:
    for instance in _INSTANCES:
        agents, dimension, steps, lr, seed = instance
        where = f"n = {agents}, d = {dimension}"
        for alpha in (0.3, 0.8):
            record = _run(instance, 15, {"kind": "apfl", "alpha": alpha}, lr=lr / 4)
            first = start(record, seed, 0.0, dimension)
            twin = apfl_twin(record, first[0], 15, lr / 4, steps, alpha)
            away = _apart(halves(record)[1], twin)
            yield at_most(f"{where}, alpha = {alpha}: 15 rounds to the equations anew", 1e-10, away)
        record = _run(instance, 150, {"kind": "apfl", "alpha": 0.5})
        theta, v = halves(record)
        mixture = 0.5 * v + 0.5 * theta
        yield at_most(
            f"{where}: the mixture to the local optimum",
            1e-8,
            _apart(mixture, record.problem["x_star"]),
        )
        record = _run(instance, 20, {"kind": "apfl", "alpha": 0.0})
        theta, v = halves(record)
        yield at_least(
            f"{where}, alpha = 0: v stays where it began, apart from theta by",
            1e-2,
            _apart(v, theta),
        )


def _maml() -> Iterator[Figure]:
    for (agents, dimension, _, lr, seed), order in zip(
        _INSTANCES, ("hessian_free", "first"), strict=True
    ):
        where = f"n = {agents}, d = {dimension}"
        more: dict[str, Table] = {
            "learner": {"dimension": dimension, "lr": lr},
            "correction": {"kind": "maml", "alpha": _ALPHA, "order": order},
        }
        record = play_tables(agents, 290, more, mode="central", seed=seed)
        point, other = (
            maml_point(record, _ALPHA, name)
            for name in (order, "first" if order == "hessian_free" else "hessian_free")
        )
        yield at_most(
            f"{where}, {order}: to its fixed point", 1e-8, _apart(record.parameters, point)
        )
        yield at_least(
            f"{where}, {order}: to that of the other order", 1e-3, _apart(record.parameters, other)
        )


def _cartpole(mode: str, rounds: int, exchange: Table) -> Record:
    tables: dict[str, Table] = {
        "environment": {"id": "CartPole-v1", "instances": 2},
        "learner": {"kind": "ppo", "steps": 16, "hidden": [16]},
        "evaluation": {"episodes": 0},
        "exchange": exchange,
    }
    return play_tables(4, rounds, tables, mode=mode, seed=1)


def _fedper() -> Iterator[Figure]:
    shared: Table = {"shared": ["critic"]}
    both, part = _cartpole("central", 3, {}), _cartpole("central", 3, shared)
    travels = np.array([name == "critic" for name in parts(part)])
    saved = (float(both.summary["bytes_sent"]) - float(part.summary["bytes_sent"])) / part.summary[
        "messages_sent"
    ]
    name = 12.0  # bytes of the personal part's name in the header, and digits of a length
    yield near(
        "bytes saved per message, of 4 per personal number",
        4.0 * float((~travels).sum()),
        saved,
        name,
    )
    yield at_most("apart between agents: what travels", 0.0, _spread(part, travels))
    yield at_least("apart between agents: what is personal", 1e-3, _spread(part, ~travels))
    first, alone = (
        _cartpole("central", 1, shared).parameters,
        _cartpole("independent", 1, {}).parameters,
    )
    yield at_most(
        "from an agent alone after a round: what is personal",
        0.0,
        _apart(first[:, ~travels], alone[:, ~travels]),
    )
    yield at_least(
        "from an agent alone after a round: what travels",
        1e-5,
        _apart(first[:, travels], alone[:, travels]),
    )


def _spread(record: Record, columns: NDArray[np.bool_]) -> float:
    return float(np.ptp(record.parameters[:, columns], axis=0).max())


def parts(record: Record) -> list[str]:
    """Return the name of the part that each number belongs to."""
    return [
        name.partition(".")[0] for name, shape in record.layout for _ in range(int(np.prod(shape)))
    ]


LAWS = (
    Law(
        "ditto",
        "Ditto's personal models end at (A_i + lambda I)^-1 (A_i x*_i + lambda theta); theta is that of FedAvg",
        "Li, Hu, Beirami, Smith, ICML 2021, arXiv 2012.04221",
        _ditto,
    ),
    Law(
        "apfl",
        "APFL's personal models follow their equations, and their mixtures end at the local optima",
        "Deng, Kamani, Mahdavi, 2020, arXiv 2003.13461",
        _apfl,
    ),
    Law(
        "maml",
        "Per-FedAvg ends at (sum W_i)^-1 sum W_i x*_i: W_i = A_i (I - alpha A_i) to first order, else MAML's",
        "Fallah, Mokhtari, Ozdaglar, NeurIPS 2020, arXiv 2002.07948",
        _maml,
    ),
    Law(
        "fedper",
        "personal parts never travel: their bytes are saved, and mixing does not change a bit of them",
        "Arivazhagan, Aggarwal, Singh, Choudhary, 2019, arXiv 1912.00818",
        _fedper,
    ),
)
