"""The time that environments take whose steps are not arrays: measured before a run.

A run in the simulator and one over TCP take at least as long, in all their processes together.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import Timer
from typing import Any

import numpy as np

from p2pfrl.core.rng import Purpose, Streams
from p2pfrl.learning.environments.base import Simulator, longest
from p2pfrl.learning.environments.random_actions import random_action
from p2pfrl.scenario import Scenario
from p2pfrl.scenario.bind import each_environment, outline

_STEPS = 100
_LONGEST = 1.0
"""Seconds after which no further step is taken."""
_PATIENCE = 5.0
"""Seconds after which a first reset and steps that have not ended are told."""
_LONG = 60.0
"""Seconds of a round or an evaluation that are told before a run."""


def pace(
    scenario: Scenario,
    now: Callable[[], float] = time.perf_counter,
    tell: Callable[[str], None] | None = None,
    patience: float = _PATIENCE,
) -> dict[str, Any] | None:
    """Return what the environments of a scenario take, in seconds; None if they are arrays.

    A copy of each environment takes up to 100 steps of random actions, for a second at most.
    Environments that are machines (`is_real`) are left out.

    Args:
        scenario: whose environments.
        now: a clock, seconds.
        tell: called, from another thread, with a sentence if an environment has not been made,
            reset and stepped after `patience` seconds; it cannot be ended from outside.
        patience: seconds.

    Raises:
        AgentError: an environment failed.
    """
    every, traits = scenario.schedule.every, outline(scenario).traits
    rates, training, evaluation = [], 0.0, 0.0
    for agents, first, rule, simulator in each_environment(scenario):
        if not rule.is_external or getattr(rule, "is_real", False):
            continue
        where = f"agent {first}: its environment"
        try:
            with _told(where, tell, patience):
                seconds = _seconds(simulator, first, now)
        finally:
            simulator.close()
        rates.append(1.0 / seconds)
        training += agents * traits.min_steps * every * seconds
        played = 2 * agents * scenario.evaluation.episodes
        evaluation += played * longest(rule.spec) * seconds
    if not rates:
        return None
    return {
        "steps_per_second": round(min(rates), 1),
        "seconds_per_round": round(training, 3),
        "seconds_per_evaluation_at_most": round(evaluation, 3),
    }


def what_takes_long(scenario: Scenario, found: dict[str, Any]) -> str:
    """Return a sentence if a round or an evaluation takes a minute or more, else "".

    Args:
        scenario: the scenario.
        found: what `pace` returned.
    """
    training = found["seconds_per_round"]
    evaluation = found["seconds_per_evaluation_at_most"]
    if max(training, evaluation) < _LONG:
        return ""
    section = next(make.environment for make in scenario.makes if make.environment is not None)
    parts = [f"a round {training:,.0f} s"] if training >= _LONG else []
    keys = ["learner.steps"] if training >= _LONG else []
    if evaluation >= _LONG:
        parts.append(f"a greedy evaluation up to {evaluation:,.0f} s")
        keys.append("evaluation.episodes (0: none), environment.max_steps")
    steps = f"{section.id} makes {found['steps_per_second']:,} steps a second"
    return f"environment.id: {steps}: {', '.join(parts)}; set {', '.join(keys)}"


@contextmanager
def _told(where: str, tell: Callable[[str], None] | None, patience: float) -> Iterator[None]:
    """Tell, once, if the block has not ended after a while."""
    if tell is None:
        yield
        return
    what = f"{where} has not been reset and stepped in {patience:g} s; waiting for it"
    timer = Timer(patience, tell, [what])
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def _seconds(simulator: Simulator, first: int, now: Callable[[], float]) -> float:
    """Return the time of a step of one agent, with one instance of its environment."""
    agents = [*range(first, first + simulator.spec.members)]
    purpose = "pace"
    state = simulator.init(agents, purpose)
    simulator.begin(agents, [0] * len(agents), purpose)
    streams = Streams.of(0, agents, Purpose.PROBE)
    obs, began, taken = simulator.observe(agents, state), now(), 0
    while taken < _STEPS and (taken == 0 or now() - began < _LONGEST):
        obs = simulator.step(state, random_action(simulator.spec, obs, streams)).obs
        taken += 1
    return float(np.maximum(now() - began, 1e-9)) / (taken * len(agents))
