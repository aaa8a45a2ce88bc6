"""Laws of agents that share a world: a team that averages what it knows, and games of two."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import numpy as np

from p2pfrl.core.rng import generator
from p2pfrl.laws.base import Figure, Law, at_least, at_most
from p2pfrl.laws.runs import Array, Table, play_tables
from p2pfrl.results.record import Record

_MEMBERS = 4
_ROUNDS = 150
_LATE = 5


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


def played(
    game: object, *, lr: float, rounds: int, logits: Sequence[float] = (), kind: str = "npg"
) -> Record:
    """Return the record of two players who follow exact gradients from the same first logits."""
    learner = {"kind": kind, "gamma": 0.0, "lr": lr}
    tables: dict[str, Table] = {
        "environment": {"id": "matrix_game", "game": game},
        "learner": learner | ({"logits": logits} if logits else {}),
        "evaluation": {"episodes": 0},
    }
    return play_tables(2, rounds, tables, mode="independent")


def policies(record: Record) -> Array:
    """Return the last policies `(player, action)`."""
    logits = record.parameters[:, : record.parameters.shape[1] // 2]
    weights: Array = np.exp(logits - logits.max(axis=1, keepdims=True))
    return np.asarray(weights / weights.sum(axis=1, keepdims=True))


def zero_sum(first: Array) -> list[list[list[float]]]:
    """Return the payoffs of both players, by actions, of a table of the first one's."""
    return np.stack([first, -first], axis=-1).tolist()  # type: ignore[no-any-return]


def weighted(
    game: object, span: float, choices: int, logits: Sequence[float] = ()
) -> tuple[float, float, float]:
    """Return exploitabilities of exponential weights: averages, their bound, last policies.

    With L = log 1/p, p the least probability of an action at the start, and lr = sqrt(8 L / T) /
    span, each player's regret after T rounds is at most span sqrt(L T / 2), and the exploitability
    of the averages is the sum of both regrets over T.

    Args:
        game: of zero sum.
        span: largest payoff less the smallest.
        choices: actions A; from uniform policies L = log A.
        logits: the first ones; zeros when left out.
    """
    start = np.exp(np.array(logits or [0.0] * choices))
    least = -math.log((start / start.sum()).min())
    lr = math.sqrt(8 * least / _ROUNDS) / span
    record = played(game, lr=lr, rounds=_ROUNDS, logits=logits)
    last = float(np.asarray(record.agents["gain"])[-2:].sum())
    return (
        float(record.metrics["error"][-1]),
        2 * span * math.sqrt(least / (2 * _ROUNDS)),
        last,
    )


def _averages() -> Iterator[Figure]:
    drawn = generator(0, "law").standard_normal((5, 5))
    biased = np.array([[0.0, -1.0, 2.0], [1.0, 0.0, -1.0], [-2.0, 1.0, 0.0]])
    for name, game, span, choices, logits in (
        ("pennies", "pennies", 2.0, 2, (1.0, 0.0)),
        ("rps", "rps", 2.0, 3, (1.0, 0.5, 0.0)),
        ("rps with a double win", zero_sum(biased), 4.0, 3, ()),
        ("5 x 5 drawn", zero_sum(drawn), float(np.ptp(drawn)), 5, ()),
    ):
        average, bound, last = weighted(game, span, choices, logits)
        yield at_most(f"{name}: exploitability of the average policies", bound, average)
        yield at_least(f"{name}: that of the last policies, over it", 2.0, last / average)


def self_played(
    game: str, logits: Sequence[float], rounds: int, *, late: int, mixing: str
) -> float:
    """Return the exploitability of the averages of two who know each other by messages alone.

    Args:
        game: of zero sum, payoffs from -1 to 1.
        logits: the first ones.
        rounds: of one step each, which takes a millisecond, and a message.
        late: milliseconds that a message takes; nobody waits for it.
        mixing: rule of both.
    """
    start = np.exp(np.array(logits))
    least = -math.log((start / start.sum()).min())
    tables: dict[str, Table] = {
        "environment": {"id": "matrix_game", "game": game, "opponents": "last_known"},
        "learner": {
            "kind": "npg",
            "gamma": 0.0,
            "lr": math.sqrt(8 * least / rounds) / 2,
            "logits": logits,
        },
        "compute": {"seconds_per_env_step": 0.001},
        "topology": {"kind": "complete"},
        "mixing": {"kind": mixing},
        "evaluation": {"episodes": 0},
    }
    if late:
        tables["network"] = {"latency": late / 1000}
        tables["schedule"] = {"kind": "asynchronous"}
    found = play_tables(2, rounds, tables, mode="gossip").metrics["error"][-1]
    return float(found) / (4 * math.sqrt(least / (2 * rounds)))


