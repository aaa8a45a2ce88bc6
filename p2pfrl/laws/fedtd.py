"""Laws of federated policy evaluation: the bias of local TD steps and the gain of averaging."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from p2pfrl.laws.base import Figure, Law, at_least, at_most, near
from p2pfrl.laws.runs import Array, Table, play_tables
from p2pfrl.results.record import Record

_OPPOSED: Table = {"id": "garnet", "kinds": 2, "opposed": True, "instances": 1}
_ALIKE: Table = {"id": "garnet", "instances": 1}


def _run(
    agents: int, rounds: int, seed: int, environment: Table, correction: str, **learner: object
) -> Record:
    tables: dict[str, Table] = {
        "learner": {"kind": "td", **learner},
        "environment": environment,
        "correction": {"kind": correction},
        "evaluation": {"episodes": 0},
    }
    return play_tables(agents, rounds, tables, mode="central", seed=seed)


def bias(record: Record, lr: float, steps: int) -> Array:
    """Return FedLSA's bias (mean G_i)^-1 mean G_i (theta*_i - theta*), G_i = I - (I - lr A_i)^H."""
    A = record.problem["A_bar"]
    identity = np.eye(A.shape[-1])
    G = identity - np.linalg.matrix_power(identity - lr * A, steps)
    apart = record.problem["theta_star"] - record.problem["optimum"]
    return np.linalg.solve(G.mean(axis=0), np.einsum("nij,nj->i", G, apart) / len(A))


def mean_square(record: Record, skip: int) -> float:
    """Return ||theta - theta*||^2, mean over the rounds after `skip`."""
    return float(np.square(record.metrics["error"][skip:]).mean())


def power(sizes: Sequence[int | float], values: Sequence[float]) -> float:
    """Return the exponent of a power law fitted to `values` at `sizes`."""
    return float(np.polyfit(np.log(sizes), np.log(values), 1)[0])


def _mean_field() -> Iterator[Figure]:
    for agents, steps, lr, seed in ((4, 200, 1.0, 1), (7, 250, 0.8, 2)):
        where = f"n = {agents}, {steps} steps"
        options = {"exact": True, "lr": lr, "steps": steps}
        rounds = round(25 / (0.0011 * lr * steps))
        plain = _run(agents, rounds, seed, _OPPOSED, "none", **options)
        offset = plain.parameters - plain.problem["optimum"]
        yield at_most(
            f"{where}: FedLSA to its fixed point",
            1e-10,
            np.abs(offset - bias(plain, lr, steps)).max(),
        )
        yield at_least(f"{where}: FedLSA to the optimum", 1e-2, np.abs(offset).max())
        corrected = _run(agents, rounds, seed, _OPPOSED, "residual_variate", **options)
        apart = np.abs(corrected.parameters - corrected.problem["optimum"]).max()
        yield at_most(f"{where}: SCAFFLSA to the optimum", 1e-10, float(apart))


def _heterogeneity() -> Iterator[Figure]:
    levels, steps = (0.005, 0.01, 0.02, 0.04), 200
    own, drift = [], []
    for level in levels:
        vary = {"perturbation": level, "reward_perturbation": level}
        environment = {"id": "garnet", "instances": 1, "vary": vary}
        record = _run(8, 60, 3, environment, "none", exact=True, lr=1.0, steps=steps)
        found = record.parameters[0]
        own.append(
            float(np.sqrt(np.square(found - record.problem["theta_star"]).sum(axis=1).mean()))
        )
        drift.append(float(np.linalg.norm(found - record.problem["optimum"])))
    yield near(
        "distance to the agents' own optima, power of the perturbation",
        1.0,
        power(levels, own),
        0.15,
    )
    yield near(
        "distance to the common optimum, power of the perturbation", 2.0, power(levels, drift), 0.3
    )


