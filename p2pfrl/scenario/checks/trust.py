"""Notes on Byzantine agents: how many a scenario's rules bear, and what is only declared."""

from __future__ import annotations

import sys
from collections.abc import Iterator

from p2pfrl.catalog import kind_of
from p2pfrl.consensus.aggregators.base import Aggregator
from p2pfrl.consensus.theory import spectral_gap
from p2pfrl.consensus.topologies.base import TopologyView
from p2pfrl.core.needs import Composable
from p2pfrl.core.options import construct
from p2pfrl.scenario.byzantine import byzantine
from p2pfrl.scenario.modes import MODES
from p2pfrl.scenario.sections import Scenario


def counted(scenario: Scenario) -> int:
    """Return how many vectors a coordinator aggregates at once; in a tree, its smallest edge.

    Losses and absences, which may leave fewer, are not counted.
    """
    if (together := scenario.schedule.together) is not None:
        return together
    groups = [len(group) for group in scenario.edges if min(group, default=0) >= 0] or [
        scenario.agents
    ]
    return min(int(scenario.coordinator.participation.expected(size)) for size in groups)


def _beyond(scenario: Scenario, place: str, borne: int) -> Iterator[str]:
    """Yield a note if attacks name more agents than a rule bears."""
    liars = len(byzantine(scenario))
    if borne < liars:
        yield f"attacks make {liars} agents Byzantine, and {place} bears {borne}: it may be taken anywhere"


def trust(scenario: Scenario) -> Iterator[str]:
    """Yield how many Byzantine agents the rules bear, where it is declared and changes nothing."""
    if MODES[scenario.mode].averages:
        aggregator = scenario.coordinator.aggregator
        count = counted(scenario)
        yield from declared("coordinator.aggregator", aggregator, count)
        if aggregator.is_robust and not scenario.edges:
            borne = min(aggregator.tolerated(count), _used(aggregator))
            yield from _beyond(scenario, "coordinator.aggregator", borne)
        yield from _trusted(scenario, aggregator)
    if MODES[scenario.mode].mixes and scenario.mixing.is_robust:
        yield from _of_neighbors(scenario)
    delta: float | None = getattr(scenario.privacy, "delta", None)
    if delta is not None and MODES[scenario.mode].exchanges and delta * scenario.agents >= 1.0:
        yield (
            f"privacy.delta = {delta:g} is not below 1 / agents = {1 / scenario.agents:.3g}: whoever published all of "
            "one agent, drawn at random, would keep to it; use much less"
        )


def _trusted(scenario: Scenario, aggregator: Aggregator) -> Iterator[str]:
    """Yield what is wrong with the agent that an aggregator trusts."""
    trusted: int | None = getattr(aggregator, "trusted", None)
    if trusted is None:
        return
    if trusted in byzantine(scenario):
        yield (
            f"coordinator.aggregator.trusted = {trusted}: attacks make agent {trusted} Byzantine, and the others count "
            "as far as they point its way: it may take the model anywhere; trust an agent that no attack names"
        )
    others = [members for members in scenario.edges if min(members) >= 0 and trusted not in members]
    if others:
        yield (
            f"coordinator.aggregator.trusted = {trusted}: {len(others)} edges do not hear agent {trusted}, and trust "
            "the median of their agents in its place"
        )


def _of_neighbors(scenario: Scenario) -> Iterator[str]:
    """Yield what the smallest neighborhood bears, or delta_max beside the spectral gap."""
    mixing = scenario.mixing
    graph = TopologyView(scenario.topology, scenario.agents, scenario.seed).at(0)
    kind, fewest = kind_of("mixing", mixing), min(map(len, graph.predecessors))
    if (delta := mixing.delta_max(graph)) is not None:
        gap = spectral_gap(mixing.weights(graph))
        yield (
            f"mixing {kind!r}: delta_max = {delta:.2g}, and the spectral gap of W squared is {gap * gap:.2g}; "
            "consensus is proven only where the first is well below the second"
        )
        return
    liars = set(byzantine(scenario))
    near = [
        len(liars.intersection(graph.predecessors[i])) for i in range(graph.n) if i not in liars
    ]
    aggregator: Aggregator | None = getattr(mixing, "aggregator", None)
    borne = min(mixing.tolerated(fewest) or 0, _used(aggregator or mixing))
    if near and max(near) > borne:
        yield (
            f"attacks make {max(near)} neighbors of an honest agent Byzantine, and mixing {kind!r} bears {borne}: it "
            "may be taken anywhere"
        )
    yield (
        f"mixing {kind!r} bears {mixing.tolerated(fewest)} Byzantine among the {fewest} neighbors of the agent that "
        "hears the fewest; distant neighborhoods may still disagree"
    )
    if aggregator is not None:
        yield from declared("mixing.aggregator", aggregator, fewest + 1)
        plain = construct(type(aggregator), {})
        for name in getattr(aggregator, "of_coordinators", ()):
            if getattr(aggregator, name) != getattr(plain, name):
                yield f"between neighbors without effect: mixing.aggregator.{name}"


def _used(rule: Composable) -> int:
    """Return the f that a rule works with; a large number where it needs none."""
    f: int | None = getattr(rule, "byzantine", None)
    return f if f is not None and getattr(rule, "reads_byzantine", True) else sys.maxsize


def declared(place: str, aggregator: Aggregator, count: int) -> Iterator[str]:
    """Yield a note if `byzantine` is checked against `count` vectors, and has no other effect."""
    f = getattr(aggregator, "byzantine", None)
    if f is None or getattr(aggregator, "reads_byzantine", True):
        return
    if "nearest_neighbors" in getattr(aggregator, "pre", ()):
        return
    yield (
        f"{place}.byzantine = {f} has no effect on the aggregate: {kind_of('aggregators', aggregator)!r} bears "
        f"{aggregator.tolerated(count)} of {count}, whatever is declared"
    )
