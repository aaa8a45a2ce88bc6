"""Which round protocols fit which mode and mixing rule, and what mode hierarchical asks for."""

from __future__ import annotations

from collections.abc import Iterator

from p2pfrl.catalog import kind_of
from p2pfrl.consensus.schedules import RULES as SCHEDULES
from p2pfrl.scenario.sections import COORDINATED, HAS_COORDINATOR, Edge, Scenario

Problem = tuple[tuple[str | int, ...], str]
PAYLOADS = ("parameters", "delta")


def protocols(scenario: Scenario) -> Iterator[Problem]:
    """Yield every problem, as (path of the key, reason)."""
    schedule, path = scenario.schedule, ("schedule", "kind")
    name = kind_of("schedules", schedule)
    has_coordinator = scenario.mode in HAS_COORDINATOR
    if schedule.needs_coordinator and not has_coordinator:
        yield path, f"{name!r} needs a coordinator that holds the buffer: use it in mode central"
    if schedule.ends_early and not has_coordinator:
        yield (
            ("schedule", "quorum"),
            f"ends the rounds of a coordinator, and mode {scenario.mode} has none",
        )
    if scenario.mode == "gossip" and scenario.mixing.is_pairwise:
        yield from _pairs(scenario)
    if (
        scenario.mode in COORDINATED
        and not schedule.is_asynchronous
        and schedule.max_staleness is not None
    ):
        reason = "a coordinator's synchronous rounds use nothing that came late: leave it out"
        yield ("schedule", "max_staleness"), reason
    yield from _tree(scenario)


def _pairs(scenario: Scenario) -> Iterator[Problem]:
    name = kind_of("mixing", scenario.mixing)
    reason = f"mixing {name!r} exchanges as a whole or not at all"
    if scenario.gate.closes:
        yield (
            ("gate",),
            f"{reason}: no gate can hold one half back; use schedule.every to exchange less often",
        )
    if scenario.exchange.payload != "parameters":
        yield (
            ("exchange", "payload"),
            f"{reason}: use 'parameters', got {scenario.exchange.payload!r}",
        )
    plain = SCHEDULES["asynchronous"]()
    for option in ("max_staleness", "staleness") if scenario.schedule.is_asynchronous else ():
        if getattr(scenario.schedule, option, None) != getattr(plain, option):
            yield ("schedule", option), f"{reason}, with what both have by then: leave it out"


def _tree(scenario: Scenario) -> Iterator[Problem]:
    if scenario.mode != "hierarchical":
        return
    for path, reason in scenario.hierarchy.problems(scenario.agents):
        yield ("hierarchy", *path), reason
    if scenario.schedule.is_asynchronous:
        yield ("schedule", "kind"), "edges and cloud average in rounds: use kind = 'synchronous'"
    if scenario.exchange.order != "adapt_then_combine":
        yield (
            ("exchange", "order"),
            "has no meaning in mode hierarchical: agents train from what their edge combined",
        )
    if scenario.exchange.payload not in PAYLOADS:
        known = " or ".join(map(repr, PAYLOADS))
        yield (
            ("exchange", "payload"),
            f"edges average models: use {known}; got {scenario.exchange.payload!r}",
        )
    if isinstance(scenario.network.latency, Edge):
        yield (
            ("network", "latency"),
            "the topology has no edges of a tree: give a duration or a distribution",
        )
