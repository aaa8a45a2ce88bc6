"""Law of federated policy gradients: the mean over N agents has 1/N of the variance."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from p2pfrl.consensus.aggregators.mean import Mean
from p2pfrl.laws.base import Figure, Law, near
from p2pfrl.laws.runs import play
from p2pfrl.laws.watch import watched

_ESTIMATES = 2000


def variance(agents: int, estimates: int, seed: int = 1) -> float:
    """Return E ||g - E g||^2 of the averaged gradient g of `agents` agents, at one policy.

    Steps of 1e-30 do not change the policy, so all estimates are of one gradient.
    """
    with watched(Mean, "aggregate") as calls:
        play(
            agents,
            estimates,
            mode="central",
            seed=seed,
            exchange={"payload": "gradient"},
            environment={"id": "CartPole-v1", "instances": 1},
            evaluation={"episodes": 0},
            learner={
                "kind": "reinforce",
                "episodes": 1,
                "hidden": [16, 16],
                "baseline": "none",
                "discounted": True,
                "max_grad_norm": 0.0,
            },
            coordinator={"server_optimizer": {"kind": "sgd", "lr": 1e-30}},
        )
    gradients = np.array([aggregate for _, (aggregate, _) in calls], dtype=np.float64)
    moved = np.abs(calls[-1][0][1] - calls[0][0][1]).max()
    assert len(gradients) == estimates, "a coordinator that missed a round"
    assert moved < 1e-20, "a policy that moved"
    return float(np.square(gradients - gradients.mean(axis=0)).sum() / (estimates - 1))


def _variance() -> Iterator[Figure]:
    sizes = (1, 2, 4, 8)
    measured = [variance(agents, _ESTIMATES) for agents in sizes]
    for agents, value in zip(sizes[1:], measured[1:], strict=True):
        yield near(
            f"{agents} agents: variance times {agents} / variance of one",
            1.0,
            agents * value / measured[0],
            0.25,
        )
    slope = float(np.polyfit(np.log(sizes), np.log(measured), 1)[0])
    yield near("slope of log variance over log N", -1.0, slope, 0.15)


LAWS = (
    Law(
        "fedpg_variance",
        "the variance of a policy gradient averaged over N agents falls as 1 / N",
        "Fan et al., NeurIPS 2021, arXiv 2110.14074",
        _variance,
        is_slow=True,
    ),
)
