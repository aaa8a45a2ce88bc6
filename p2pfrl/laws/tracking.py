"""Laws of gradient tracking and EXTRA: the exact optimum of unlike agents at a constant step."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from p2pfrl.consensus.mixing.base import State
from p2pfrl.consensus.mixing.tracking import GradientTracking
from p2pfrl.core.parameters import Vector
from p2pfrl.core.turn import Turn
from p2pfrl.laws.base import Figure, Law, at_least, at_most
from p2pfrl.laws.runs import Array, play
from p2pfrl.laws.watch import watched
from p2pfrl.results.record import Record


def _run(
    kind: str,
    lr: float,
    rounds: int,
    *,
    agents: int = 8,
    seed: int = 1,
    topology: str = "ring",
    **options: object,
) -> Record:
    learner = {"lr": lr, "curvature": [0.5, 2.0], "spread": 3.0}
    return play(
        agents,
        rounds,
        seed=seed,
        learner=learner,
        topology={"kind": topology},
        mixing={"kind": kind, **options},
    )


def _optimum(run: Record) -> Array:
    A, x_star = run.problem["A"], run.problem["x_star"]
    return np.asarray(np.linalg.solve(A.sum(axis=0), np.einsum("nij,nj->i", A, x_star)))


def _error(run: Record) -> float:
    """Return sqrt(mean_i ||x_i - x_opt||^2)."""
    return float(np.sqrt(np.square(run.parameters - _optimum(run)).sum(axis=1).mean()))


def _bias() -> Iterator[Figure]:
    errors = [_error(_run("metropolis", lr, 200)) for lr in (0.1, 0.025)]
    yield at_least("ring, lr .1: distance to the optimum", 0.5, errors[0])
    yield at_least("ring: the same at lr .1 and at .025, ratio", 1.5, errors[0] / errors[1])


def _tracking() -> Iterator[Figure]:
    yield at_most(
        "ring, lr .1: distance after 300 rounds",
        1e-10,
        _error(_run("gradient_tracking", 0.1, 300)),
    )
    far = _error(_run("gradient_tracking", 0.2, 150))
    yield at_least("ring, lr .2: distance after 150 rounds: it diverges", 1e3, far)
    run = _run("gradient_tracking", 0.2, 150, form="adapt_then_combine")
    yield at_most("ring, lr .2, adapt then combine: distance after 150 rounds", 1e-2, _error(run))


def _extra() -> Iterator[Figure]:
    for seed, topology, agents, rounds in ((1, "ring", 8, 250), (2, "grid", 9, 200)):
        run = _run("extra", 0.3, rounds, agents=agents, seed=seed, topology=topology)
        yield at_most(f"{topology}, lr .3: distance after {rounds} rounds", 1e-10, _error(run))


def _invariant() -> Iterator[Figure]:
    for form, topology, seed in (("diging", "ring", 1), ("adapt_then_combine", "star", 2)):
        lr, worst = 0.05, 0.0
        with watched(GradientTracking, "prepare") as calls:
            run = _run("gradient_tracking", lr, 100, seed=seed, topology=topology, form=form)
        for round in range(100):
            turns = sorted(
                (
                    (turn.agent, turn.start, state[0])
                    for (turn, _), state in calls
                    if turn.round == round
                ),
                key=lambda found: found[0],
            )
            x, tracked = (np.array([found[k] for found in turns]) for k in (1, 2))
            gradients = np.einsum("nij,nj->ni", run.problem["A"], x - run.problem["x_star"])
            worst = max(
                worst, float(np.abs(tracked.mean(axis=0) / -lr - gradients.mean(axis=0)).max())
            )
        yield at_most(
            f"{form}, {topology}: largest |mean y - mean gradient| in 100 rounds", 1e-12, worst
        )


Estimates = list[list[tuple[Vector, Vector]]]
"""Per round: Y and u of every agent."""


def _watching(seen: Estimates) -> GradientTracking:
    """Return gradient tracking that records trackers and STORM's estimates at each exchange."""

    class Watching(GradientTracking):
        def prepare(self, turn: Turn, state: State) -> State:
            prepared = super().prepare(turn, state)
            if turn.round == len(seen):
                seen.append([])
            seen[turn.round].append((prepared[0], turn.memory.recall("storm_estimate")))
            return prepared

    return Watching()


def _mdpgt() -> Iterator[Figure]:
    storm, ring = {"kind": "storm", "beta": 0.3}, {"kind": "ring"}
    noisy = {"lr": 0.03, "curvature": [0.5, 2.0], "spread": 3.0, "noise": 1.0}
    seen: Estimates = []
    play(16, 60, learner=noisy, topology=ring, mixing_rule=_watching(seen), correction=storm)
    yield at_most(
        "quadratics, ring of 16: largest |mean v - mean u| in 60 rounds",
        1e-12,
        _means_apart(seen, 0.03),
    )
    policy = {
        "kind": "reinforce",
        "episodes": 2,
        "discounted": True,
        "baseline": "none",
        "optimizer": "sgd",
        "max_grad_norm": 0.0,
        "hidden": [16, 16],
        "lr": 0.005,
    }
    seen = []
    play(
        5,
        10,
        learner=policy,
        topology=ring,
        mixing_rule=_watching(seen),
        correction=storm,
        evaluation={"episodes": 0},
        environment={"id": "CartPole-v1", "instances": 1},
    )
    scale = max(float(np.abs(u).max()) for round in seen for _, u in round)
    yield at_most(
        "CartPole, float32: the same in 10 rounds, of the largest |u|",
        1e-4,
        _means_apart(seen, 0.005) / scale,
    )
    apart = max(float(np.abs(v / -0.005 - u).max()) for round in seen for v, u in round)
    yield at_least(
        "CartPole: largest |v_i - u_i| of one agent, of the largest |u|", 0.1, apart / scale
    )


def _means_apart(seen: Estimates, lr: float) -> float:
    """Return the largest difference of mean tracked gradient and mean estimate, over rounds."""
    rounds = [
        [np.array(part, dtype=np.float64) for part in zip(*round, strict=True)] for round in seen
    ]
    return max(float(np.abs(v.mean(axis=0) / -lr - u.mean(axis=0)).max()) for v, u in rounds)


LAWS = (
    Law(
        "dpsgd_bias",
        "D-PSGD with unlike agents stalls at a distance from the optimum that shrinks with the step",
        "Lian et al., NeurIPS 2017, arXiv 1705.09056; Yuan, Ling, Yin, SIOPT 26(3), 2016, arXiv 1310.7063",
        _bias,
    ),
    Law(
        "gradient_tracking",
        "gradient tracking reaches the optimum of unlike agents with a constant step",
        "Nedic, Olshevsky, Shi, SIAM J. Optimization 27(4), 2017, arXiv 1607.03218",
        _tracking,
    ),
    Law(
        "extra",
        "EXTRA reaches the optimum of unlike agents with a larger constant step",
        "Shi, Ling, Wu, Yin, SIAM J. Optimization 25(2), 2015, arXiv 1404.6264",
        _extra,
    ),
    Law(
        "tracking_invariant",
        "the mean of the trackers is the mean gradient, in every round",
        "Nedic, Olshevsky, Shi, SIAM J. Optimization 27(4), 2017, arXiv 1607.03218",
        _invariant,
    ),
    Law(
        "mdpgt",
        "the mean of the tracked policy gradients is the mean of STORM's estimates, in every round",
        "Jiang et al., MDPGT, AAAI 2022, arXiv 2112.02813",
        _mdpgt,
    ),
)
