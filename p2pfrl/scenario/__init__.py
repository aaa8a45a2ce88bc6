"""Scenario files: one TOML file describes one experiment.

Names are imported when they are first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from p2pfrl.scenario.json_schema import schema
    from p2pfrl.scenario.loader import load, loads
    from p2pfrl.scenario.modes import MODES
    from p2pfrl.scenario.render import hash8, resolved
    from p2pfrl.scenario.sections import Scenario
    from p2pfrl.scenario.template import new

__all__ = ["MODES", "Scenario", "hash8", "load", "loads", "new", "resolved", "schema"]

_HOME = {
    "MODES": "modes",
    "Scenario": "sections",
    "hash8": "render",
    "load": "loader",
    "loads": "loader",
    "new": "template",
    "resolved": "render",
    "schema": "json_schema",
}


def __getattr__(name: str) -> Any:
    """Return a name, imported from its module."""
    if name not in _HOME:
        raise AttributeError(f"module 'p2pfrl.scenario' has no attribute {name!r}")
    value = getattr(import_module(f"p2pfrl.scenario.{_HOME[name]}"), name)
    globals()[name] = value
    return value
