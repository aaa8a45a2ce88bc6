"""Who sends to whom, in every round. `RULES` maps the names of scenario files to classes."""

from __future__ import annotations

from p2pfrl.consensus.topologies.base import Topology, TopologyView
from p2pfrl.consensus.topologies.lines import DirectedRing, Path, Ring

RULES: dict[str, type[Topology]] = {
    "ring": Ring,
    "path": Path,
    "directed_ring": DirectedRing,
}

__all__ = ["RULES", "Topology", "TopologyView"]
