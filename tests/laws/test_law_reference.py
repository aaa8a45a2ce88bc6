"""A fault-free synchronous run equals a plain numpy loop bit for bit, whatever the timing."""

from __future__ import annotations

import numpy as np
import pytest

from p2pfrl.laws.runs import Array, play, start

RING = {i: ((i - 1) % 9, (i + 1) % 9) for i in range(9)}
STAR = {i: tuple(range(1, 7)) if i == 0 else (0,) for i in range(7)}
GRID = {
    i: tuple(j for j in range(12) if abs(i // 4 - j // 4) + abs(i % 4 - j % 4) == 1)
    for i in range(12)
}
TREE = {
    i: tuple(j for j in range(10) if (j > 0 and (j - 1) // 2 == i) or (i > 0 and (i - 1) // 2 == j))
    for i in range(10)
}
DIRECTED = {i: ((i - 1) % 8,) for i in range(8)}
TIMINGS = [
    {},
    {
        "network": {
            "latency": {"kind": "lognormal", "median": "20ms", "sigma": 1.0},
            "jitter": "50ms",
        },
        "compute": {
            "seconds_per_env_step": "5ms",
            "speed": {"kind": "lognormal", "median": 1.0, "sigma": 1.0},
        },
    },
]


def metropolis(heard: dict[int, tuple[int, ...]]) -> list[dict[int, float]]:
    """Return w_ij = 1 / (1 + max(d_i, d_j)), w_ii = 1 - the sum of the others.

    Rows are in ascending order.
    """
    rows = []
    for i, others in heard.items():
        row = {j: 1.0 / (1 + max(len(others), len(heard[j]))) for j in sorted(others)}
        row[i] = 1.0 - sum(row.values())
        rows.append(dict(sorted(row.items())))
    return rows


def uniform(heard: dict[int, tuple[int, ...]]) -> list[dict[int, float]]:
    """Return 1 / (1 + d_i) for oneself and everyone who is heard."""
    return [
        {j: 1.0 / (1 + len(others)) for j in sorted((i, *others))} for i, others in heard.items()
    ]


def reference(
    x: Array,
    A: Array,
    x_star: Array,
    rows: list[dict[int, float]],
    order: str,
    lr: float,
    rounds: int,
    updates: int,
) -> Array:
    """Return the parameters `(n, d)` after `rounds` rounds of D-PSGD.

    Sums are in ascending order of ids.
    """
    n = len(x)
    for _ in range(rounds):
        begun, trained = x.copy(), x.copy()
        for i in range(n):
            for _ in range(updates):
                trained[i] = trained[i] - lr * (A[i] @ (trained[i] - x_star[i]))
        sent = trained if order == "adapt_then_combine" else begun
        x = np.empty_like(sent)
        for i, row in enumerate(rows):
            total: Array | None = None
            for j, weight in row.items():
                total = weight * sent[j] if total is None else total + weight * sent[j]
            x[i] = total if order == "adapt_then_combine" else total + (trained[i] - begun[i])
    return x


@pytest.mark.parametrize("timing", TIMINGS)
@pytest.mark.parametrize("order", ["adapt_then_combine", "combine_while_adapting"])
@pytest.mark.parametrize(
    ("kind", "heard", "every", "steps"),
    [
        ("ring", RING, 1, 1),
        ("star", STAR, 3, 1),
        ("grid", GRID, 1, 2),
        ("tree", TREE, 3, 2),
        ("directed_ring", DIRECTED, 1, 1),
    ],
)
def test_a_fault_free_run_is_the_plain_reference(
    kind: str,
    heard: dict[int, tuple[int, ...]],
    every: int,
    steps: int,
    order: str,
    timing: dict[str, dict[str, object]],
) -> None:
    n, rounds, lr = len(heard), 20, 0.03
    directed = kind == "directed_ring"
    run = play(
        n,
        rounds,
        seed=5,
        learner={"lr": lr, "steps": steps, "initial_spread": 1.0},
        topology={"kind": kind},
        mixing={"kind": "uniform" if directed else "metropolis"},
        exchange={"order": order},
        schedule={"every": every, "deadline": "1h"},
        **timing,
    )
    assert (
        run.summary["deadlines_expired"]
        == run.summary["messages_dropped"]
        == run.summary["messages_late"]
        == 0
    )
    rows = uniform(heard) if directed else metropolis(heard)
    begin, A, x_star = start(run, 5), run.problem["A"], run.problem["x_star"]
    expected = reference(begin, A, x_star, rows, order, lr, rounds, every * steps)
    np.testing.assert_array_equal(run.parameters, expected)


@pytest.mark.parametrize("order", ["adapt_then_combine", "combine_while_adapting"])
def test_timing_changes_when_but_not_what(order: str) -> None:
    runs = [
        play(
            9,
            15,
            learner={"noise": 1.0},
            exchange={"order": order},
            schedule={"deadline": "1h"},
            **t,
        )
        for t in TIMINGS
    ]
    np.testing.assert_array_equal(runs[0].parameters, runs[1].parameters)
    assert runs[0].summary["digest"] != runs[1].summary["digest"]
    assert runs[0].summary["virtual_seconds"] < runs[1].summary["virtual_seconds"]
