"""Whether an agent sends this round. `RULES` maps the names of scenario files to classes."""

from __future__ import annotations

from p2pfrl.exchange.gates.base import Always, Gate, State
from p2pfrl.exchange.gates.events import Every, Lag, News, Norm, Performance

RULES: dict[str, type[Gate]] = {
    "none": Always,
    "always": Always,
    "every": Every,
    "norm": Norm,
    "lag": Lag,
    "performance": Performance,
    "news": News,
}

__all__ = ["RULES", "Always", "Gate", "State"]
