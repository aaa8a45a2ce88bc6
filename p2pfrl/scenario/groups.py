"""Sections `[[groups]]`: agents whose learner or environment differs from that of the others."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import Field, ValidationError
from pydantic_core import InitErrorDetails

from p2pfrl.core.errors import ScenarioError
from p2pfrl.core.located import Located
from p2pfrl.core.problems import details, problem
from p2pfrl.core.rule import rule
from p2pfrl.core.wording import did_you_mean
from p2pfrl.learning.learners.base import Learner
from p2pfrl.scenario.contracts import choose
from p2pfrl.scenario.environment import EnvironmentSection, EnvironmentSlot

_OF_ALL = ("same_start", "moments")
_LEARNER, _ENVIRONMENT = choose("learners"), EnvironmentSlot()
_OF_GROUP = re.compile(r"group\d+")


@rule
class Group:
    """Agents that differ from the others, in networks, learning rates or environments.

    Agents in no group form a group of their own with the sections `[learner]` and `[environment]`.
    Agents share the tensors that have the same name and shape in all groups. The other tensors of a
    group stay with its agents.

    Attributes:
        agents: ids of the agents; an agent is in one group at most.
        learner: options that replace those of `[learner]`; with another kind, all options of it.
        environment: options that replace those of `[environment]`; with another id, all options of
            it except `instances`.
    """

    agents: tuple[int, ...] = Field(min_length=1)
    learner: dict[str, Any] = Field(default_factory=dict)
    environment: dict[str, Any] = Field(default_factory=dict)


@dataclass(frozen=True)
class Make:
    """The learner and environment of one group of agents.

    Attributes:
        agents: ids of the agents.
        learner: their learner.
        environment: their environment.
    """

    agents: tuple[int, ...]
    learner: Learner
    environment: EnvironmentSection | None


def makes(
    groups: Sequence[Group], agents: int, learner: Learner, environment: EnvironmentSection | None
) -> tuple[Make, ...]:
    """Return the learner and environment of each group; agents in no group are the last.

    Args:
        groups: groups of the scenario. Without groups there is one entry for all agents.
        agents: number of agents n.
        learner: learner of agents in no group.
        environment: environment of agents in no group.

    Raises:
        ValidationError: an option does not exist; it has the place within its group.
    """
    found = [
        Make(group.agents, _learner(group, learner), _environment(group, environment))
        for group in groups
    ]
    taken = {agent for group in groups for agent in group.agents}
    rest = tuple(agent for agent in range(agents) if agent not in taken)
    return (*found, Make(rest, learner, environment)) if rest else tuple(found)


def _learner(group: Group, learner: Learner) -> Learner:
    if not group.learner:
        return learner
    base = _LEARNER.dump(learner)
    assert isinstance(base, dict)
    if group.learner.get("kind", base["kind"]) != base["kind"]:
        base = {name: base[name] for name in _OF_ALL}
    made = _LEARNER.make({**base, **group.learner})
    assert isinstance(made, Learner)
    own, before = (getattr(one, "policy", None) for one in (made, learner))
    if isinstance(own, Located) and isinstance(before, Located):
        own.locate(before.folder)
    return made


def _environment(group: Group, environment: EnvironmentSection | None) -> EnvironmentSection | None:
    if not group.environment:
        return environment
    base: dict[str, object] = {}
    if environment is not None:
        table = _ENVIRONMENT.dump(environment)
        assert isinstance(table, dict)
        is_other = group.environment.get("id", table["id"]) != table["id"]
        base = {"instances": table["instances"]} if is_other else table
    made = _ENVIRONMENT.make({**base, **group.environment})
    assert isinstance(made, EnvironmentSection)
    own: object = made.rule
    shared: object = None if environment is None else environment.rule
    if isinstance(own, Located) and isinstance(shared, Located):
        own.locate(shared.folder)
    for name, drift in made.drift.items():
        before: object = None if environment is None else environment.drift.get(name)
        found: object = drift
        if isinstance(found, Located) and isinstance(before, Located):
            found.locate(before.folder)
    return made


def problems(
    groups: Sequence[Group], agents: int, learner: Learner, environment: EnvironmentSection | None
) -> Iterator[InitErrorDetails]:
    """Yield problems of the groups themselves, each with its place.

    The arguments are those of `makes`.
    """
    seen: dict[int, int] = {}
    for number, group in enumerate(groups):
        for position, agent in enumerate(group.agents):
            place = ("groups", number, "agents", position)
            if not 0 <= agent < agents:
                yield problem(f"expected an agent below {agents}, got {agent}", *place, value=agent)
            elif agent in seen:
                yield problem(
                    f"agent {agent} is in group {seen[agent]} already", *place, value=agent
                )
            seen.setdefault(agent, number)
        yield from _options(number, group, learner, environment)
    if groups and learner.moments == "average":
        reason = "groups have moments of their own, which cannot be averaged: use keep or reset"
        yield problem(reason, "learner", "moments")


def is_own(part: str) -> bool:
    """Whether a part of the parameters belongs to one group and is not shared."""
    return _OF_GROUP.fullmatch(part) is not None


def _options(
    number: int, group: Group, learner: Learner, environment: EnvironmentSection | None
) -> Iterator[InitErrorDetails]:
    for name in _OF_ALL:
        if name in group.learner:
            yield problem(
                "is one for all agents: set it in [learner]", "groups", number, "learner", name
            )
    if environment is None and group.environment:
        reason = "the scenario has no [environment] whose options these could replace"
        yield problem(reason, "groups", number, "environment")
        return
    yield from _problems_of(("groups", number, "learner"), lambda: _learner(group, learner))
    path = ("groups", number, "environment")
    wrong = [*_problems_of(path, lambda: _environment(group, environment))]
    yield from wrong
    made = None if wrong else _environment(group, environment)
    if made is not None and group.environment:
        try:
            known = made.rule.spec.physics
        except ScenarioError as error:
            for line in error.problems:
                key, _, reason = line.partition(": ")
                yield problem(reason, *path, *key.split(".")[1:])
            return
        for name in made.vary:
            if name not in known:
                yield problem(
                    f"{made.id} has nothing of this name{did_you_mean(name, known)}",
                    *path,
                    "vary",
                    name,
                )


def _problems_of(
    path: tuple[str | int, ...], make: Callable[[], object]
) -> Iterator[InitErrorDetails]:
    """Yield the problems that `make` raises, each with its place within `path`."""
    try:
        make()
    except ValidationError as error:
        for found in details(error):
            yield InitErrorDetails(
                type=found["type"], loc=(*path, *found["loc"]), input=found["input"]
            )
