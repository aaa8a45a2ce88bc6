"""Scenario files: one TOML file describes one experiment."""

from p2pfrl.scenario.load import load, loads
from p2pfrl.scenario.render import hash8, resolved
from p2pfrl.scenario.schema import schema
from p2pfrl.scenario.sections import MODES, Scenario
from p2pfrl.scenario.template import new

__all__ = ["MODES", "Scenario", "hash8", "load", "loads", "new", "resolved", "schema"]
