"""Law of delay: x_{k+1} = x_k - lr a x_{k-tau} is stable for lr a < 2 sin(pi / (4 tau + 2)).

A coordinator applies every arriving difference at once (`delta`, `replace`, staleness constant).
There are n = tau + 1 agents on links with equal latency, which is long compared to transmission. So
updates arrive in the order of the ids, and when one arrives, exactly the n - 1 others have been
applied since its start.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from p2pfrl.consensus.theory import delay_threshold
from p2pfrl.laws.base import Figure, Law, at_least, at_most
from p2pfrl.laws.runs import Array, play
from p2pfrl.results.record import Record

_WORLDS = ((1.0, "1s", "1s"), (4.0, "50ms", "20ms"), (0.3, "30s", "40s"))
"""(curvature, latency, seconds per update)"""


def delayed(tau: int, part: float) -> tuple[Record, Array, float]:
    """Return a run of tau + 1 agents at lr a = `part` of the threshold, its start, and lr a."""
    from p2pfrl.core.rng import Purpose, generator

    curvature, latency, per_step = _WORLDS[tau % 3]
    updates, n, product = 300 + 250 * tau, tau + 1, part * delay_threshold(tau)
    run = play(
        n,
        -(-updates // n),
        mode="central",
        seed=tau,
        exchange={"payload": "delta"},
        learner={
            "dimension": 3,
            "curvature": [curvature] * 2,
            "spread": 0.0,
            "lr": product / curvature,
        },
        schedule={"kind": "asynchronous", "staleness": {"kind": "constant"}},
        network={"latency": latency},
        compute={"seconds_per_env_step": per_step},
    )
    return run, generator(tau, Purpose.START).standard_normal(3), product


def growth(run: Record, start: Array) -> float:
    """Return ||x|| at the end over ||x|| at the start."""
    return float(np.linalg.norm(run.parameters[0]) / np.linalg.norm(start))


def _threshold() -> Iterator[Figure]:
    for tau in (0, 1, 2, 5):
        run, start, _ = delayed(tau, 0.95)
        yield at_most(
            f"tau = {tau}, 0.95 of the threshold: ||x|| at the end / at the start",
            1e-3,
            growth(run, start),
        )
        run, start, _ = delayed(tau, 1.05)
        yield at_least(
            f"tau = {tau}, 1.05 of the threshold: ||x|| at the end / at the start",
            1e3,
            growth(run, start),
        )


LAWS = (
    Law(
        "delay",
        "updates with staleness tau are stable up to lr a = 2 sin(pi / (2 (2 tau + 1))), and not above",
        "Levin, May, Theoretical Population Biology 9, 1976",
        _threshold,
    ),
)
