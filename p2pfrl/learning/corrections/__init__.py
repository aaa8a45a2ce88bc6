"""Hooks into the local update. `RULES` maps the names of scenario files to classes."""

from __future__ import annotations

from p2pfrl.learning.corrections.base import Again, Correction, State, Uncorrected
from p2pfrl.learning.corrections.guide import Guide
from p2pfrl.learning.corrections.lookahead import Lookahead
from p2pfrl.learning.corrections.meta import MAML
from p2pfrl.learning.corrections.prox import Prox
from p2pfrl.learning.corrections.variance import Storm
from p2pfrl.learning.corrections.variates import ControlVariate, ResidualVariate

RULES: dict[str, type[Correction]] = {
    "none": Uncorrected,
    "lookahead": Lookahead,
    "prox": Prox,
    "control_variate": ControlVariate,
    "residual_variate": ResidualVariate,
    "storm": Storm,
    "guide": Guide,
    "maml": MAML,
}

__all__ = [
    "MAML",
    "RULES",
    "Again",
    "ControlVariate",
    "Correction",
    "Guide",
    "Lookahead",
    "Prox",
    "ResidualVariate",
    "State",
    "Storm",
    "Uncorrected",
]
