"""A scenario's learner bound to its environment, cheaply: enough to know layout, moments and the cost of an update."""

from __future__ import annotations

from dataclasses import replace

from p2pfrl.core.errors import P2PFRLError
from p2pfrl.exchange.payloads import RULES as PAYLOADS
from p2pfrl.learning.environments.vary import columns
from p2pfrl.learning.learners.base import Stack, Task
from p2pfrl.scenario.sections import Scenario


def outline(scenario: Scenario) -> Stack:
    """Return the stack of a scenario with the environment of agent 0 alone; for its sizes, not to train with.

    Raises:
        P2PFRLError: learner and environment do not fit.
    """
    task = task_of(scenario)
    section = scenario.environment
    if section is None:
        return scenario.learner.prepare(task)
    rule, first = section.rule, range(1)
    physics = rule.physics(scenario.seed, first, columns(rule, section.vary, scenario.seed, first, scenario.agents))
    simulator = rule.simulator(physics, section.instances, scenario.seed)
    return scenario.learner.prepare(replace(task, simulator=simulator, evaluator=simulator))


def task_of(scenario: Scenario) -> Task:
    """Return what the learner is bound to, environments apart."""
    payload = PAYLOADS.get(scenario.exchange.payload)
    gradient_only = payload is not None and payload.needs_gradient and scenario.mode in payload.modes
    return Task(
        scenario.seed,
        scenario.agents,
        correction=scenario.correction,
        gradient_only=gradient_only,
        tells=None if payload is None else payload.tells,
    )


def needs_environment(scenario: Scenario) -> bool:
    """Return whether the learner cannot do without an environment."""
    try:
        scenario.learner.prepare(Task(scenario.seed, scenario.agents))
    except P2PFRLError:
        return True
    return False
