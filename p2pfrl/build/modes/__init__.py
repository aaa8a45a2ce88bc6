"""Builders of modes: name in scenario files -> what makes its participants."""

from __future__ import annotations

from typing import TYPE_CHECKING

from p2pfrl.core.members import Members

if TYPE_CHECKING:
    from p2pfrl.build.modes.base import ModeBuilder

BUILDERS: Members[ModeBuilder] = Members(
    __name__,
    {
        "gossip": "gossip:GossipBuilder",
        "central": "central:CentralBuilder",
        "hierarchical": "hierarchical:HierarchicalBuilder",
        "independent": "independent:IndependentBuilder",
        "pooled": "pooled:PooledBuilder",
    },
)
