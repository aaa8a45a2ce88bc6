"""How a coordinator's model moves. `RULES` maps the names of scenario files to classes."""

from __future__ import annotations

from p2pfrl.consensus.server_optimizers.base import Replace, ServerOptimizer, StalenessMix, State
from p2pfrl.consensus.server_optimizers.momentum import Sgd

RULES: dict[str, type[ServerOptimizer]] = {"replace": Replace, "staleness_mix": StalenessMix, "sgd": Sgd}

__all__ = ["RULES", "Replace", "ServerOptimizer", "Sgd", "StalenessMix", "State"]