def _self_play() -> Iterator[Figure]:
    rounds = 100
    for game, logits, mixing in (
        ("pennies", (1.0, 0.0), "by_role"),
        ("rps", (1.0, 0.5, 0.0), "metropolis"),
    ):
        found = self_played(game, logits, rounds, late=0, mixing=mixing)
        yield at_most(
            f"{game}, mixing {mixing}: exploitability of the averages / bound", 1.0, found
        )
    late = self_played("rps", (1.0, 0.5, 0.0), rounds, late=_LATE, mixing="by_role")
    most = math.sqrt(1 + _LATE)
    yield at_most(f"rps, messages {_LATE} updates late: the same", most, late)


def crowd(environment: Table, *, rounds: int, lr: float, seed: int = 1) -> Record:
    """Return the record of four players of one game who start at different policies."""
    learner = {"kind": "npg", "gamma": 0.0, "lr": lr, "same_start": False}
    tables: dict[str, Table] = {
        "environment": environment,
        "learner": learner,
        "evaluation": {"episodes": 0},
    }
    return play_tables(4, rounds, tables, mode="independent", seed=seed)


def _crowds() -> Iterator[Figure]:
    for share, what, action in (("own", "keeping", 0), ("team", "giving", 1)):
        found = policies(crowd({"id": "public_goods", "share": share}, rounds=40, lr=4.0))
        name = f"public goods, {share} reward: probability of {what}"
        yield at_least(name, 1 - 1e-6, float(found[:, action].min()))
    roads = ((0.2, 1.0), (0.0, 2.0), (0.5, 0.3))
    for seed in (1, 2, 3):
        record = crowd({"id": "congestion", "roads": roads}, rounds=80, lr=4.0, seed=seed)
        left = float(np.asarray(record.agents["gain"])[-4:].sum())
        yield at_most(f"congestion, seed {seed}: exploitability of the last policies", 0.01, left)


def _equilibria() -> Iterator[Figure]:
    defects = policies(played("prisoners", lr=0.5, rounds=40))[:, 1]
    yield at_least("prisoners: probability of defecting", 1 - 1e-6, float(defects.min()))
    for start, what, action in ((2.0, "stag", 0), (0.5, "hare", 1)):
        found = policies(played("stag_hunt", lr=0.5, rounds=60, logits=(start, 0.0)))
        first = 1 / (1 + math.exp(-start))
        name = f"stag_hunt from {first:.2f} for stag: probability of {what}"
        yield at_least(name, 1 - 1e-4, float(found[:, action].min()))
    moved = policies(played("stag_hunt", lr=0.5, rounds=5, logits=(math.log(3.0), 0.0)))
    yield at_most(
        "stag_hunt from 3/4, the mixed one: moved", 1e-9, float(abs(moved - 0.75)[:, 0].max())
    )


LAWS = (
    Law(
        "networked_team",
        "agents that average critic and reward learn for the mean reward that nobody observes",
        "Zhang, Yang, Liu, Zhang, Basar, ICML 2018, arXiv 1802.08757, Algorithm 2",
        _team,
    ),
    Law(
        "exponential_weights",
        "in zero-sum games average policies approach an equilibrium, and last policies do not",
        "Freund, Schapire, Games and Economic Behavior 29, 1999",
        _averages,
    ),
    Law(
        "self_play",
        "players that know each other by messages alone approach an equilibrium on average, too",
        "Freund, Schapire, Games and Economic Behavior 29, 1999; late messages: Joulani, Gyorgy, Szepesvari, ICML 2013",
        _self_play,
    ),
    Law(
        "crowds",
        "exact gradients of many players end in dominant actions, and at equilibria of congestion",
        "Rosenthal, International Journal of Game Theory 2, 1973",
        _crowds,
    ),
    Law(
        "equilibria",
        "exact gradients end in the dominant actions, and in the equilibrium on whose side they start",
        "von Neumann, Morgenstern, Theory of games and economic behavior, 1944",
        _equilibria,
    ),
)
