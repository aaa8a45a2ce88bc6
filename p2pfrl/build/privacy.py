"""Privacy of a run: the plan before it, and what was spent after it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from p2pfrl.core.types import name_of
from p2pfrl.exchange.privacy.base import Privacy
from p2pfrl.exchange.privacy.gaussian import Gaussian
from p2pfrl.exchange.privacy.ledger import Ledger, simulated
from p2pfrl.scenario import Scenario
from p2pfrl.scenario.modes import MODES

SIMULATED = "simulated privacy: the noise follows from the seed of the run"
REAL = "noise of the operating system"
_LONGEST = 1_000_000
_MOST = 64
"""Number of agents up to which each one's epsilon is shown."""


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
    rule = scenario.privacy
    if not isinstance(rule, Gaussian) or not MODES[scenario.mode].exchanges:
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
            "expected_noise": rule.sigma(0) * bound * _norm(numbers),
        }
    }


def spent(privacy: Privacy, ledgers: Mapping[int, Ledger], noise: str) -> dict[str, Any]:
    """Return what the agents of a run spent, under the key "privacy"; nothing without a guarantee.

    Args:
        privacy: the rule of the run.
        ledgers: by agent.
        noise: where it came from, `SIMULATED` or `REAL`.
    """
    if not ledgers or not isinstance(privacy, Gaussian):
        return {}
    cost = {agent: privacy.epsilon(ledger.spent) for agent, ledger in sorted(ledgers.items())}
    return {
        "privacy": {
            **facts(privacy),
            "noise": noise,
            "epsilon": max(cost.values()),
            "epsilon_mean": sum(cost.values()) / len(cost),
            **(
                {"epsilon_of": list(cost.values())} if min(cost) >= 0 and len(cost) <= _MOST else {}
            ),
            "releases": max(ledger.releases for ledger in ledgers.values()),
            "releases_refused": sum(ledger.refused for ledger in ledgers.values()),
            "silent": [
                str(name_of(i)) if i < 0 else i
                for i, own in sorted(ledgers.items())
                if own.is_closed
            ],
        }
    }


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
