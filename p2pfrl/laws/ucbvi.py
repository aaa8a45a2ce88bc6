"""Law of federated UCBVI: less regret per agent with more agents."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

import numpy as np

from p2pfrl.laws.base import Figure, Law, at_least, at_most
from p2pfrl.laws.runs import play

_HORIZON = 4


def regret(agents: int, episodes: int, seed: int) -> tuple[float, float]:
    """Return the regret per agent after some episodes, and the number of synchronizations."""
    record = play(
        agents,
        None,
        mode="central",
        seed=seed,
        stop={"env_steps": _HORIZON * episodes * agents},
        environment={"id": "garnet", "instances": 1, "states": 5, "actions": 5, "branching": 5},
        learner={"kind": "ucbvi", "horizon": _HORIZON, "episodes": episodes},
        exchange={"payload": "statistics"},
        gate={"kind": "news"},
        coordinator={"aggregator": {"kind": "optimistic"}},
        evaluation={"episodes": 0},
    )
    assert record.metrics["env_steps"][-1] == _HORIZON * episodes * agents, (
        "an agent that played more than another"
    )
    last = record.agents["round"] == record.agents["round"].max()
    assert last.sum() == agents
    synchronizations = record.agents["synchronizations"][last]
    assert (synchronizations == synchronizations[0]).all()
    return float(np.mean(record.agents["regret"][last])), float(synchronizations[0])


def _quick() -> Iterator[Figure]:
    one, four = (regret(agents, 120, 1)[0] for agents in (1, 4))
    yield at_least("120 episodes: regret of one agent / of each of 4", 1.5, one / four)


def _whole() -> Iterator[Figure]:
    sizes = (1, 4, 16)
    found = {agents: regret(agents, 3000, 1) for agents in sizes}
    for few, many in pairwise(sizes):
        (more, often), (less, seldom) = found[few], found[many]
        yield at_least(f"regret per agent: {few} / {many} agents", 2.0, more / less)
        yield at_most(f"synchronizations: {many} / {few} agents", 1.0, seldom / often)


LAWS = (
    Law(
        "ucbvi",
        "optimistic agents that share their experience have less regret each",
        "Labbi et al., AISTATS 2025, arXiv 2410.22908",
        _quick,
    ),
    Law(
        "ucbvi_regret",
        "four times as many optimistic agents: at most half of the regret for each, with no more synchronizations",
        "Labbi et al., AISTATS 2025, arXiv 2410.22908",
        _whole,
        is_slow=True,
    ),
)
