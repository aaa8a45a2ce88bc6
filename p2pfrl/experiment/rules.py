"""Rules from Python that take the place of those of a scenario."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from operator import attrgetter
from typing import Any, TypedDict, cast

from pydantic import ValidationError

from p2pfrl.catalog import kind_of
from p2pfrl.consensus.aggregators.base import Aggregator
from p2pfrl.consensus.mixing.base import Mixing
from p2pfrl.consensus.participation.base import Participation
from p2pfrl.consensus.schedules.base import ScheduleRule
from p2pfrl.consensus.server_optimizers.base import ServerOptimizer
from p2pfrl.consensus.topologies.base import Topology
from p2pfrl.core.contract import described
from p2pfrl.core.errors import ScenarioError
from p2pfrl.core.modules import giving, is_of_package, is_place, place_of
from p2pfrl.core.options import slot_of
from p2pfrl.core.problems import phrases
from p2pfrl.core.tables import plain
from p2pfrl.core.wording import show
from p2pfrl.exchange.compressors.base import Compressor
from p2pfrl.exchange.gates.base import Gate
from p2pfrl.exchange.privacy.base import Privacy
from p2pfrl.learning.corrections.base import Correction
from p2pfrl.learning.learners.base import Learner
from p2pfrl.learning.personal.base import Personal
from p2pfrl.scenario import Scenario

Named = str | Mapping[str, object] | None
"""The name of a rule, or its table such as {"kind": "laplacian", "alpha": 0.1}; None: leave it."""


class Rules(TypedDict, total=False):
    """Rules by axis: a rule from Python, the name of one, or its table."""

    mixing: Mixing | Named
    topology: Topology | Named
    schedule: ScheduleRule | Named
    gate: Gate | Named
    compressor: Compressor | Named
    privacy: Privacy | Named
    correction: Correction | Named
    personal: Personal | Named
    aggregator: Aggregator | Named
    server_optimizer: ServerOptimizer | Named
    participation: Participation | Named


class AllRules(Rules, total=False):
    """Rules by axis, the learner too: a class that is a `LocalLearner` will do.

    `policy` is a `torch.nn.Module`, its class or "module:Class", for the learner's `policy`.
    """

    learner: Learner | type | Named
    policy: type | str | None


_PLACES = {"aggregator": "coordinator", "server_optimizer": "coordinator"}
_PLACES["participation"] = "coordinator"
"""Axis -> the section of the scenario that has its rule; "" for the scenario itself."""


def with_rules(scenario: Scenario, given: Rules) -> Scenario:
    """Return the scenario with the rules that were given in place of its own.

    Raises:
        ScenarioError: an argument is no axis, or not a rule of that axis.
    """
    for axis, value in given.items():
        if axis not in AllRules.__annotations__:
            known = ", ".join(AllRules.__annotations__)
            other = f"other keys are overrides: p2pfrl.load(FILE, overrides={{{axis!r}: ...}})"
            raise ScenarioError([f"{axis}: expected the name of an axis: {known}; {other}"])
        if value is None or axis == "policy":
            continue
        section = _PLACES.get(axis, "")
        place = f"{section}.{axis}".lstrip(".")
        owner = attrgetter(section)(scenario) if section else scenario
        scenario = _with(scenario, section, axis, _rule(type(owner), axis, place, value))
    policy: object = given.get("policy")
    return scenario if policy is None else _with_policy(scenario, policy)


def _with_policy(scenario: Scenario, policy: object) -> Scenario:
    """Return the scenario with a network of the user's own in its learner.

    Raises:
        ScenarioError: it is no class, or the learner has layers of its own alone.
    """
    if not isinstance(policy, type | str):
        fix = "give its class, which is made anew for every agent"
        what = f"expected a class of torch.nn.Module, got {described(policy)}; {fix}"
        raise ScenarioError([f"policy: {what}"])
    if not hasattr(scenario.learner, "policy") or isinstance(scenario.learner.policy, property):
        kind = kind_of("learners", scenario.learner)
        raise ScenarioError(
            [f"policy: learner {kind!r} takes none; ppo, a2c, reinforce, dqn, sac and td3 do"]
        )
    place = place_of(policy) if isinstance(policy, type) else policy
    changed: Any = scenario.learner
    return replace(scenario, learner=replace(changed, policy=place))


@contextmanager
def knowing_learner(given: AllRules, *, text: str | bytes = "") -> Iterator[None]:
    """In the block, let a learner's or network's class that is given from Python be found.

    Args:
        given: rules by axis.
        text: a recorded scenario whose learner and network these are, whatever they were called
            there.
    """
    learner, policy = given.get("learner"), given.get("policy")
    content = tomllib.loads(text if isinstance(text, str) else text.decode())
    recorded = content.get("learner", {})
    names: dict[str, object] = {}
    for target, keys in (
        (type(learner) if isinstance(learner, Learner) else learner, ("make", "kind")),
        (policy, ("policy",)),
    ):
        if not isinstance(target, type) or is_of_package(target):
            continue
        names[place_of(target)] = target
        place = next((recorded[key] for key in keys if key in recorded), None)
        if isinstance(place, str) and is_place(place):
            names[place] = target
    with giving(names):
        yield


def recorded_otherwise(given: AllRules) -> AllRules:
    """Return the rules that a recorded scenario does not name itself, within `knowing_learner`.

    It has the options of a learner of which the class is given, and the network of its learner.
    """
    is_class = isinstance(given.get("learner"), type)
    found = {axis: value for axis, value in given.items() if axis != "policy"}
    return cast("AllRules", {a: v for a, v in found.items() if a != "learner" or not is_class})


def _with(scenario: Scenario, section: str, axis: str, rule: object) -> Scenario:
    """Return the scenario with another rule of an axis."""
    change: dict[str, Any] = {axis: rule}
    if section:
        change = {section: replace(getattr(scenario, section), **change)}
    return replace(scenario, **change)


def left_out(given: Rules) -> dict[str, None]:
    """Return overrides that leave out the rules of a scenario for which others were given.

    Learner and network stay, because what else the scenario says depends on them.
    """
    return {
        f"{_PLACES.get(axis, '')}.{axis}".lstrip("."): None
        for axis, value in given.items()
        if value is not None and axis not in ("learner", "policy")
    }


def _rule(owner: type, axis: str, place: str, given: object) -> object:
    """Return the rule that a caller means.

    Raises:
        ScenarioError: it is none of this axis.
    """
    value = {"kind": given} if isinstance(given, str) else given
    if axis == "learner" and not isinstance(given, Learner | Mapping | str):
        from p2pfrl.learning.learners.local import LocalLearner

        if isinstance(given, LocalLearner):
            what = f"got one {described(given)}; give its class, which is made anew for every agent"
            raise ScenarioError([f"{place}: {what}"])
        if isinstance(given, type) and issubclass(given, LocalLearner):
            value = {"kind": "local", "make": place_of(given)}
    if isinstance(value, type | int | float | list | tuple):
        what = f"the class {value.__name__}" if isinstance(value, type) else show(value)
        raise ScenarioError([f"{place}: expected a rule, or the name of one, got {what}"])
    try:
        found: object = slot_of(owner, axis).read(
            plain(value) if isinstance(value, Mapping) else value
        )
    except ValidationError as error:
        lines = phrases(owner, error)
        raise ScenarioError([f"{place}.{line}".replace(".: ", ": ", 1) for line in lines]) from None
    return found
