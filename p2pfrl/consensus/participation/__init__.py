"""Participation in rounds. `RULES` maps the names of scenario files to classes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from p2pfrl.core.members import Members

if TYPE_CHECKING:
    from p2pfrl.consensus.participation.base import Participation

RULES: Members[Participation] = Members(
    __name__,
    {
        "all": "base:All",
        "uniform": "selection:Uniform",
        "poisson": "independent:Poisson",
        "weighted": "selection:Weighted",
        "power_of_choice": "selection:PowerOfChoice",
        "round_robin": "selection:RoundRobin",
        "capable": "capable:Capable",
        "lag": "lag:Lag",
    },
)
