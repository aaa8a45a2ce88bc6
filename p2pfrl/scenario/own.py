"""Environments of some agents of a scenario, opened before the scenario is checked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from pydantic import ValidationError

from p2pfrl.core.errors import P2PFRLError
from p2pfrl.core.finder import is_file
from p2pfrl.core.located import Located
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
    for agent in agents:
        _find(_table(base, groups, agent), source.parent if is_file(source) else None)


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


def _find(table: dict[str, object], folder: Path | None) -> None:
    try:
        made = EnvironmentSlot().make(table)
        assert isinstance(made, EnvironmentSection)
        if isinstance(made.rule, Located):
            made.rule.locate(folder)
        _ = made.rule.spec
    except (ValidationError, P2PFRLError):
        return
