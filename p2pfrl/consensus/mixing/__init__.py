"""How an agent combines its own parameters with its neighbors'. `RULES` maps the names of scenario files to classes."""

from __future__ import annotations

from p2pfrl.consensus.mixing.base import Mixing, State, Weights
from p2pfrl.consensus.mixing.linear import Metropolis

RULES: dict[str, type[Mixing]] = {
    "metropolis": Metropolis,
}

__all__ = ["RULES", "Mixing", "State", "Weights"]
