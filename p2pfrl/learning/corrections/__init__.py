"""Hooks into the local update. `RULES` maps the names of scenario files to classes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from p2pfrl.core.members import Members

if TYPE_CHECKING:
    from p2pfrl.learning.corrections.base import Correction

RULES: Members[Correction] = Members(
    __name__,
    {
        "none": "base:Uncorrected",
        "lookahead": "lookahead:Lookahead",
        "prox": "prox:Prox",
        "control_variate": "variates:ControlVariate",
        "residual_variate": "variates:ResidualVariate",
        "storm": "variance:Storm",
        "page": "variance:Page",
        "guide": "guide:Guide",
        "maml": "meta:MAML",
    },
)
