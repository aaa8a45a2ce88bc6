"""Mixing rules of an agent. `RULES` maps the names of scenario files to classes."""

from __future__ import annotations

from p2pfrl.consensus.mixing.accelerated import Chebyshev
from p2pfrl.consensus.mixing.base import Mixing, State, Weights, weighted_sum
from p2pfrl.consensus.mixing.choco import Choco
from p2pfrl.consensus.mixing.linear import MATRICES, Metropolis
from p2pfrl.consensus.mixing.pairwise import Pairwise
from p2pfrl.consensus.mixing.push_sum import PushSum
from p2pfrl.consensus.mixing.tracking import Extra, GradientTracking

RULES: dict[str, type[Mixing]] = {
    **MATRICES,
    "chebyshev": Chebyshev,
    "push_sum": PushSum,
    "gradient_tracking": GradientTracking,
    "extra": Extra,
    "choco": Choco,
    "pairwise": Pairwise,
}

__all__ = ["RULES", "Metropolis", "Mixing", "State", "Weights", "weighted_sum"]
