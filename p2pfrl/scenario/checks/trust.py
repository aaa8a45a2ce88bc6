"""Notes on Byzantine agents: how many a scenario's rules bear, and what is only declared."""

from __future__ import annotations

from collections.abc import Iterator

from p2pfrl.catalog import kind_of
from p2pfrl.consensus.aggregators.base import Aggregator
from p2pfrl.scenario.modes import MODES
from p2pfrl.scenario.sections import Scenario


def counted(scenario: Scenario) -> int:
    """Return how many vectors a coordinator aggregates at once; in a tree, its smallest edge.

    Losses and absences, which may leave fewer, are not counted.
    """
    if (together := scenario.schedule.together) is not None:
        return together
    groups = [len(group) for group in scenario.edges] or [scenario.agents]
    return min(int(scenario.coordinator.participation.expected(size)) for size in groups)


def trust(scenario: Scenario) -> Iterator[str]:
    """Yield how many Byzantine agents the rules bear, where it is declared and changes nothing."""
    if MODES[scenario.mode].averages:
        aggregator = scenario.coordinator.aggregator
        yield from declared("coordinator.aggregator", aggregator, counted(scenario))


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
