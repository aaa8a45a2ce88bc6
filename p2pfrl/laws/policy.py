"""Laws of tabular policy gradients: the rate of natural steps, and stochastic optima."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from p2pfrl.core.softmax import log_softmax
from p2pfrl.laws.base import Figure, Law, at_least, at_most, near
from p2pfrl.laws.runs import Array, Table, play

_GAMMA = 0.8
_STATES, _ACTIONS = 20, 4


def gaps(kind: str, steps: int, lr: float, seed: int) -> Array:
    """Return J* - J after each of `steps` exact steps of one agent from the uniform policy."""
    record = play(
        1,
        steps,
        mode="independent",
        seed=seed,
        environment={"id": "garnet", "states": _STATES, "actions": _ACTIONS, "branching": 3},
        learner={"kind": kind, "gamma": _GAMMA, "lr": lr},
        evaluation={"episodes": 0},
    )
    return np.asarray(record.metrics["error"])


def _npg() -> Iterator[Figure]:
    for lr, steps, seed in ((1.0, 200, 1), (0.1, 200, 2), (10.0, 100, 3)):
        gap, k = gaps("npg", steps, lr, seed), np.arange(1, steps + 1)
        bound = np.log(_ACTIONS) / (lr * k) + 1.0 / ((1.0 - _GAMMA) ** 2 * k)
        yield at_most(
            f"lr = {lr:g}: steps of {steps} with a gap above the bound",
            0.0,
            float((gap > bound).sum()),
        )
        yield at_least(f"lr = {lr:g}: least gap", -1e-12, float(gap.min()))
    natural, plain = gaps("npg", 10, 1.0, 1)[-1], gaps("softmax_pg", 400, 1.0, 1)[-1]
    yield at_least("gap of 400 plain steps / of 10 natural ones", 1.0, float(plain / natural))


def crossing_value(p: float, gamma: float) -> float:
    """Return the value of going left with probability p if half of the agents must go left."""
    return 0.5 * (p / (1.0 - gamma * (1.0 - p)) + (1.0 - p) / (1.0 - gamma * p))


def _stochastic() -> Iterator[Figure]:
    gamma = 0.9
    for agents, steps in ((2, 1), (6, 5)):
        record = play(
            agents,
            200,
            mode="central",
            environment={"id": "crossing"},
            evaluation={"episodes": 0},
            learner={"kind": "softmax_pg", "gamma": gamma, "logits": [2.0, 0.0], "steps": steps},
        )
        p = float(np.exp(log_softmax(record.parameters[0].reshape(2, 2)))[0, 0])
        yield near(f"{agents} agents, {steps} local steps: probability of left", 0.5, p, 0.005)
        yield near(
            f"{agents} agents, {steps} local steps: J",
            1.0 / (2.0 - gamma),
            crossing_value(p, gamma),
            0.005,
        )
    record = play(
        2,
        200,
        mode="central",
        environment={"id": "crossing", "instances": 1},
        evaluation={"episodes": 0},
        learner={"kind": "tabular_q", "gamma": gamma, "lr": 0.2},
    )
    greedy = float(record.parameters[0].reshape(2, 2)[0].argmax() == 0)
    yield near(
        "J of the policy that is greedy in the averaged Q",
        0.5,
        crossing_value(greedy, gamma),
        1e-12,
    )


def natural_policy(rounds: int, lr: float, *, waits: bool, latest: bool) -> Array:
    """Return the policy `(S, A)` of FedNPG on three unlike agents, the last four times as fast."""
    aggregator: Table = {"kind": "natural", "latest": True} if latest else {"kind": "natural"}
    record = play(
        3,
        rounds,
        mode="central",
        environment={"id": "garnet", "states": 6, "actions": 3, "vary": {"perturbation": 0.8}},
        compute={
            "seconds_per_env_step": "10ms",
            "speed": {"kind": "values", "list": [1.0, 1.0, 4.0]},
        },
        learner={"kind": "softmax_pg", "gamma": _GAMMA, "entropy": 0.2},
        exchange={"payload": "fisher_policy" if latest else "fisher"},
        schedule={"kind": "synchronous" if waits else "asynchronous"},
        coordinator={"aggregator": aggregator, "server_optimizer": {"kind": "sgd", "lr": lr}},
        evaluation={"episodes": 0},
    )
    return np.exp(log_softmax(record.parameters[0].reshape(6, 3)))


def _fednpg() -> Iterator[Figure]:
    rounds = natural_policy(5, 0.5, waits=True, latest=False)
    remembered = natural_policy(5, 0.5, waits=True, latest=True)
    yield at_most(
        "in rounds: the last messages of all against those of the round, largest probability",
        1e-12,
        float(np.abs(remembered - rounds).max()),
    )
    optimum = natural_policy(60, 0.5, waits=True, latest=False)
    without = natural_policy(80, 0.1, waits=False, latest=True)
    yield at_most(
        "without rounds, speeds (1, 1, 4): distance from the optimum of rounds",
        1e-6,
        float(np.abs(without - optimum).max()),
    )
    yield at_least(
        "5 rounds: distance from that optimum", 1e-3, float(np.abs(rounds - optimum).max())
    )


LAWS = (
    Law(
        "npg",
        "natural policy gradient: J* - J_T <= log |A| / (lr T) + 1 / ((1 - gamma)^2 T), far ahead of plain gradients",
        "Agarwal, Kakade, Lee, Mahajan, JMLR 22, 2021, arXiv 1908.00261, theorem 16",
        _npg,
    ),
    Law(
        "fednpg_asynchronous",
        "FedNPG without rounds, from the last messages of all agents, has the fixed point of FedNPG at any speeds",
        "computed",
        _fednpg,
    ),
    Law(
        "stochastic_optimum",
        "agents that disagree do best with a stochastic common policy, found by gradients, not by greedy policies",
        "Labbi et al., AISTATS 2026, arXiv 2505.23459",
        _stochastic,
    ),
)
