"""Laws of agents that share a world: a team that averages what it knows, and games of two."""

from __future__ import annotations

from collections.abc import Iterator

from p2pfrl.laws.base import Figure, Law, at_least
from p2pfrl.laws.runs import Table, play_tables

_MEMBERS = 4


def closed(
    worlds: int, rounds: int, *, shared: tuple[str, ...], share: str = "own", seed: int = 1
) -> float:
    """Return V / V* of a networked MDP, the mean over `worlds` worlds of a ring of 4 agents each.

    V is the mean discounted return of the joint policy, V* that of the best one.

    Args:
        worlds: each with an MDP of its own.
        rounds: of an update of 256 steps, then an exchange.
        shared: parts that members average; none: they exchange nothing.
        share: whose reward a member gets.
        seed: of the run.
    """
    tables: dict[str, Table] = {
        "environment": {"id": "networked_mdp", "share": share, "instances": 128},
        "learner": {
            "kind": "tabular_ac",
            "steps": 2,
            "lr": 1.0,
            "critic_lr": 0.4,
            "reward_lr": 0.4,
        },
        "evaluation": {"episodes": 0},
    }
    mode = "independent"
    if shared:
        mode = "gossip"
        tables["exchange"] = {"shared": shared}
        if worlds > 1:
            tables["topology"] = {"kind": "islands", "count": worlds}
    metrics = play_tables(_MEMBERS * worlds, rounds, tables, mode=mode, seed=seed).metrics
    value, lacks = float(metrics["objective"][-1]), float(metrics["error"][-1])
    return value / (value + lacks)


def _team() -> Iterator[Figure]:
    both = closed(6, 50, shared=("critic", "reward"))
    yield at_least("critic and reward averaged, V/V*", 0.93, both)
    told = closed(6, 50, shared=(), share="team")
    yield at_least("less that of agents who are told the mean reward", -0.02, both - told)
    for what, shared in (("nobody averages", ()), ("the critic alone is averaged", ("critic",))):
        yield at_least(f"less that where {what}", 0.08, both - closed(6, 50, shared=shared))


LAWS = (
    Law(
        "networked_team",
        "agents that average critic and reward learn for the mean reward that nobody observes",
        "Zhang, Yang, Liu, Zhang, Basar, ICML 2018, arXiv 1802.08757, Algorithm 2",
        _team,
    ),
)
