"""Resources of the agents of a scenario, one value per agent."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from p2pfrl.core.allocation import allocate
from p2pfrl.core.distributions.base import Distribution
from p2pfrl.core.resources import Resources
from p2pfrl.learning.learners.base import Stack
from p2pfrl.scenario.sections import Scenario
from p2pfrl.scenario.traffic import message_bytes, shared_parts


def resources(scenario: Scenario, stack: Stack | None = None) -> Resources:
    """Return speed, bandwidth and joules of every agent, drawn from the scenario's seed.

    Without the learner `stack` the steps and bytes of a round are left out.
    """
    energy, step, size = scenario.energy, 0, 0
    if stack is not None:
        step = stack.traits.min_steps
        size = message_bytes(scenario, stack, shared_parts(scenario, stack))[0]
    owned = {
        "speed": drawn(scenario, scenario.compute.speed, "speed"),
        "bandwidth": drawn(scenario, scenario.network.bandwidth, "bandwidth"),
    }
    owned[scenario.allocation.resource] = owned[scenario.allocation.resource] * shares(scenario)
    updates = assigned(scenario, owned["speed"])
    return Resources(
        **owned,
        per_step=drawn(scenario, energy.per_step, "joules-per-step"),
        per_byte=drawn(scenario, energy.per_byte, "joules-per-byte"),
        env_steps=step * updates,
        bytes_sent=size,
    )


def assigned(scenario: Scenario, speed: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the local updates of every agent per exchange, `(n,)`; where measured, the fewest.

    In proportion to `speed`: real shares of at least 1 are rounded down, and the updates that are
    left go to the largest remainders, of equal ones to the lower id.
    """
    n, every = scenario.agents, scenario.schedule.every
    if scenario.work.assign != "speed":
        return np.full(n, 1.0 if scenario.work.assign == "time" else float(every))
    real = allocate(speed, np.ones(n), np.full(n, np.inf), float(n * every), alpha=1.0)
    whole = np.floor(real * (1.0 + 1e-12))
    left = n * every - int(whole.sum())
    whole[np.argsort(whole - real, kind="stable")[:left]] += 1.0
    return whole


def shares(scenario: Scenario) -> NDArray[np.float64]:
    """Return the share of every agent, `(n,)`: 1 without an allocation.

    The bounds of the scenario have no `misfits`.
    """
    section, n = scenario.allocation, scenario.agents
    if section.exponent is None:
        return np.ones(n)
    low, high = _bounds(scenario)
    weights = drawn(scenario, section.weights, "allocation-weights")
    return allocate(weights, low, high, section.total or float(n), section.exponent)


def misfits(scenario: Scenario) -> Iterator[tuple[str, str]]:
    """Yield why no shares, or none that an agent can work with, exist, as (key, reason)."""
    section, n = scenario.allocation, scenario.agents
    if section.exponent is None:
        return
    low, high = _bounds(scenario)
    total = section.total or float(n)
    if wrong := np.flatnonzero(low > high).tolist():
        k = wrong[0]
        yield "high", f"agent {k}: expected at least its lower bound {low[k]:g}, got {high[k]:g}"
    elif (least := float(low.sum())) > total * (1.0 + 1e-12):
        yield "low", f"lower bounds sum to {least:g}, more than the total of {total:g}"
    elif none := np.flatnonzero(shares(scenario) <= 0.0).tolist():
        what = f"agent {none[0]} would get nothing and never end a round"
        yield "low", f"{what}; give a lower bound above 0, or another utility"


def unheld(scenario: Scenario) -> Iterator[str]:
    """Yield the keys of bounds at which there is no share, if they are set."""
    section, found = scenario.allocation, shares(scenario)
    low, high = _bounds(scenario)
    if (low > 0.0).any() and not (found <= low * (1.0 + 1e-12)).any():
        yield "low"
    if section.high is not None and not (found >= high * (1.0 - 1e-12)).any():
        yield "high"


def _bounds(scenario: Scenario) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the lower and upper bounds of shares, `(n,)` each."""
    section = scenario.allocation
    low = drawn(scenario, section.low, "allocation-low")
    if section.high is None:
        return low, np.full(scenario.agents, np.inf)
    return low, drawn(scenario, section.high, "allocation-high")


def drawn(scenario: Scenario, section: Distribution, purpose: str) -> NDArray[np.float64]:
    """Return the value of every agent, `(n,)`; `purpose` names the random streams."""
    n = scenario.agents
    return section.values(scenario.seed, range(n), n, purpose)
