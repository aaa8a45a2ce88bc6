"""Checks of secure sums: whether they fit 64 bits, the mode, and the number of agents."""

from __future__ import annotations

from collections.abc import Iterator

from p2pfrl.catalog import kind_of
from p2pfrl.consensus.topologies.base import TopologyView
from p2pfrl.core.errors import ScenarioError, TopologyError
from p2pfrl.exchange.secure.hiding import MOST_WEIGHT
from p2pfrl.scenario.checks.facts import Problem
from p2pfrl.scenario.modes import MODES
from p2pfrl.scenario.sections import Scenario

_FEWEST = 3
"""Neighbors of an agent from which on their sum hides each of them."""


def parts(scenario: Scenario) -> Iterator[Problem]:
    """Yield why a sum may have less noise than its agents' parts promise."""
    needed = getattr(scenario.privacy, "parts", None)
    if needed is None or not MODES[scenario.mode].exchanges:
        return
    kind, rule = kind_of("privacy", scenario.privacy), scenario.secure
    if not rule.phases:
        reason = "needs sums that nobody sees in part: use [secure] kind = 'secure_aggregation', in mode central"
        yield ("privacy", "kind"), f"{kind!r} {reason}"
    elif rule.fewest(0) < needed:
        reason = f"each of {needed} agents adds its part, and there may be sums of {rule.fewest(0)}"
        yield ("secure", "minimum"), f"{reason}: set minimum = {needed}, or lower privacy.parts"


def secure(scenario: Scenario) -> Iterator[Problem]:
    """Yield why vectors cannot be summed without being seen."""
    ring, mode = scenario.secure.ring, MODES[scenario.mode]
    if ring is None or not mode.exchanges:
        return
    if mode.averages and scenario.coordinator.participation.may_choose_nobody:
        kind = kind_of("participation", scenario.coordinator.participation)
        reason = "in some rounds few or none would take part, and a sum of few hides little"
        yield ("coordinator", "participation"), f"{kind!r}: {reason}; use another rule"
    if mode.pools:
        kind = kind_of("secure", scenario.secure)
        reason = "agents send experience in mode pooled, which no sum can hold"
        yield ("secure", "kind"), f"{kind!r} needs vectors: {reason}"
        return
    if scenario.standbys and scenario.secure.phases:
        reason = "a sum lives and dies with its coordinator: leave the standbys out"
        yield ("coordinator", "standbys"), reason
    by_steps = mode.averages and scenario.coordinator.aggregator.reads_samples
    most = ring.capacity() // (int(MOST_WEIGHT) if by_steps else 1)
    if scenario.agents > most:
        clip, bits = f"clip = {ring.clip:g}", f"fraction_bits = {ring.bits}"
        reason = (
            f"{clip} and {bits} leave room for sums of {most} vectors, of {scenario.agents} agents"
        )
        yield ("secure", "fraction_bits"), f"{reason}: 64 bits would overflow; lower one of them"
    if scenario.secure.is_of_neighbors and mode.mixes:
        yield from _neighborhoods(scenario)
    if not (mode.averages and scenario.secure.phases):
        return
    minimum = scenario.secure.fewest(0)
    expected = scenario.coordinator.participation.expected(scenario.agents)
    if expected < minimum:
        reason = f"sums need {minimum} agents, and {expected:g} take part in a round"
        yield ("secure", "kind"), f"{reason}: no sum would ever be known"


def _neighborhoods(scenario: Scenario) -> Iterator[Problem]:
    """Yield an agent that hears too few for their sum to hide them, and self-play."""
    if any(
        make.environment and make.environment.opponents == "last_known" for make in scenario.makes
    ):
        reason = "with opponents = 'last_known' agents need the parameters of each of them"
        yield ("secure", "kind"), f"{reason}: use opponents = 'present'"
    try:
        graph = TopologyView(scenario.topology, scenario.agents, scenario.seed).at(0)
        rows = scenario.mixing.weights(graph)
    except (TopologyError, OSError):
        return  # another check says why
    for i, row in enumerate(rows):
        count = sum(weight != 0.0 for j, weight in row.items() if j != i)
        if count < _FEWEST:
            reason = f"agent {graph.name(i)} mixes with {count}, of whom the sum says too much"
            fix = f"use a topology and mixing with at least {_FEWEST} neighbors each"
            yield ("secure", "kind"), f"{reason}: {fix}"
            return


def refuse_masks(scenario: Scenario) -> None:
    """Raise an error for sums between neighbors, for which processes have no way to agree on keys.

    Raises:
        ScenarioError: the scenario has them.
    """
    if scenario.secure.is_of_neighbors:
        reason = (
            "the neighbors of a neighbor have no connection of their own over which to agree on keys, and the one "
            "between them is the one that must not know: use mode = 'central' with 'secure_aggregation', or the "
            "simulator"
        )
        raise ScenarioError([f"secure.kind: 'neighborhood_masks' is for the simulator: {reason}"])
