"""Environments that are given from Python, in place of the scenario's own."""

from __future__ import annotations

import sys
import tomllib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from typing import Any, TypeAlias

from pydantic import ValidationError

from p2pfrl.core.errors import ScenarioError
from p2pfrl.core.located import Located
from p2pfrl.core.modules import giving
from p2pfrl.core.options import construct, slot_of
from p2pfrl.core.problems import phrases
from p2pfrl.core.tables import plain
from p2pfrl.core.wording import show
from p2pfrl.learning.environments.base import Problem
from p2pfrl.learning.environments.ids import id_of
from p2pfrl.scenario.checks.sections import check
from p2pfrl.scenario.environment import EnvironmentSection, OwnKeys
from p2pfrl.scenario.sections import Scenario

Given: TypeAlias = "Problem | type | Callable[..., object] | str | Mapping[str, object]"
"""An environment of arrays, a class or function that makes environments, an id, or a table."""


@contextmanager
def knowing(given: Given | None, *, text: str | bytes = "") -> Iterator[None]:
    """In the block, let the id of what is given from Python be found.

    Args:
        given: as for `with_environment`.
        text: a recorded scenario whose environment this is, whatever it was called there.
    """
    if given is None or isinstance(given, str | Mapping):
        yield
        return
    target = type(given) if isinstance(given, Problem) else given
    names = {_name(given): target}
    if text:
        recorded = (
            tomllib.loads(text if isinstance(text, str) else text.decode())
            .get("environment", {})
            .get("id")
        )
        names |= {recorded: target} if isinstance(recorded, str) else {}
    with giving(names):
        yield


def with_environment(
    scenario: Scenario, given: Given | None, vary: Mapping[str, object] | None
) -> Scenario:
    """Return a scenario with another environment, or other physics; within `knowing`.

    The number of instances stays. What the scenario says on the physics of its own environment
    does not hold for another one.

    Args:
        scenario: with or without an environment.
        given: the environment; None: the scenario's own.
        vary: the physics that differ between agents, as in `[environment.vary]`.

    Raises:
        ScenarioError: there is no such environment, or it does not fit the scenario.
    """
    if given is None and vary is None:
        return scenario
    own = scenario.environment
    if given is None:
        if own is None:
            raise ScenarioError(["vary: the scenario has no environment"])
        made = replace(own, vary=_vary(own.id, vary or {}))
    else:
        made = _section(given, own, vary or {})
    with _phrased():
        changed = replace(scenario, environment=made)
    if problems := check(changed):
        raise ScenarioError([f"{'.'.join(map(str, path))}: {text}" for path, text in problems])
    return changed


def _section(
    given: Given, own: EnvironmentSection | None, vary: Mapping[str, object]
) -> EnvironmentSection:
    """Return the section of an environment."""
    shared: dict[str, object] = {} if own is None else {"instances": own.instances}
    if isinstance(given, type) and issubclass(given, Problem):
        given = given()
    if isinstance(given, Problem):
        with _phrased():
            keys = construct(OwnKeys, {"id": _name(given), **shared, "vary": plain(vary)})
        return EnvironmentSection(rule=given, id=keys.id, instances=keys.instances, vary=keys.vary)
    table: dict[str, object] = dict(given) if isinstance(given, Mapping) else {"id": given}
    if not isinstance(table.get("id"), str):
        table["id"] = _callable(given)
    if vary:
        table["vary"] = {**vary}
    with _phrased():
        made = slot_of(Scenario, "environment").read(plain({**shared, **table}))
    assert isinstance(made, EnvironmentSection)
    theirs: object = None if own is None else own.rule
    rule: object = made.rule
    if isinstance(rule, Located) and isinstance(theirs, Located):
        rule.locate(theirs.folder)
    return made


def _callable(given: object) -> str:
    """Return the id of a class or function.

    Raises:
        ScenarioError: it is neither.
    """
    gymnasium = sys.modules.get("gymnasium")
    fix = "give its class, or a function that makes one: environment=lambda agent: MyEnv()"
    if gymnasium is not None and isinstance(given, gymnasium.Env | gymnasium.vector.VectorEnv):
        what = "one environment, and every agent needs copies of its own"
        raise ScenarioError([f"environment: got {show(given)}, {what}; {fix}"])
    if not callable(given):
        expected = "expected an environment of arrays, a class or function that makes environments, or an id"
        raise ScenarioError([f"environment: {expected}, got {show(given)}"])
    return _name(given)


def _name(given: Any) -> str:
    """Return the place of what is given, which is its id in the record."""
    if isinstance(given, Problem):
        from p2pfrl.catalog import kind_of

        return kind_of("environments", given)
    if isinstance(given, partial):
        given = given.func
    return id_of(given if hasattr(given, "__qualname__") else type(given))


def _vary(id: str, vary: Mapping[str, object]) -> Any:
    with _phrased():
        return construct(OwnKeys, {"id": id, "vary": plain(vary)}).vary


@contextmanager
def _phrased() -> Iterator[None]:
    """In the block, let problems of options be those of the scenario's section."""
    try:
        yield
    except ValidationError as error:
        lines = phrases(Scenario, error)
        raise ScenarioError(
            [f"environment.{line}".replace(".: ", ": ", 1) for line in lines]
        ) from None
