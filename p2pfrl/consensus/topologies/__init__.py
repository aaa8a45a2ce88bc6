"""Topologies, round by round. `RULES` maps the names of scenario files to classes."""

from __future__ import annotations

from p2pfrl.consensus.topologies.base import Topology, TopologyView
from p2pfrl.consensus.topologies.exponential import Exponential, OnePeerExponential
from p2pfrl.consensus.topologies.file import File
from p2pfrl.consensus.topologies.hubs import Complete, Dumbbell, Star, Tree
from p2pfrl.consensus.topologies.lattices import Grid, Hypercube, Torus
from p2pfrl.consensus.topologies.lines import DirectedRing, Path, Ring
from p2pfrl.consensus.topologies.matchings import RandomMatchings
from p2pfrl.consensus.topologies.random_graphs import (
    BarabasiAlbert,
    ErdosRenyi,
    RandomGeometric,
    RandomRegular,
    WattsStrogatz,
)

RULES: dict[str, type[Topology]] = {
    "ring": Ring,
    "path": Path,
    "star": Star,
    "complete": Complete,
    "grid": Grid,
    "torus": Torus,
    "hypercube": Hypercube,
    "tree": Tree,
    "dumbbell": Dumbbell,
    "erdos_renyi": ErdosRenyi,
    "random_regular": RandomRegular,
    "watts_strogatz": WattsStrogatz,
    "barabasi_albert": BarabasiAlbert,
    "random_geometric": RandomGeometric,
    "exponential": Exponential,
    "one_peer_exponential": OnePeerExponential,
    "random_matchings": RandomMatchings,
    "directed_ring": DirectedRing,
    "file": File,
}

__all__ = ["RULES", "Topology", "TopologyView"]
