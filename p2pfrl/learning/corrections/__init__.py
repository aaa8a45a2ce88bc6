"""Hooks into the local update. `RULES` maps the names of scenario files to classes."""

from __future__ import annotations

from p2pfrl.learning.corrections.base import Again, Correction, State, Uncorrected

RULES: dict[str, type[Correction]] = {"none": Uncorrected}

__all__ = ["RULES", "Again", "Correction", "State", "Uncorrected"]
