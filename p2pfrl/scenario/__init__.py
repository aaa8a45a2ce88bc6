"""Scenario files: one TOML file describes one experiment."""

from p2pfrl.scenario.load import load, loads
from p2pfrl.scenario.sections import MODES, Scenario

__all__ = ["MODES", "Scenario", "load", "loads"]
