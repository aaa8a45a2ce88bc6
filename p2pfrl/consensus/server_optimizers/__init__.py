"""How a coordinator's model moves. `RULES` maps the names of scenario files to classes."""

from __future__ import annotations

from p2pfrl.consensus.server_optimizers.base import Replace, ServerOptimizer, StalenessMix, State

RULES: dict[str, type[ServerOptimizer]] = {"replace": Replace, "staleness_mix": StalenessMix}

__all__ = ["RULES", "Replace", "ServerOptimizer", "StalenessMix", "State"]