def _speedup() -> Iterator[Figure]:
    sizes = (1, 4, 16, 64)
    alike = [mean_square(_run(n, 1200, 20, _ALIKE, "none", steps=100), 600) for n in sizes]
    yield near(
        "agents alike, N = 1..64: mean square error, power of N", -0.98, power(sizes, alike), 0.1
    )
    sizes = (2, 8, 32, 128)
    for name, kind, expected in (
        ("FedLSA", "none", -0.71),
        ("SCAFFLSA", "residual_variate", -1.03),
    ):
        runs = [_run(n, 800, 20, _OPPOSED, kind, steps=100) for n in sizes]
        values = [mean_square(record, 300) for record in runs]
        what = f"opposed agents, N = 2..128, 100 steps: {name}, power of N"
        yield near(what, expected, power(sizes, values), 0.1)
        floor = float(np.square(bias(runs[-1], 0.1, 100)).sum())
        yield Figure(
            f"{name} of 128 agents: error over the predicted bias^2",
            "FedLSA above 1",
            values[-1] / floor,
        )


def _many_steps() -> Iterator[Figure]:
    yield from _compare(1, rounds=50, skip=25)


def _compare(seed: int, *, rounds: int, skip: int) -> Iterator[Figure]:
    plain, corrected = (
        _run(10, rounds, seed, _OPPOSED, kind, steps=1000) for kind in ("none", "residual_variate")
    )
    floor = float(np.square(bias(plain, 0.1, 1000)).sum())
    error = mean_square(plain, skip)
    yield near(
        "10 opposed agents, 1000 steps: FedLSA error over its predicted bias^2",
        1.0,
        error / floor,
        0.15,
    )
    yield at_least("FedLSA error over SCAFFLSA error", 20.0, error / mean_square(corrected, skip))


def _given_policy() -> Iterator[Figure]:
    rows = [[0.9, 0.1], [0.2, 0.8], [0.5, 0.5], [0.0, 1.0], [0.7, 0.3]]
    for environment, policy, lr in (
        ({"id": "garnet", "states": 5, "actions": 2}, {"kind": "table", "rows": rows}, 2.0),
        ({"id": "maintenance", "levels": 5}, {"kind": "baseline", "name": "replace_in_time"}, 2.0),
    ):
        options = {"features": 0, "exact": True, "gamma": 0.8, "lr": lr, "steps": 500}
        record = _run(3, 12, 1, environment, "none", **options, policy=policy)
        P, R, pi = (record.problem[name] for name in ("P", "R", "policy"))
        reward, moves = (pi * R).sum(axis=-1), np.matmul(pi[:, :, None, :], P)[:, :, 0]
        moves = moves * ~record.problem["terminal"].astype(bool)[:, None, :]
        value = np.linalg.solve(np.eye(R.shape[1]) - 0.8 * moves, reward[..., None])[..., 0]
        apart = np.abs(record.parameters - value).max()
        yield at_most(f"{environment['id']}, {policy['kind']}: |TD - V|", 1e-10, float(apart))
        uniform = np.linalg.solve(
            np.eye(R.shape[1]) - 0.8 * P.mean(axis=2), R.mean(axis=2)[..., None]
        )[..., 0]
        yield at_least(
            "and from the uniform policy's V", 0.05, float(np.abs(value - uniform).max())
        )


_SOURCE = "Mangold et al., NeurIPS 2024, arXiv 2402.04114"
LAWS = (
    Law(
        "fedlsa_bias",
        "local TD steps end at their closed form, and those of SCAFFLSA at the optimum",
        _SOURCE,
        _mean_field,
    ),
    Law(
        "td_given_policy",
        "tabular TD of a given policy ends at the linear solve of its Bellman equation",
        "Sutton, Machine Learning 3, 1988",
        _given_policy,
    ),
    Law(
        "heterogeneity_error",
        "the distance from the common model to the own optima is proportional to the heterogeneity",
        "Wang et al., 2023, arXiv 2302.02212",
        _heterogeneity,
    ),
    Law(
        "scafflsa_bias",
        "with many local steps FedLSA's error is its bias, and SCAFFLSA has none",
        _SOURCE,
        _many_steps,
    ),
    Law(
        "scafflsa_speedup",
        "the error falls as 1/N: FedLSA's only if agents are alike, SCAFFLSA's always",
        _SOURCE,
        _speedup,
        is_slow=True,
    ),
)
