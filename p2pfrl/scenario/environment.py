"""The `[environment]` section: an id, copies, what varies over agents, and the environment's own options beside them."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import Field, ValidationError

from p2pfrl.core.distributions import Distribution
from p2pfrl.core.options import Slot, construct, details, problem, refuse, show
from p2pfrl.core.rule import rule
from p2pfrl.learning.environments.base import Environment
from p2pfrl.scenario.numbers import Number


@rule
class _Own:
    id: str
    instances: int = Field(default=4, ge=1, le=65536)
    vary: dict[str, Annotated[Distribution, Number()]] = Field(default_factory=dict)


@rule
class EnvironmentSection(_Own):
    """What agents act in.

    Attributes:
        id: name of an environment, or any Gymnasium id.
        instances: parallel copies per agent.
        vary: a distribution over agents for each physical quantity that differs between them.
        rule: the environment with its options; these stand beside `id` in the file.
    """

    rule: Annotated[Environment, Slot(Environment)]


class EnvironmentSlot(Slot):
    """Annotation of the `[environment]` section: keys that are not the section's own are the environment's options."""

    def __init__(self) -> None:
        super().__init__(EnvironmentSection)

    def short(self, value: object) -> object:
        """Return nothing for a scenario without environment."""
        return None if value is None else super().short(value)

    def make(self, value: Mapping[str, object]) -> object:
        """Return the section that a table describes."""
        names = [field.name for field in dataclasses.fields(_Own)]
        own = {name: option for name, option in value.items() if name in names}
        name = own.get("id")
        if not isinstance(name, str):
            got = f"got {show(name)}" if "id" in own else "it is missing"
            raise refuse(problem(f'expected the name of an environment such as "CartPole-v1", {got}', "id"))
        cls, preset = resolve(name)
        problems = []
        try:
            made = construct(cls, {**preset, **{k: option for k, option in value.items() if k not in names}})
        except ValidationError as error:
            problems += details(error)
        try:
            section = construct(_Own, own)
        except ValidationError as error:
            problems += details(error)
        if problems:
            raise refuse(*problems)
        return EnvironmentSection(id=section.id, rule=made, instances=section.instances, vary=section.vary)


def resolve(name: str) -> tuple[type[Any], Mapping[str, object]]:
    """Return the class that an id means, and the options that the id implies."""
    from p2pfrl.learning.environments.cartpole import CartPole

    return CartPole, {}
