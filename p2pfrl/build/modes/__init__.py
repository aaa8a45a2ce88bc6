"""Builders of modes: name in scenario files -> what makes its participants."""

from __future__ import annotations

from collections.abc import Mapping

from p2pfrl.build.modes.base import ModeBuilder
from p2pfrl.build.modes.central import CentralBuilder
from p2pfrl.build.modes.gossip import GossipBuilder
from p2pfrl.build.modes.hierarchical import HierarchicalBuilder
from p2pfrl.build.modes.independent import IndependentBuilder
from p2pfrl.build.modes.pooled import PooledBuilder

BUILDERS: Mapping[str, ModeBuilder] = {
    builder.mode.name: builder
    for builder in (
        GossipBuilder(),
        CentralBuilder(),
        HierarchicalBuilder(),
        IndependentBuilder(),
        PooledBuilder(),
    )
}
