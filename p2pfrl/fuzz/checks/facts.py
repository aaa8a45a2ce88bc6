"""What checks ask of a scenario."""

from __future__ import annotations

from p2pfrl.build.world import World
from p2pfrl.catalog import kind_of
from p2pfrl.scenario import Scenario


def is_plain(world: World) -> bool:
    """Whether agents learn quadratics of their own, and share all of their parameters, visibly."""
    return learns_quadratics(world) and not world.assembly.scenario.secure.is_on


def learns_quadratics(world: World) -> bool:
    """Whether agents learn quadratics of their own, and share all of their parameters."""
    scenario = world.assembly.scenario
    return (
        kind_of("learners", scenario.learner) == "quadratic"
        and not scenario.groups
        and scenario.exchange.shared is None
        and kind_of("personal", scenario.personal) == "none"
    )


def mixes_rounds(scenario: Scenario) -> bool:
    """Whether agents mix with neighbors, and nobody is answered in between."""
    return scenario.mode == "gossip" and not scenario.mixing.is_pairwise


def is_honest(world: World, agent: int) -> bool:
    """Whether no attack names the agent, at any time."""
    return agent not in world.assembly.attackers.agents


def has_restarts(scenario: Scenario) -> bool:
    """Whether anybody goes on from what it saved."""
    return any(fault.returning() for fault in scenario.faults)
