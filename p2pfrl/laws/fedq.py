"""Laws of federated Q-learning: the gain of averaging, and weighting by visits."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from p2pfrl.laws.base import Figure, Law, at_least, at_most, near
from p2pfrl.laws.fedtd import power
from p2pfrl.laws.runs import Table, play_tables
from p2pfrl.results.record import Record

_DENSE: Table = {"id": "garnet", "states": 20, "actions": 4, "branching": 20, "instances": 1}
_HALVES: Table = {"kind": "given", "policies": [[0.5, 0.5, 0.0, 0.0], [0.0, 0.0, 0.5, 0.5]]}
_GAMMA, _RATE = 0.8, 0.05


def _run(
    agents: int,
    rounds: int,
    environment: Table,
    exchange: Table,
    coordinator: Table,
    seed: int = 1,
    **learner: object,
) -> Record:
    tables: dict[str, Table] = {
        "learner": {"kind": "tabular_q", "gamma": _GAMMA, "lr": _RATE, **learner},
        "environment": environment,
        "exchange": exchange,
        "coordinator": coordinator,
        "evaluation": {"episodes": 0},
    }
    return play_tables(agents, rounds, tables, mode="central", seed=seed)


def _speedup() -> Iterator[Figure]:
    sizes = (1, 4, 16, 64)
    for steps, rounds in ((1, 2000), (50, 60)):
        errors = []
        for agents in sizes:
            error = _run(agents, rounds, _DENSE, {}, {}, steps=steps).metrics["error"]
            errors.append(float(np.square(error[len(error) // 2 :]).mean()) / 80)
        exponent = power(sizes, errors)
        if steps == 1:
            yield near(
                "1 step per round, N = 1..64: mean square error, power of N", -1.0, exponent, 0.1
            )
        else:
            yield at_least(f"{steps} steps per round: power of N, flatter", -0.88, exponent)


def _coverage() -> Iterator[Figure]:
    environment: Table = {
        "id": "garnet",
        "states": 10,
        "actions": 4,
        "branching": 10,
        "instances": 16,
    }
    agents, seed = 4, 1
    plain = _run(agents, 12, environment, {}, {}, seed, behavior=_HALVES, steps=100)
    importance: Table = {"aggregator": {"kind": "importance"}}
    table = _run(
        agents,
        12,
        environment,
        {"payload": "table"},
        importance,
        seed,
        behavior=_HALVES,
        steps=100,
    )
    reached = float(table.metrics["error"][-1])
    yield at_most(
        f"{agents} agents, importance averaging: distance to Q* after 12 rounds", 0.2, reached
    )
    diluted = float(plain.metrics["error"][-1])
    yield at_least(
        f"{agents} agents, plain averaging: that distance, times as far", 5.0, diluted / reached
    )


LAWS = (
    Law(
        "fedq_speedup",
        "the error of Q-learning averaged every step falls as 1/N; with local steps the maximum's bias stays",
        "Woo, Joshi, Chi, ICML 2023, arXiv 2305.10697",
        _speedup,
        is_slow=True,
    ),
    Law(
        "importance_averaging",
        "agents that see disjoint halves of the table find Q* by importance averaging; plain averaging dilutes it",
        "Woo, Joshi, Chi, ICML 2023, arXiv 2305.10697",
        _coverage,
    ),
)
