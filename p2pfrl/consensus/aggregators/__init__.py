"""Aggregators of a coordinator. `RULES` maps the names of scenario files to classes."""

from __future__ import annotations

from p2pfrl.consensus.aggregators.base import Aggregator, Arrived, Memory
from p2pfrl.consensus.aggregators.importance import Importance
from p2pfrl.consensus.aggregators.latest import Latest
from p2pfrl.consensus.aggregators.mean import Mean
from p2pfrl.consensus.aggregators.mixture import Mixture
from p2pfrl.consensus.aggregators.natural import Natural
from p2pfrl.consensus.aggregators.optimistic import Optimistic

RULES: dict[str, type[Aggregator]] = {
    "mean": Mean,
    "latest": Latest,
    "importance": Importance,
    "natural": Natural,
    "mixture": Mixture,
    "optimistic": Optimistic,
}

__all__ = ["RULES", "Aggregator", "Arrived", "Importance", "Mean", "Memory"]
