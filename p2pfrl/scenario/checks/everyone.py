"""What a correction asks of a run that compares what an agent sent with the very next model."""

from __future__ import annotations

from collections.abc import Iterator

from p2pfrl.catalog import kind_of
from p2pfrl.scenario.sections import Scenario

Problem = tuple[tuple[str | int, ...], str]


def everyone(scenario: Scenario, name: str) -> Iterator[Problem]:
    """Yield why somebody may not answer correction `name` in every round, or may not count like the others."""
    schedule, coordinator = scenario.schedule, scenario.coordinator
    reason = f"correction {name!r} compares what an agent sent with the very next model: "
    if schedule.is_asynchronous:
        yield ("schedule", "kind"), f"{reason}use kind = 'synchronous'"
    elif kind_of("participation", coordinator.participation) != "all":
        yield (
            ("coordinator", "participation"),
            f"{reason}everyone must be asked; 'control_variate' need not",
        )
    reason = f"the corrections of {name!r} sum to zero only around the plain mean: use"
    if kind_of("server_optimizers", coordinator.server_optimizer) != "replace":
        yield ("coordinator", "server_optimizer"), f"{reason} 'replace'"
    if getattr(coordinator.aggregator, "weights", "") != "uniform":
        yield ("coordinator", "aggregator"), f"{reason} kind = 'mean', weights = 'uniform'"
    if schedule.ends_early:
        yield ("schedule", "quorum"), f"{reason} 1, so that everyone answers"
    if scenario.gate.closes:
        yield ("gate",), f"{reason} 'none', so that everyone answers"
    for position in _departures(scenario):
        yield (
            ("faults", position),
            f"what {name!r} of an agent that is gone holds would be missing from the sum",
        )


def _departures(scenario: Scenario) -> Iterator[int]:
    """Yield the positions of faults that take agents away for good."""
    faults = [
        (kind_of("faults", fault), fault.at, set(getattr(fault, "agents", ())))
        for fault in scenario.faults
    ]
    for position, (kind, at, agents) in enumerate(faults):
        back = set().union(
            *(others for other, later, others in faults if other == "restart" and later >= at)
        )
        if kind == "leave" or (kind == "crash" and agents - back):
            yield position
