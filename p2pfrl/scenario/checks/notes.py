"""Notes on a scenario: keys that a mode ignores, and private data that messages contain."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from typing import Any

from p2pfrl.catalog import kind_of
from p2pfrl.core.options import construct, slot_of
from p2pfrl.core.types import name_of
from p2pfrl.exchange.payloads import RULES as PAYLOADS
from p2pfrl.scenario.modes import MODES
from p2pfrl.scenario.sections import Edge, Scenario

_WIDE = 4096
"""Numbers of an observation from which on a note says what they cost: a gray image of 64 x 64."""
_OWN_STEP = ("lr", "optimizer")
"""Options of a learner's own step. A learner that sends gradients takes no step."""


def notes(scenario: Scenario) -> Iterator[str]:
    """Yield one line per note: private data in messages, and keys without an effect.

    A key without an effect is no error, because a file may have keys for several modes: `compare`
    runs them all.
    """
    yield from _wide(scenario)
    payload, mode = scenario.exchange.payload, MODES[scenario.mode]
    travels = PAYLOADS[payload].is_for(mode.name)
    if PAYLOADS[payload].reveals_experience and travels:
        yield f"payload {payload!r} shares raw experience"
    idle = [key for key in mode.idle if says_something(scenario, key)]
    if isinstance(scenario.network.latency, Edge) and "topology" in idle:
        idle.remove("topology")
    idle += _absent(scenario)
    if idle:
        yield f"in mode {mode.name!r} without effect: {', '.join(idle)}"
    if mode.averages and (needed := scenario.correction.reckons_with) is not None:
        yield from _mismatch(scenario, *needed)
    if scenario.correction.begins_at_zero and "correction" not in mode.idle:
        yield from _of_one_step(scenario)
    yield from _of_episodes(scenario)
    if PAYLOADS[payload].needs_gradient and travels:
        plain = construct(type(scenario.learner), {})
        own = [
            name
            for name in _OWN_STEP
            if getattr(scenario.learner, name, None) != getattr(plain, name, None)
        ]
        if own:
            keys = ", ".join(f"learner.{name}" for name in own)
            yield f"with payload {payload!r} without effect: {keys}; coordinator.server_optimizer takes the step"


def _of_one_step(scenario: Scenario) -> Iterator[str]:
    """Yield a note if a correction that is zero in the first step of a round has no other."""
    steps = {make.learner.gradient_steps for make in scenario.makes}
    if scenario.schedule.every == 1 and steps == {1}:
        yield (
            f"correction {kind_of('corrections', scenario.correction)!r} has no effect on the first gradient step of "
            "a round, and a round has only one: set schedule.every = 5, or more steps per update"
        )


def _of_episodes(scenario: Scenario) -> Iterator[str]:
    """Yield a note if a learner has steps per update although its updates are whole episodes."""
    for learner in dict.fromkeys(make.learner for make in scenario.makes):
        episodes, steps = getattr(learner, "episodes", None), getattr(learner, "steps", None)
        plain = getattr(construct(type(learner), {}), "steps", None)
        if episodes is not None and steps != plain:
            yield f"with learner.episodes = {episodes} without effect: learner.steps = {steps}"


def _wide(scenario: Scenario) -> Iterator[str]:
    """Yield a note for observations as large as images: networks here are dense."""
    sections = {
        make.environment.id: make.environment for make in scenario.makes if make.environment
    }
    for id, section in sections.items():
        size = section.rule.spec.observation
        if size >= _WIDE:
            yield (
                f"an observation of {id} has {size:,} numbers, and networks here are dense: every unit of the "
                "first layer has as many weights, and all of them travel; wrap the environment so that it "
                "returns fewer, for example a small gray image"
            )


def _absent(scenario: Scenario) -> Iterator[str]:
    """Yield the faults of coordinators that the mode does not have."""
    there = scenario.coordinators
    for position, fault in enumerate(scenario.faults):
        if named := [str(name_of(id)) for id in fault.absent(there)]:
            yield f"faults.{position} of {', '.join(named)}"


def _mismatch(scenario: Scenario, option: str, value: float) -> Iterator[str]:
    """Yield a note if the coordinator's steps differ from those that the correction assumes."""
    optimizer = scenario.coordinator.server_optimizer
    if (got := getattr(optimizer, option, None)) != value:
        has = "no such option" if got is None else f"{got:g}"
        yield (
            f"correction {kind_of('corrections', scenario.correction)!r} assumes a server optimizer of {option} = "
            f"{value:g}; {kind_of('server_optimizers', optimizer)!r} has {has}"
        )


def says_something(scenario: Scenario, key: str) -> bool:
    """Return whether the value under a dotted key differs from its default."""
    section, *names = key.split(".")
    value, plain = getattr(scenario, section), _plain(section)
    for name in names:
        value, plain = getattr(value, name), getattr(plain, name)
    return bool(value != plain)


def without_effect(scenario: Scenario) -> str:
    """Return one line on sections that are set but have no effect over TCP.

    Empty if there are none.
    """
    said = [f"[{name}]" for name in ("network", "compute") if says_something(scenario, name)]
    if not said:
        return ""
    verb = "have" if len(said) > 1 else "has"
    return f"{' and '.join(said)} {verb} no effect over TCP: messages and training take real time"


@cache
def _plain(section: str) -> Any:
    """Return a section that the file does not name."""
    return slot_of(Scenario, section).read({})
