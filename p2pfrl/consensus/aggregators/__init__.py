"""Aggregators of a coordinator. `RULES` maps the names of scenario files to classes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from p2pfrl.core.members import Members

if TYPE_CHECKING:
    from p2pfrl.consensus.aggregators.base import Aggregator

RULES: Members[Aggregator] = Members(
    __name__,
    {
        "mean": "mean:Mean",
        "preferred": "preferred:Preferred",
        "latest": "latest:Latest",
        "importance": "importance:Importance",
        "natural": "natural:Natural",
        "mixture": "mixture:Mixture",
        "distilled": "distilled:Distilled",
        "optimistic": "optimistic:Optimistic",
    },
)
