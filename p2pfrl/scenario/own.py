"""Environments of some agents of a scenario, opened before the scenario is checked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from pydantic import ValidationError

from p2pfrl.core.errors import P2PFRLError
from p2pfrl.core.finder import is_file
from p2pfrl.core.located import Located
from p2pfrl.learning.environments.base import ARGUMENTS, Problem
from p2pfrl.learning.environments.gym import Gym
from p2pfrl.scenario.bind import drawn
from p2pfrl.scenario.environment import EnvironmentSection, EnvironmentSlot
from p2pfrl.scenario.layers import read


def open_own(
    path: str | Path, overrides: Mapping[str, object] | None, agents: Sequence[int]
) -> None:
    """Find the sizes of the environments of `agents`, so that others need not be opened for them.

    A scenario that is not valid is left for `load`, which says why.
    """
    try:
        layers = read(path, overrides)
    except P2PFRLError:
        return
    base, groups = layers.values.get("environment"), layers.values.get("groups", [])
    source = Path(layers.place(("environment", "kwargs"))[0])
    source = source if is_file(source) else Path(layers.main)
    seed, total = layers.values.get("seed", 0), layers.values.get("agents", 1)
    for agent in agents:
        folder = source.parent if is_file(source) else None
        _find(_table(base, groups, agent), folder, agent, seed, total)


def _table(base: object, groups: object, agent: int) -> dict[str, object]:
    """Return the section `[environment]` of one agent."""
    own = dict(base) if isinstance(base, Mapping) else {}
    for group in groups if isinstance(groups, list) else ():
        members = group.get("agents") if isinstance(group, Mapping) else None
        changed = group.get("environment", {}) if isinstance(group, Mapping) else {}
        if isinstance(members, list) and agent in members and isinstance(changed, Mapping):
            is_other = changed.get("id", own.get("id")) != own.get("id")
            own = {**({} if is_other else own), **changed}
    return own


def _find(
    table: dict[str, object], folder: Path | None, agent: int, seed: object, total: object
) -> None:
    """Open the environment of an agent, with its own arguments of the constructor."""
    try:
        made = EnvironmentSlot().make(table)
        assert isinstance(made, EnvironmentSection)
        rule: object = made.rule
        if isinstance(rule, Gym) and isinstance(seed, int) and isinstance(total, int):
            own = drawn(made, seed, [agent], total)
            values = {name.removeprefix(ARGUMENTS): float(x[0]) for name, x in own.items()}
            rule = rule.with_arguments(values)
        if isinstance(rule, Located):
            rule.locate(folder)
        assert isinstance(rule, Problem)
        _ = rule.spec
    except (ValidationError, P2PFRLError):
        return
