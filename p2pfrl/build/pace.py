"""The time that environments take whose steps are not arrays: measured before a run.

A run in the simulator and one over TCP take at least as long, in all their processes together.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from threading import Timer
from typing import Any, TypeVar

from p2pfrl.core.rng import Purpose, Streams
from p2pfrl.learning.environments.base import Simulator, longest
from p2pfrl.learning.environments.random_actions import random_action
from p2pfrl.scenario import Scenario
from p2pfrl.scenario.bind import external_environments, outline

_T = TypeVar("_T")
_STEPS = 100
_LONGEST = 1.0
"""Seconds after which no further step is taken."""
_SHORT = 0.1
"""Seconds of a first reset from which on, if no episode ended, another one is measured."""
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
    rates, resets, training, evaluation = [], [], 0.0, 0.0
    for agents, first, rule, simulator in external_environments(scenario):
        if getattr(rule, "is_real", False):
            continue
        where = f"agent {first}: its environment"
        try:
            with _told(where, tell, patience):
                took = _seconds(simulator, first, now)
        finally:
            simulator.close()
        rates.append(1.0 / took.step)
        resets.append(took.reset)
        steps = agents * traits.min_steps * every
        training += steps * (took.step + took.reset * took.resets_per_step)
        played = 2 * agents * scenario.evaluation.episodes
        most = rule.spec.max_steps or took.longest or longest(rule.spec)
        evaluation += played * (most * took.step + took.reset)
    if not rates:
        return None
    return {
        "steps_per_second": round(min(rates), 1),
        "seconds_per_reset": round(max(resets), 3),
        "seconds_per_round": round(training, 3),
        "seconds_per_evaluation_at_most": round(evaluation, 3),
    }


def with_environments(scenario: Scenario, found: dict[str, Any] | None, seconds: float) -> float:
    """Return the estimated seconds of a run (estimate.py) with those of its environments.

    Args:
        scenario: the scenario.
        found: what `pace` returned.
        seconds: without environments.
    """
    rounds, section = scenario.stop.rounds, scenario.evaluation
    if found is None or rounds is None:
        return seconds
    times = 1 + rounds // section.every if section.episodes else 0
    evaluated = times * found["seconds_per_evaluation_at_most"]
    return float(f"{seconds + rounds * found['seconds_per_round'] + evaluated:.2g}")


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
    if (reset := found["seconds_per_reset"]) * found["steps_per_second"] > 1:
        steps += f", and a reset takes {reset:.3g} s"
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


@dataclass(frozen=True)
class _Took:
    """What one agent's environment takes, with one instance.

    Attributes:
        step: seconds of a step that ends no episode.
        reset: seconds of a reset.
        resets_per_step: how many episodes ended per step.
        longest: the environment's own time limit, if it has cut several episodes at one length.
    """

    step: float
    reset: float
    resets_per_step: float
    longest: int | None


def _seconds(simulator: Simulator, first: int, now: Callable[[], float]) -> _Took:
    """Return the time of steps and resets; those of a step that ends an episode are told apart."""
    agents = [*range(first, first + simulator.spec.members)]
    purpose = "pace"
    state, made = _timed(lambda: simulator.init(agents, purpose), now)
    simulator.begin(agents, [0] * len(agents), purpose)
    streams = Streams.of(0, agents, Purpose.PROBE)
    obs = simulator.observe(agents, state)
    plain, ends, cuts = list[float](), list[float](), list[int]()
    while len(plain) + len(ends) < _STEPS and sum(plain) + sum(ends) < _LONGEST:
        action = random_action(simulator.spec, obs, streams)
        step, seconds = _timed(partial(simulator.step, state, action), now)
        (ends if step.finished.any() else plain).append(seconds)
        cuts += step.lengths[:1][step.truncated[:1]].tolist()
        obs = step.obs
    step_ = sum(plain) / len(plain) if plain else 0.0
    if ends:
        reset = sum(ends) / len(ends) - step_
    else:  # the first one was also made
        again = partial(simulator.init, agents, purpose)
        reset = made if made < _SHORT else _timed(again, now)[1]
    share = 1.0 / len(agents)
    rate = len(ends) / (len(plain) + len(ends))
    limit = cuts[0] if len(cuts) > 1 and len(set(cuts)) == 1 else None
    return _Took(max(step_ * share, 1e-9), max(reset * share, 0.0), rate, limit)


def _timed(call: Callable[[], _T], now: Callable[[], float]) -> tuple[_T, float]:
    """Return what a call returns, and its seconds."""
    began = now()
    return call(), now() - began
