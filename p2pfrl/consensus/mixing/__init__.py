"""How an agent combines its own parameters with its neighbors'. `RULES` maps the names of scenario files to classes."""

from __future__ import annotations

from p2pfrl.consensus.mixing.base import Mixing, State, Weights, weighted_sum
from p2pfrl.consensus.mixing.linear import Laplacian, Lazy, Metropolis, Uniform

RULES: dict[str, type[Mixing]] = {
    "metropolis": Metropolis,
    "laplacian": Laplacian,
    "uniform": Uniform,
    "lazy": Lazy,
}

__all__ = ["RULES", "Metropolis", "Mixing", "State", "Weights", "weighted_sum"]
