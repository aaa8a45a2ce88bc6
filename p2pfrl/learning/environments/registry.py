"""Environment ids: our own names, Gymnasium's names for the same tasks, and other ids."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches

from p2pfrl.core.errors import P2PFRLError
from p2pfrl.core.modules import MissingClassError, find_object, is_place
from p2pfrl.learning.environments import RULES
from p2pfrl.learning.environments.base import Problem
from p2pfrl.learning.environments.ids import PETTINGZOO


@dataclass(frozen=True)
class Resolved:
    """The environment behind an id.

    Attributes:
        rule: the class of the environment; its fields are the options that a scenario may set.
        preset: options that the id fixes unless the scenario sets them.
    """

    rule: type[Problem]
    preset: Mapping[str, object] = field(default_factory=dict)


ALIASES: dict[str, tuple[str, Mapping[str, object]]] = {
    "CartPole-v0": ("cartpole", {"max_steps": 200}),
    "CartPole-v1": ("cartpole", {"max_steps": 500}),
    "Pendulum-v1": ("pendulum", {"max_steps": 200}),
    "Acrobot-v1": ("acrobot", {"max_steps": 500}),
    "MountainCar-v0": ("mountain_car", {"max_steps": 200}),
    "MountainCarContinuous-v0": ("mountain_car_continuous", {"max_steps": 999}),
}
"""Gymnasium's name -> our name of the same task, and the options that the id fixes."""
_GYMNASIUM = re.compile(r"[\w:./-]+-v\d+|[\w.]+:[\w:./-]+|[\w.-]+/[\w.-]+")
_PETTINGZOO = re.compile(r"[\w.]+_v\d+")


def resolve(id: str) -> Resolved:
    """Return the rule class and preset options of environment `id`.

    >>> resolve("CartPole-v0").preset["max_steps"], resolve("Taxi-v4").rule.__name__
    (200, 'Gym')

    Raises:
        P2PFRLError: it is neither one of our names nor formed like a Gymnasium id, or the module
            that it names has nothing of this name.
    """
    if id in RULES:
        return Resolved(RULES[id])
    if id in ALIASES:
        name, preset = ALIASES[id]
        return Resolved(RULES[name], preset)
    if id.startswith(PETTINGZOO):
        from p2pfrl.learning.environments.zoo import PettingZoo

        return Resolved(PettingZoo, {"id": id})
    if is_place(id) and (own := _own(id)) is not None:
        return Resolved(own)
    if is_place(id) or _GYMNASIUM.fullmatch(id):
        from p2pfrl.learning.environments.gym import Gym

        return Resolved(Gym, {"id": id})
    lower = {name.lower(): name for name in (*ALIASES, *RULES)}
    close = get_close_matches(id.lower(), lower, n=1)
    hint = f"; did you mean {lower[close[0]]!r}?" if close else ""
    if _PETTINGZOO.fullmatch(id):
        hint = f"; one of PettingZoo is named 'pettingzoo:{id}'"
    raise P2PFRLError(
        f"environment.id: expected one of {', '.join(RULES)}, or a Gymnasium id such as 'CartPole-v1', got {id!r}{hint}"
    )


def _own(place: str) -> type[Problem] | None:
    """Return a user's class of array environments at "module:Class"; None for another id.

    Raises:
        P2PFRLError: there is nothing at the place that could be an environment.
    """
    try:
        found = find_object(place)
    except MissingClassError:
        return None  # an id that the module registers, or nothing: who makes it says so
    except ValueError as error:
        raise P2PFRLError(f"environment.id: {error}") from error
    return found if isinstance(found, type) and issubclass(found, Problem) else None
