"""Section `[environment]`: id, number of copies, differences between agents, and options."""

from __future__ import annotations

import dataclasses
from collections.abc import Container, Mapping
from functools import partial
from typing import Annotated, Literal, cast

from pydantic import Field, ValidationError
from pydantic.json_schema import JsonSchemaValue

from p2pfrl.catalog import table
from p2pfrl.core.distributions.base import Distribution
from p2pfrl.core.errors import P2PFRLError
from p2pfrl.core.modules import is_of_package, place_of
from p2pfrl.core.options import Rule, Slot, construct, dump, options_of, schema_of
from p2pfrl.core.problems import details, problem, refuse
from p2pfrl.core.rule import rule
from p2pfrl.core.wording import did_you_mean, show
from p2pfrl.learning.drifts.base import Drift
from p2pfrl.learning.environments.base import Problem
from p2pfrl.scenario.numbers import Number


@rule
class OwnKeys:
    """Keys of the section beside the options of the environment.

    Attributes:
        id: name of an environment, or any Gymnasium id, or "module:Class" of a user's own.
        instances: parallel copies per agent.
        vary: a distribution over agents for each physical quantity that differs between them.
        opponents: whom an agent meets in a shared world. present: the other members, which train
            together with it and wait for each other. last_known: copies of them with the last
            parameters that it has heard of them, in a world of its own (self-play); at first they
            have its own start parameters. Nobody waits, and members may live in different
            processes; an update computes all members of the world. Evaluation is that of the
            members against each other in both.
        privacy_weight: lambda of r - lambda c, from which agents learn instead of r. c is the
            environment's measure `privacy_cost`, what others learn from the step. Returns and
            evaluations are those of r.
        drift: a drift for each physical quantity that changes over the updates of an agent.
        kwargs_vary: a distribution over agents for each argument of the environment's own
            constructor that differs between them. Sizes are found with the constructor's default or
            the value in `kwargs`, and must be the same for all agents.
    """

    id: str
    instances: int = Field(default=4, ge=1, le=65536)
    opponents: Literal["present", "last_known"] = "present"
    privacy_weight: float = Field(default=0.0, ge=0)
    vary: dict[str, Annotated[Distribution, Number()]] = Field(default_factory=dict)
    drift: dict[str, Annotated[Drift, Rule("drifts", partial(table, "drifts"))]] = Field(
        default_factory=dict
    )
    kwargs_vary: dict[str, Annotated[Distribution, Number()]] = Field(default_factory=dict)


@rule
class EnvironmentSection(OwnKeys):
    """The environment of the agents.

    Attributes:
        rule: the environment with its options, which are keys of this section.
    """

    rule: Annotated[Problem, Slot(Problem)]

    @property
    def is_self_play(self) -> bool:
        """Whether agents play against what they know of the other members of their world."""
        return self.opponents == "last_known"

    @property
    def members(self) -> int:
        """Number of agents that train together; 1 if each has an environment of its own."""
        return 1 if self.is_self_play else self.rule.spec.members


def _meant(key: str, known: Mapping[str, object], physics: Container[str]) -> str:
    """Return what an unknown key was meant to be: a known one, or an option of the constructor."""
    if key in physics and "kwargs" in known:
        after = f"'environment.vary.{key}', which is set after it"
        return f"; did you mean 'environment.kwargs.{key}', for the constructor, or {after}?"
    if key in physics:
        return f"; did you mean 'environment.vary.{key}'?"
    hint = did_you_mean(key, known)
    if "kwargs" in known and "did you mean" not in hint:
        return "; what the environment's own constructor takes is set in environment.kwargs"
    return hint


def _physics(rule: type, preset: Mapping[str, object]) -> Container[str]:
    """Return what can be varied; nothing where only a valid table of the environment says it."""
    try:
        return cast("Problem", construct(rule, preset)).spec.physics
    except (ValidationError, P2PFRLError):
        return ()


class EnvironmentSlot(Slot):
    """Annotation of the `[environment]` section: all other keys are options of the environment."""

    def __init__(self) -> None:
        super().__init__(EnvironmentSection)

    def short(self, value: object) -> object:
        """Return None for a scenario without an environment."""
        return None if value is None else super().short(value)

    def make(self, value: Mapping[str, object]) -> object:
        """Return the section that a table describes."""
        names = [field.name for field in dataclasses.fields(OwnKeys)]
        own = {name: option for name, option in value.items() if name in names}
        options = {name: option for name, option in value.items() if name not in names}
        name = own.get("id")
        if not isinstance(name, str):
            got = f"got {show(name)}" if "id" in own else "it is missing"
            raise refuse(
                problem(f'expected the name of an environment such as "CartPole-v1", {got}', "id")
            )
        from p2pfrl.learning.environments.registry import resolve

        try:
            found = resolve(name)
        except P2PFRLError as error:
            raise refuse(
                problem(str(error).removeprefix("environment.id: "), "id", value=name)
            ) from error
        if not found.rule.varies_arguments and own.get("kwargs_vary"):
            options["kwargs_vary"] = own.pop("kwargs_vary")
            names.remove("kwargs_vary")
        known = {**options_of(found.rule), **dict.fromkeys(names)}
        strays = [key for key in options if key not in known]
        physics = _physics(found.rule, found.preset) if strays else ()
        problems = [
            problem(f"unknown key{_meant(key, known, physics)}", key, value=options.pop(key))
            for key in strays
        ]
        try:
            made: object = construct(found.rule, {**found.preset, **options})
        except ValidationError as error:
            problems += details(error)
        try:
            section = construct(OwnKeys, own)
        except ValidationError as error:
            problems += details(error)
        if problems:
            raise refuse(*problems)
        return EnvironmentSection(
            rule=made,  # type: ignore[arg-type]
            id=section.id,
            instances=section.instances,
            opponents=section.opponents,
            privacy_weight=section.privacy_weight,
            vary=section.vary,
            drift=section.drift,
            kwargs_vary=section.kwargs_vary,
        )

    def dump(self, value: object) -> object:
        """Return the table that `make` would read as `value`."""
        assert isinstance(value, EnvironmentSection)
        own = dump(value)
        own.pop("rule")
        if not value.kwargs_vary:  # most environments have no constructor of their own
            own.pop("kwargs_vary")
        if not value.is_self_play:  # nor other members
            own.pop("opponents")
        if not value.privacy_weight:  # nor anything that others learn
            own.pop("privacy_weight")
        if not is_of_package(type(value.rule)):
            own["id"] = place_of(type(value.rule))
        options: dict[str, object] = (
            dump(value.rule) if dataclasses.is_dataclass(value.rule) else {}
        )
        return {**{name: option for name, option in options.items() if name not in own}, **own}

    def json_schema(self) -> JsonSchemaValue:
        """Return the schema of the section's own keys.

        It allows other keys: the environment's options.
        """
        from p2pfrl.core.docs import summary

        schema = schema_of(OwnKeys)
        schema["description"] = summary(EnvironmentSection.__doc__)
        schema["additionalProperties"] = True
        rules = table("environments")
        schema["anyOf"] = [
            {
                "properties": {"id": {"const": name}, **schema_of(cls).get("properties", {})},
                "title": name,
            }
            for name, cls in rules.items()
        ] + [{"properties": {"id": {"type": "string"}}, "title": "any Gymnasium id"}]
        return schema
