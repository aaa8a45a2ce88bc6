"""Laws of server steps: their limit under a constant pseudo-gradient, and for stale updates."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import numpy as np

from p2pfrl.laws.base import Figure, Law, near
from p2pfrl.laws.runs import Array, Table, play

_FAR: Table = {"curvature": [1e-6, 1e-6], "spread": 1e9}
"""Optima so far away that displacements, about 1000 lr, are the same in every round."""
_LR = 0.1


def step(rule: Table, round: int, lr: float) -> Array:
    """Return the coordinator's displacement `(d,)` in step `round + 1`, constant gradient."""
    run = partial(
        play, 3, mode="central", learner={**_FAR, "lr": lr}, exchange={"payload": "delta"}
    )
    after, before = (
        run(rounds, coordinator={"server_optimizer": rule}).parameters[0]
        for rounds in (round + 1, round)
    )
    return np.asarray(after - before)


def _fedopt() -> Iterator[Figure]:
    for kind, beta2, rounds, tolerance in (("adam", 0.9, 70, 1e-3), ("yogi", 0.99, 150, 0.01)):
        size = np.abs(step({"kind": kind, "lr": _LR, "beta2": beta2}, rounds, 1.0)) / _LR
        yield near(f"{kind}: largest |step| / lr in the end", 1.0, float(size.max()), tolerance)
        yield near(f"{kind}: smallest |step| / lr in the end", 1.0, float(size.min()), tolerance)
    for rounds in (3, 49):
        size = np.abs(step({"kind": "adagrad", "lr": _LR}, rounds, 1.0)) * np.sqrt(rounds + 1) / _LR
        yield near(
            f"adagrad: largest |step| sqrt(t) / lr at t = {rounds + 1}",
            1.0,
            float(size.max()),
            1e-4,
        )
        yield near(
            f"adagrad: smallest |step| sqrt(t) / lr at t = {rounds + 1}",
            1.0,
            float(size.min()),
            1e-4,
        )


def _fedavgm() -> Iterator[Figure]:
    plain = step({"kind": "replace"}, 1, 1e-5)
    for beta, gain, rounds in ((0.9, 10.0, 150), (0.5, 2.0, 30)):
        ratio = step({"kind": "momentum", "beta": beta}, rounds, 1e-5) / plain
        worst = float(ratio[np.argmax(np.abs(ratio - gain))])
        yield near(
            f"beta = {beta}: step with momentum / without, in the end", gain, worst, 1e-6 * gain
        )


def _rest(staleness: Table, agents: int) -> float:
    """Return the remaining part of the way to x_0 / 2 after one update of each agent from x_0.

    The updates are applied one by one, and the k-th is k - 1 models old. Every agent's model is x_0
    / 2, so each update covers alpha s of the remaining way.
    """
    learner: Table = {"curvature": [1.0, 1.0], "spread": 0.0, "lr": 0.5}
    run = partial(play, agents, 1, mode="central", learner=learner, network={"latency": "1s"})
    after = run(
        schedule={"kind": "asynchronous", "staleness": staleness},
        coordinator={"server_optimizer": {"kind": "staleness_mix", "alpha": 0.6}},
    )
    goal = run().parameters[0]  # the result of a synchronous round: all of the way
    return float(np.linalg.norm(after.parameters[0] - goal) / np.linalg.norm(goal))


_FACTORS: tuple[tuple[Table, dict[int, float]], ...] = (
    ({"kind": "polynomial", "power": 0.5}, {0: 1.0, 1: 0.7071, 4: 0.4472, 9: 0.3162}),
    ({"kind": "hinge", "slope": 10.0, "grace": 4}, {4: 1.0, 5: 0.0909, 9: 0.0196}),
)


def _fedasync() -> Iterator[Figure]:
    for staleness, factors in _FACTORS:
        for tau, factor in factors.items():
            before = _rest(staleness, tau) if tau else 1.0
            measured = (1.0 - _rest(staleness, tau + 1) / before) / 0.6
            yield near(f"{staleness['kind']}: s({tau})", factor, measured, 5.1e-5, digits=4)


LAWS = (
    Law(
        "fedopt",
        "a constant pseudo-gradient moves every coordinate by lr (Adam, Yogi) and by lr / sqrt(t) (Adagrad)",
        "Reddi et al., ICLR 2021, arXiv 2003.00295",
        _fedopt,
    ),
    Law(
        "fedavgm",
        "momentum multiplies a constant pseudo-gradient by 1 / (1 - beta)",
        "Hsu, Qi, Brown, 2019, arXiv 1909.06335",
        _fedavgm,
    ),
    Law(
        "fedasync",
        "an update that is tau models old moves the coordinator alpha s(tau) of the way",
        "Xie, Koyejo, Gupta, OPT 2020, arXiv 1903.03934",
        _fedasync,
    ),
)
