"""Topologies, round by round. `RULES` maps the names of scenario files to classes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from p2pfrl.core.members import Members

if TYPE_CHECKING:
    from p2pfrl.consensus.topologies.base import Topology

INNER: Members[Topology] = Members(
    __name__,
    {
        "ring": "lines:Ring",
        "path": "lines:Path",
        "star": "hubs:Star",
        "complete": "hubs:Complete",
        "grid": "lattices:Grid",
        "torus": "lattices:Torus",
        "hypercube": "lattices:Hypercube",
        "tree": "hubs:Tree",
        "dumbbell": "hubs:Dumbbell",
        "erdos_renyi": "random_graphs:ErdosRenyi",
        "random_regular": "random_graphs:RandomRegular",
        "watts_strogatz": "random_graphs:WattsStrogatz",
        "barabasi_albert": "random_graphs:BarabasiAlbert",
        "random_geometric": "random_graphs:RandomGeometric",
        "exponential": "exponential:Exponential",
        "one_peer_exponential": "exponential:OnePeerExponential",
        "random_matchings": "matchings:RandomMatchings",
        "directed_ring": "lines:DirectedRing",
    },
)
"""What `islands` can be made of: graphs of any number of agents, in one piece."""

RULES: Members[Topology] = INNER | Members(
    __name__, {"islands": "islands:Islands", "file": "file:File"}
)
