"""Resources of the agents of a scenario, one value per agent."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from p2pfrl.core.distributions.base import Distribution
from p2pfrl.core.resources import Resources
from p2pfrl.learning.learners.base import Stack
from p2pfrl.scenario.sections import Scenario
from p2pfrl.scenario.traffic import message_bytes, shared_parts


def resources(scenario: Scenario, stack: Stack | None = None) -> Resources:
    """Return speed, bandwidth and joules of every agent, drawn from the scenario's seed.

    Without the learner `stack` the steps and bytes of a round are left out.
    """
    energy, steps, size = scenario.energy, 0, 0
    if stack is not None:
        steps = stack.traits.min_steps * scenario.schedule.every
        size = message_bytes(scenario, stack, shared_parts(scenario, stack))[0]
    return Resources(
        speed=drawn(scenario, scenario.compute.speed, "speed"),
        bandwidth=drawn(scenario, scenario.network.bandwidth, "bandwidth"),
        per_step=drawn(scenario, energy.per_step, "joules-per-step"),
        per_byte=drawn(scenario, energy.per_byte, "joules-per-byte"),
        env_steps=steps,
        bytes_sent=size,
    )


def drawn(scenario: Scenario, section: Distribution, purpose: str) -> NDArray[np.float64]:
    """Return the value of every agent, `(n,)`; `purpose` names the random streams."""
    n = scenario.agents
    return section.values(scenario.seed, range(n), n, purpose)
