"""Privacy of a run: the plan before it, and what was spent after it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from p2pfrl.consensus.mixing.base import Mixing
from p2pfrl.consensus.topologies.base import TopologyView
from p2pfrl.core.graph import Graph
from p2pfrl.core.types import name_of
from p2pfrl.exchange.privacy.base import Privacy
from p2pfrl.exchange.privacy.ledger import Ledger, simulated
from p2pfrl.exchange.privacy.network import pairwise_mu
from p2pfrl.scenario import Scenario
from p2pfrl.scenario.modes import MODES

if TYPE_CHECKING:
    from p2pfrl.build.assembly import Assembly
    from p2pfrl.exchange.privacy.gaussian import Gaussian

SIMULATED = "simulated privacy: the noise follows from the seed of the run"
REAL = "noise of the operating system"
_LONGEST = 1_000_000
_MOST_NUMBERS = 640
"""Agents times releases up to which the privacy between single agents is computed."""
_MOST = 64
"""Number of agents up to which each one's epsilon is shown."""


def gaussian(rule: Privacy) -> Gaussian | None:
    """Return a rule of Gaussian noise, of which a guarantee is known; None for any other."""
    if not (rule.is_accounted or rule.is_central):
        return None
    from p2pfrl.exchange.privacy.gaussian import Gaussian

    return rule if isinstance(rule, Gaussian) else None


def facts(rule: Gaussian) -> dict[str, Any]:
    """Return what a guarantee says, without its epsilon."""
    return {
        "unit": "agent",
        "adjacency": rule.adjacency,
        "guarantee": rule.guarantee,
        "delta": rule.delta,
        "clip": rule.clip,
        "norm": rule.norm,
        "noise_multiplier": rule.noise_multiplier,
        **({"decay": rule.decay} if rule.decay < 1 else {}),
        **({"budget": rule.budget} if rule.budget is not None else {}),
    }


def plan(scenario: Scenario, numbers: int) -> dict[str, Any]:
    """Return the privacy plan of a scenario, under the key "privacy"; nothing without a guarantee.

    epsilon_per_round is that of the first release. The total is that of an agent which makes all
    releases that its budget grants; None if their number is not known. expected_noise is the
    expected norm of the noise in the first release, to be compared with the largest norm of a
    change, `bound`.

    Args:
        scenario: the scenario.
        numbers: how many an agent shares.
    """
    rule = gaussian(scenario.privacy)
    if rule is None or not MODES[scenario.mode].exchanges:
        return {}
    releases = rule.releases or scenario.stop.rounds
    rule = rule.planned(scenario.stop.rounds)
    made, total = _granted(rule, releases)
    bound = rule.bound(numbers)
    return {
        "privacy": {
            **facts(rule),
            "releases": made,
            "epsilon_per_round": rule.epsilon(rule.cost(0)),
            "epsilon": None if made is None else rule.epsilon(total),
            "bound": bound,
            "expected_noise": rule.share * rule.sigma(0) * bound * _norm(numbers),
        }
    }


def among(assembly: Assembly) -> tuple[Mixing, TopologyView] | None:
    """Return how the neighbors of a run mix, and their graph, if they do so in rounds."""
    if not assembly.mode.mixes or assembly.scenario.schedule.is_asynchronous:
        return None
    return assembly.plan.mixing, assembly.plan.view


def spent(
    privacy: Privacy,
    ledgers: Mapping[int, Ledger],
    noise: str,
    among: tuple[Mixing, TopologyView] | None = None,
) -> dict[str, Any]:
    """Return what the agents of a run spent, under the key "privacy"; nothing without a guarantee.

    Args:
        privacy: the rule of the run.
        ledgers: by agent.
        noise: where it came from, `SIMULATED` or `REAL`.
        among: how neighbors mix, and their graph, if they do so in rounds.
    """
    if not ledgers or (rule := gaussian(privacy)) is None:
        return {}
    cost = {agent: rule.epsilon(ledger.spent) for agent, ledger in sorted(ledgers.items())}
    return {
        "privacy": {
            **facts(rule),
            "noise": noise,
            "epsilon": max(cost.values()),
            "epsilon_mean": sum(cost.values()) / len(cost),
            **(
                {"epsilon_of": list(cost.values())} if min(cost) >= 0 and len(cost) <= _MOST else {}
            ),
            "releases": (releases := max(ledger.releases for ledger in ledgers.values())),
            **({} if among is None else at_distance(rule, *among, releases)),
            "releases_refused": sum(ledger.refused for ledger in ledgers.values()),
            "silent": [
                str(name_of(i)) if i < 0 else i
                for i, own in sorted(ledgers.items())
                if own.is_closed
            ],
        }
    }


def at_distance(
    rule: Gaussian, mixing: Mixing, view: TopologyView, releases: int
) -> dict[str, Any]:
    """Return what single agents learn of others by their distance in the graph, in hops.

    epsilon_at_distance has the largest epsilon of all pairs at distance 0, 1, ...: what an agent
    learns that hears its neighbors alone and shares nothing. It is known for linear mixing on one
    undirected graph of few agents, and shown for the first `releases_of_distance` releases.
    """
    is_linear = type(mixing).mix is Mixing.mix and type(mixing).payload is Mixing.payload
    if not is_linear or view.period != 1 or rule.decay < 1 or releases < 1:
        return {}
    graph = view.at(0)
    count = min(releases, _MOST_NUMBERS // graph.n)
    if not graph.is_undirected or count < 1 or graph.n < 2:
        return {}
    matrix = np.zeros((graph.n, graph.n))
    for i, row in enumerate(mixing.weights(graph)):
        matrix[i, list(row)] = list(row.values())
    hops = _hops(graph)
    found = np.zeros(int(hops.max()) + 1)
    sigma = 1.0 / math.sqrt(rule.cost(0))
    for observer in range(graph.n):
        for agent, mu in enumerate(pairwise_mu(matrix, observer, count, sigma)):
            if hops[observer, agent] >= 0:
                place = int(hops[observer, agent])
                found[place] = max(found[place], mu)
    return {
        "epsilon_at_distance": [rule.epsilon(float(mu) ** 2) for mu in found],
        "releases_of_distance": count,
    }


def _hops(graph: Graph) -> NDArray[np.int64]:
    """Return the distances of all pairs in hops, `(n, n)`; -1 where there is no path."""
    links = np.zeros((graph.n, graph.n), dtype=bool)
    for i, j in graph.edges:
        links[i, j] = True
    hops = np.where(np.eye(graph.n, dtype=bool), 0, -1)
    reached = np.eye(graph.n, dtype=bool)
    for distance in range(1, graph.n):
        reached = (reached @ links) | reached
        hops[reached & (hops < 0)] = distance
    return hops


def _granted(rule: Gaussian, releases: int | None) -> tuple[int | None, float]:
    """Return how many of an agent's `releases` the budget grants, and what they cost."""
    ledger = Ledger(simulated(0, 0))
    if releases is None and rule.budget is None:
        return None, 0.0
    for number in range(_LONGEST if releases is None else releases):
        if not ledger.charge(rule.cost(number), rule.most, number):
            break
    return ledger.releases, ledger.spent


def _norm(size: int) -> float:
    """Return the expected norm of `size` standard normal numbers."""
    return math.sqrt(2.0) * math.exp(math.lgamma((size + 1) / 2) - math.lgamma(size / 2))
