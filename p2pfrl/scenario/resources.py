"""Resources of the agents of a scenario, one value per agent."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from p2pfrl.core.distributions.base import Distribution
from p2pfrl.core.resources import Resources
from p2pfrl.scenario.sections import Scenario


def resources(scenario: Scenario) -> Resources:
    """Return speed, bandwidth and joules of every agent, drawn from the scenario's seed."""
    energy = scenario.energy
    return Resources(
        speed=drawn(scenario, scenario.compute.speed, "speed"),
        bandwidth=drawn(scenario, scenario.network.bandwidth, "bandwidth"),
        per_step=drawn(scenario, energy.per_step, "joules-per-step"),
        per_byte=drawn(scenario, energy.per_byte, "joules-per-byte"),
    )


def drawn(scenario: Scenario, section: Distribution, purpose: str) -> NDArray[np.float64]:
    """Return the value of every agent, `(n,)`; `purpose` names the random streams."""
    n = scenario.agents
    return section.values(scenario.seed, range(n), n, purpose)
