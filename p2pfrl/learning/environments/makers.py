"""Makers of the environments of an id: a class or function of a user's, or Gymnasium.

An id is one of Gymnasium's, "module:id" of an id that a module registers, or "module:Name" of a
class or function in a module. From Python the class or function itself can be given.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Mapping
from importlib import import_module
from typing import TYPE_CHECKING

from p2pfrl.core.causes import foreign
from p2pfrl.core.errors import ScenarioError
from p2pfrl.core.lazy import LazyModule
from p2pfrl.core.modules import MissingClassError, find_object, is_place
from p2pfrl.core.wording import show
from p2pfrl.learning.environments.base import Problem
from p2pfrl.learning.environments.copies import reason

if TYPE_CHECKING:
    import gymnasium
else:
    gymnasium = LazyModule("gymnasium")

Maker = Callable[..., object]
COPIES, AGENT = "num_envs", "agent"
"""Parameters of a class or function that get the number of copies, and the agent."""
_MODULES = {
    r"ALE/": "ale_py",
    r"(MiniGrid|BabyAI)-": "minigrid",
    r"(highway|intersection|roundabout|merge|parking|racetrack|exit|u-turn|two-way|lane-keeping)-": (
        "highway_env"
    ),
    r"(Fetch|Hand|AntMaze|PointMaze|AdroitHand|FrankaKitchen)": "gymnasium_robotics",
    r"sumo-rl-": "sumo_rl",
    r"rware-": "rware",
    r"Foraging-": "lbforaging",
    r"PyFlyt/": "PyFlyt.gym_envs",
}
"""How ids begin -> the module that registers them."""


def maker_of(id: str) -> Maker | None:
    """Return the class or function at an id "module:Name"; None for an id of Gymnasium.

    Raises:
        ScenarioError: the module cannot be imported, or has nothing that makes environments.
    """
    if not is_place(id):
        return None
    try:
        found = find_object(id)
    except MissingClassError as error:
        name = id.partition(":")[2]
        if name in gymnasium.registry:
            return None
        raise ScenarioError([f"environment.id: {error}; and it registers no {name!r}"]) from error
    except ValueError as error:
        raise ScenarioError([f"environment.id: {error}"]) from error
    if not callable(found):
        expected = "expected a class or function that makes environments"
        raise ScenarioError([f"environment.id: {id!r} is {show(found)}; {expected}"])
    return found


def entry_of(id: str) -> object:
    """Return what makes the environment in the end, or None if it is not known.

    A class that is defined anew is another one.
    """
    module, _, name = id.rpartition(":")
    try:
        if module:
            import_module(module)
    except foreign():
        return None  # making it says why
    found = gymnasium.registry.get(name)
    return None if found is None else found.entry_point


def parameters_of(maker: Maker | str | None) -> Mapping[str, inspect.Parameter] | None:
    """Return the parameters of what makes an environment; None if they are not known."""
    try:
        if isinstance(maker, str):
            maker = gymnasium.envs.registration.load_env_creator(maker)
        return None if maker is None else inspect.signature(maker).parameters
    except foreign():
        return None


def call(
    maker: Maker, id: str, arguments: Mapping[str, object], *, agent: int, copies: int
) -> object:
    """Return what a class or function makes, for one agent.

    It is given the number of copies if it is a class of vector environments or has a parameter
    `num_envs`, and the agent if it has a parameter `agent` or just one that it cannot do without.

    Raises:
        ScenarioError: it returned nothing that can be stepped.
        Exception: whatever it raises.
    """
    known = parameters_of(maker) or {}
    own = dict(arguments)
    place: tuple[object, ...] = ()
    is_vector = isinstance(maker, type) and issubclass(maker, gymnasium.vector.VectorEnv)
    if COPIES in known or is_vector:
        own.setdefault(COPIES, copies)
    if AGENT in known:
        own.setdefault(AGENT, agent)
    elif not isinstance(maker, type):
        needed = [name for name, each in known.items() if _is_needed(each) and name not in own]
        place = (agent,) if len(needed) == 1 else ()
    made = maker(*place, **own)
    if isinstance(made, gymnasium.Env | gymnasium.vector.VectorEnv):
        return made
    if isinstance(made, Problem):
        fix = "name its class, or give it itself from Python"
        raise ScenarioError([f"environment.id: {id!r} made an environment of arrays; {fix}"])
    what = f"{id!r} made {show(made)}; expected an environment of Gymnasium"
    fix = (
        f"; one of PettingZoo is named 'pettingzoo:{id}'"
        if hasattr(made, "possible_agents")
        else ""
    )
    raise ScenarioError([f"environment.id: {what}{fix}"])


def hint(id: str) -> str:
    """Return how to write an id whose module is missing; "" if that is not known.

    >>> hint("ALE/Breakout-v5"), hint("ale_py:ALE/Breakout-v5")
    ('; write ale_py:ALE/Breakout-v5', '')
    """
    if ":" in id:
        return ""
    for start, module in _MODULES.items():
        if re.match(start, id):
            return f"; write {module}:{id}"
    return "; write MODULE:" + id + ", with the module that registers it" if "/" in id else ""


def unmade(id: str, kwargs: Mapping[str, object], error: BaseException) -> ScenarioError:
    """Return the error of an environment that could not be made."""
    if isinstance(error, gymnasium.error.Error):
        text = " ".join(str(error).split()).rstrip(".")
        missing = gymnasium.error.UnregisteredEnv
        more = hint(id) if isinstance(error, missing) else ""
        return ScenarioError([f"environment.id: Gymnasium cannot make {id!r}: {text}{more}"])
    where, given = (
        ("environment.kwargs", f" with {dict(kwargs)}") if kwargs else ("environment.id", "")
    )
    who = f"{id!r} cannot be made" if is_place(id) else f"Gymnasium cannot make {id!r}"
    fix = "; a list is one value for all agents; environment.kwargs_vary gives each its own"
    is_list = any(isinstance(value, list | tuple) for value in kwargs.values())
    return ScenarioError([f"{where}: {who}{given}: {reason(error)}{fix if is_list else ''}"])


def _is_needed(parameter: inspect.Parameter) -> bool:
    kinds = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    return parameter.default is inspect.Parameter.empty and parameter.kind in kinds
