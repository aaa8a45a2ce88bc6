"""Participation in rounds. `RULES` maps the names of scenario files to classes."""

from __future__ import annotations

from p2pfrl.consensus.participation.base import All, Participation, Standing, Uniform
from p2pfrl.consensus.participation.lag import Lag
from p2pfrl.consensus.participation.selection import PowerOfChoice, RoundRobin, Weighted

RULES: dict[str, type[Participation]] = {
    "all": All,
    "uniform": Uniform,
    "weighted": Weighted,
    "power_of_choice": PowerOfChoice,
    "round_robin": RoundRobin,
    "lag": Lag,
}

__all__ = [
    "RULES",
    "All",
    "Lag",
    "Participation",
    "PowerOfChoice",
    "RoundRobin",
    "Standing",
    "Uniform",
    "Weighted",
]
