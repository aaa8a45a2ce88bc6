"""Checks of attacks: who makes them, when, and whether they mean anything here."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from p2pfrl.catalog import kind_of
from p2pfrl.core.errors import ScenarioError
from p2pfrl.exchange.attacks.base import ExperienceAttack
from p2pfrl.exchange.compressors.base import Raw
from p2pfrl.scenario.byzantine import acts, byzantine, named
from p2pfrl.scenario.modes import MODES
from p2pfrl.scenario.sections import Scenario

if TYPE_CHECKING:
    from p2pfrl.exchange.attacks.base import Attack

Problem = tuple[tuple[str | int, ...], str]


def attacks(scenario: Scenario) -> Iterator[Problem]:
    """Yield every problem of attacks as (path of the key, reason)."""
    found = False
    for path, attack in named(scenario):
        of_fault = path[0] == "faults"
        problems = [*_of_fault(scenario, path)] if of_fault else [*_agents(scenario, attack)]
        problems += [*_times(attack)]
        if acts(scenario, attack) and not problems:
            problems += [*_experience(scenario, attack), *_receivers(scenario, attack)]
        yield from (((*path, *key), reason) for key, reason in problems)
        found = found or bool(problems)
    if not found and len(byzantine(scenario)) == scenario.agents:
        yield ("attacks",), "all agents are Byzantine: leave at least one of them honest"


def _agents(scenario: Scenario, attack: Attack) -> Iterator[Problem]:
    n = scenario.agents
    if attack.count is None and not attack.agents:
        yield (), "who attacks is missing: set agents = [0], or count = 1"
    if attack.count is not None and attack.agents:
        yield ("count",), "give either agents or count, not both"
    elif attack.count is not None and attack.count >= n:
        yield ("count",), f"expected fewer than the {n} agents, got {attack.count}"
    seen: set[int] = set()
    for position, agent in enumerate(attack.agents):
        if not 0 <= agent < n:
            yield ("agents", position), f"there is no agent {agent}: agents are 0 to {n - 1}"
        elif agent in seen:
            yield ("agents", position), f"agent {agent} is named twice"
        seen.add(agent)


def _of_fault(scenario: Scenario, path: tuple[str | int, ...]) -> Iterator[Problem]:
    """Yield keys of the attack of a fault that the fault itself says."""
    from p2pfrl.simulator.faults.agents import TurnByzantine

    fault = scenario.faults[int(path[1])]
    assert isinstance(fault, TurnByzantine)
    attack = fault.attack
    if attack.agents:
        yield ("agents",), "the fault has the agents: leave this out"
    if attack.count is not None:
        yield ("count",), "the fault has the agents: leave this out"
    if attack.from_ != 0:
        yield ("from",), "it begins with the fault: leave this out"


def _times(attack: Attack) -> Iterator[Problem]:
    begins, ends = attack.from_, attack.until
    if ends is not None and type(ends) is type(begins) and ends <= begins:
        yield ("until",), f"must be above from = {begins}, got {ends}"


def _experience(scenario: Scenario, attack: Attack) -> Iterator[Problem]:
    """Yield why the experience of its agents cannot be changed."""
    if not isinstance(attack, ExperienceAttack):
        return
    kind, agents = kind_of("attacks", attack), {*attack.members(scenario.agents, scenario.seed)}
    for make in scenario.makes:
        if not agents.intersection(make.agents):
            continue
        learner = kind_of("learners", make.learner)
        if not make.learner.steps_environment or make.environment is None:
            yield (
                ("kind",),
                f"{kind!r} needs a learner that acts in its environment; {learner!r} does not: use "
                "ppo, a2c, reinforce, deep_npg, dqn, sac or td3, or an attack on messages",
            )
        elif make.environment.instances < attack.instances:
            least, got = attack.instances, make.environment.instances
            reason = f"{kind!r} needs {least} instances of the environment, and there are {got}"
            yield ("kind",), f"{reason}: set environment.instances = {least}"


def _receivers(scenario: Scenario, attack: Attack) -> Iterator[Problem]:
    """Yield why each neighbor cannot be sent something else."""
    if attack.is_per_receiver and MODES[scenario.mode].mixes:
        compressor = scenario.compressor
        if not isinstance(compressor, Raw):
            kind, codec = kind_of("attacks", attack), kind_of("compressors", compressor)
            reason = f"{kind!r} sends every neighbor something else, and {codec!r} remembers one message for all"
            yield ("kind",), f"{reason}: set compressor.kind = 'none'"


def refuse_attacks(scenario: Scenario) -> None:
    """Raise an error if there are attacks: peers make none.

    Raises:
        ScenarioError: the scenario has an attack.
    """
    if scenario.attacks:
        reason = "only agents of the simulator make them: remove them, or --set attacks=[]"
        raise ScenarioError([f"attacks: {reason}"])
