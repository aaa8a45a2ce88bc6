"""Who takes part in a round. `RULES` maps the names of scenario files to classes."""

from __future__ import annotations

from p2pfrl.consensus.participation.base import All, Participation, Standing, Uniform

RULES: dict[str, type[Participation]] = {"all": All, "uniform": Uniform}

__all__ = ["RULES", "All", "Participation", "Standing", "Uniform"]
