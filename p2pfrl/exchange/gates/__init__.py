"""Whether an agent sends this round. `RULES` maps the names of scenario files to classes."""

from __future__ import annotations

from p2pfrl.exchange.gates.base import Always, Gate, State

RULES: dict[str, type[Gate]] = {"none": Always, "always": Always}

__all__ = ["RULES", "Always", "Gate", "State"]
