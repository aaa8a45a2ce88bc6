"""Laws of push-sum: the exact mean on directed graphs, with mass conserved under loss."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from p2pfrl.consensus.mixing import RULES
from p2pfrl.consensus.mixing.push_sum import PushSum
from p2pfrl.consensus.theory import matrix
from p2pfrl.consensus.topologies import RULES as TOPOLOGIES
from p2pfrl.laws.base import Figure, Law, at_most, near
from p2pfrl.laws.runs import FLAT, Array, Table, play, start
from p2pfrl.laws.watch import Call, watched
from p2pfrl.results.record import Record

ONE_WAY: Table = {"kind": "file", "path": "one_way_12.graphml"}
"""Directed graph of twelve agents with in-degrees and out-degrees from 1 to 3."""
ROUGH: Table = {"loss": 0.2, "duplicate": 0.2, "jitter": "5ms"}
"""Network that loses, repeats and reorders messages."""


def _limits(seed: int) -> tuple[Array, Array]:
    """Return the limits of row-stochastic averaging and undivided x, per unit of start."""
    graph = TOPOLOGIES["file"](path="one_way_12.graphml").at(12, seed, 0)  # type: ignore[call-arg]  # the family's own
    averaging, giving = (matrix(RULES[kind]().weights(graph)) for kind in ("uniform", "push_sum"))
    return np.linalg.matrix_power(averaging, 4096), np.linalg.matrix_power(giving, 4096)


def _directed() -> Iterator[Figure]:
    for seed in (1,):
        with watched(PushSum, "mix") as calls:
            runs = {
                kind: play(12, 90, seed=seed, learner=FLAT, topology=ONE_WAY, mixing={"kind": kind})
                for kind in ("push_sum", "uniform")
            }
        first = start(runs["uniform"], seed)
        mean, (biased, undivided) = first.mean(axis=0), _limits(seed)
        yield at_most(
            f"seed {seed}: largest distance to the mean", 1e-12, _far(runs["push_sum"], mean)
        )
        bias = _rms(biased @ first - mean)
        yield near(
            f"seed {seed}: rms of the same with uniform weights",
            bias,
            _rms(runs["uniform"].parameters - mean),
            1e-9,
        )
        x = np.array([state.own[:-1] for _, (_, state) in calls[-12:]])
        yield near(
            f"seed {seed}: rms of the same without division by w",
            _rms(undivided @ first - mean),
            _rms(x - mean),
            1e-9,
        )


def _lossy() -> Iterator[Figure]:
    seed = 1
    with watched(PushSum, "mix") as calls:
        run = play(
            12,
            150,
            seed=seed,
            learner=FLAT,
            topology=ONE_WAY,
            mixing={"kind": "push_sum"},
            network=ROUGH,
        )
    yield at_most(
        f"seed {seed}, 20% lost: largest distance to the mean",
        1e-12,
        _far(run, start(run, seed).mean(axis=0)),
    )
    yield at_most(
        f"seed {seed}, 20% lost: largest |weights + under way - n|", 1e-12, _leak(calls, 12)
    )
    run = play(
        12,
        150,
        learner=FLAT,
        topology={"kind": "one_peer_exponential"},
        mixing={"kind": "push_sum"},
        network=ROUGH,
    )
    yield at_most(
        "one peer per round of 12, 20% lost: largest distance to the mean",
        1e-11,
        _far(run, start(run, 1).mean(axis=0)),
    )
    with watched(PushSum, "mix") as calls:
        run = play(
            12,
            300,
            learner=FLAT,
            topology=ONE_WAY,
            mixing={"kind": "push_sum"},
            schedule={"kind": "asynchronous", "staleness": {"kind": "constant"}},
            compute={"seconds_per_env_step": "2ms", "speed": [1, 2, 3, 4] * 3},
            network=ROUGH,
        )
    yield at_most(
        "asynchronous, speeds 1 to 4, 20% lost: largest distance to the mean",
        1e-8,
        _far(run, start(run, 1).mean(axis=0)),
    )
    yield at_most(
        "asynchronous, 20% lost: largest |weights + under way - n|", 1e-12, _leak(calls, 12)
    )


def _leak(calls: list[Call], agents: int) -> float:
    """Return the largest |sum_i w_i + weight in flight - n| after any mixing of any agent."""
    states, worst = {}, 0.0
    for (turn, *_), (_, state) in calls:
        states[turn.agent] = state
        if len(states) == agents:
            total = sum(state.own[-1] for state in states.values())
            total += sum(
                float(given[-1]) - float(states[j].had.get(i, state.nothing)[-1])
                for i, state in states.items()
                for j, given in state.given.items()
            )
            worst = max(worst, abs(total - agents))
    return worst


def _far(run: Record, mean: Array) -> float:
    return float(np.abs(run.parameters - mean).max())


def _rms(values: Array) -> float:
    return float(np.sqrt(np.mean(np.square(values))))


LAWS = (
    Law(
        "push_sum",
        "push-sum finds the mean on a directed graph, where row-stochastic averaging is biased",
        "Kempe, Dobra, Gehrke, FOCS 2003; Assran et al., ICML 2019, arXiv 1811.10792",
        _directed,
    ),
    Law(
        "push_sum_loss",
        "running sums lose no mass: the mean is exact although 20% of messages are lost",
        "Hadjicostis, Vaidya, Dominguez-Garcia, IEEE TAC 61(6), 2016",
        _lossy,
    ),
)
