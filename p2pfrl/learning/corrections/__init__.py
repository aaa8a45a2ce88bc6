"""Hooks into the local update. `RULES` maps the names of scenario files to classes."""

from __future__ import annotations

from p2pfrl.learning.corrections.base import Again, Correction, State, Uncorrected
from p2pfrl.learning.corrections.lookahead import Lookahead

RULES: dict[str, type[Correction]] = {"none": Uncorrected, "lookahead": Lookahead}

__all__ = ["RULES", "Again", "Correction", "Lookahead", "State", "Uncorrected"]
