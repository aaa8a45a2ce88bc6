"""The attacks of a scenario: those of `[[attacks]]`, and those of faults `turn_byzantine`."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING

from p2pfrl.scenario.modes import MODES
from p2pfrl.scenario.sections import Scenario

if TYPE_CHECKING:
    from p2pfrl.exchange.attacks.base import Attack

Path = tuple[str | int, ...]


def named(scenario: Scenario) -> Iterator[tuple[Path, Attack]]:
    """Yield every attack with the path of its table; one of a fault with its agents and time."""
    for position, attack in enumerate(scenario.attacks):
        yield ("attacks", position), attack
    for position, fault in enumerate(scenario.faults):
        begun = fault.attacks
        if begun is not None:
            yield ("faults", position, "attack"), begun


def acts(scenario: Scenario, attack: Attack) -> bool:
    """Return whether an attack does anything in the scenario's mode."""
    mode = MODES[scenario.mode]
    return attack.is_in_experience or mode.mixes or mode.averages


def attacks(scenario: Scenario) -> tuple[Attack, ...]:
    """Return the attacks that do something, each with the numbers of its agents, in order."""
    n, seed = scenario.agents, scenario.seed
    return tuple(
        replace(attack, agents=attack.members(n, seed), count=None)
        for _, attack in named(scenario)
        if acts(scenario, attack)
    )


def byzantine(scenario: Scenario) -> tuple[int, ...]:
    """Return the agents that an attack names, at any time of the run, ascending."""
    return tuple(sorted({agent for attack in attacks(scenario) for agent in attack.agents}))
