"""What mode hierarchical asks of a scenario beside its own section."""

from __future__ import annotations

from collections.abc import Iterator

from p2pfrl.core.options import construct
from p2pfrl.scenario.hierarchy import Hierarchy
from p2pfrl.scenario.sections import Edge, Scenario

Problem = tuple[tuple[str | int, ...], str]
PAYLOADS = ("parameters", "delta")


def tree(scenario: Scenario) -> Iterator[Problem]:
    """Yield every problem, as (path of the key, reason)."""
    if scenario.mode != "hierarchical":
        if scenario.hierarchy != construct(Hierarchy, {}):
            yield ("hierarchy",), f"is read in mode hierarchical, not in {scenario.mode}: leave it out"
        return
    for path, reason in scenario.hierarchy.problems(scenario.agents):
        yield ("hierarchy", *path), reason
    if scenario.schedule.is_asynchronous:
        yield ("schedule", "kind"), "edges and cloud average in rounds: use kind = 'synchronous'"
    if scenario.exchange.order != "adapt_then_combine":
        yield ("exchange", "order"), "has no meaning in mode hierarchical: agents train from what their edge combined"
    if scenario.exchange.payload not in PAYLOADS:
        known = " or ".join(map(repr, PAYLOADS))
        yield ("exchange", "payload"), f"edges average models: use {known}; got {scenario.exchange.payload!r}"
    if isinstance(scenario.network.latency, Edge):
        yield ("network", "latency"), "the topology has no edges of a tree: give a duration or a distribution"
