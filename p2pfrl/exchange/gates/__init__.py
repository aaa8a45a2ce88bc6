"""Whether an agent sends this round. `RULES` maps the names of scenario files to classes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from p2pfrl.core.members import Members

if TYPE_CHECKING:
    from p2pfrl.exchange.gates.base import Gate

RULES: Members[Gate] = Members(
    __name__,
    {
        "none": "base:Always",
        "always": "base:Always",
        "every": "events:Every",
        "norm": "events:Norm",
        "lag": "events:Lag",
        "performance": "events:Performance",
        "reached": "events:Reached",
        "news": "events:News",
    },
)
