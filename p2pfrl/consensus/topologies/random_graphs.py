"""Random graphs, drawn once from (seed, "topology") and static from then on.

A draw that is not connected is discarded, and the next one is drawn from the stream (seed,
"topology", attempt). After 100 draws the options are refused. The accepted draw is a pure function
of (options, n, seed).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

import numpy as np
from pydantic import Field

from p2pfrl.consensus.topologies.base import Topology, require, sizes
from p2pfrl.core.errors import TopologyError
from p2pfrl.core.graph import Graph, undirected
from p2pfrl.core.lazy import LazyModule
from p2pfrl.core.rng import Purpose, generator, key
from p2pfrl.core.rule import rule
from p2pfrl.core.units import Seconds

if TYPE_CHECKING:
    import networkx as nx
    from scipy import spatial
else:
    nx = LazyModule("networkx")
    spatial = LazyModule("scipy.spatial")

_ATTEMPTS = 100


@rule
class ErdosRenyi(Topology):
    """Every pair is an edge with the same probability, independently: G(n, p), if connected.

    Attributes:
        probability: probability of an edge; None takes min(1, 2 ln(n) / n), twice the threshold of
            connectivity.

    Reference: Gilbert, Random graphs, Annals of Mathematical Statistics 30, 1959; generator:
        Batagelj, Brandes, Efficient generation of large random networks, Physical Review E 71,
        2005.
    """

    probability: float | None = Field(default=None, gt=0, le=1)

    def at(self, n: int, seed: int, round: int) -> Graph:
        """Return the graph.

        Raises:
            TopologyError: no draw was connected.
        """
        p = min(1.0, 2 * math.log(n) / n) if self.probability is None else self.probability
        advice = f"raise topology.probability above ln(n)/n = {math.log(n) / n:.3g} (it is {p:.3g})"
        return _connected(
            n,
            lambda attempt: nx.fast_gnp_random_graph(n, p, seed=_number(seed, attempt)).edges,
            advice,
        )


@rule
class RandomRegular(Topology):
    """A uniformly random graph in which every agent has the same number of neighbors.

    It is an expander with high probability.

    Attributes:
        degree: neighbors per agent.

    Reference: Steger, Wormald, Generating random regular graphs quickly, Combinatorics, Probability
        and Computing 8, 1999; Friedman, A proof of Alon's second eigenvalue conjecture, 2003, arXiv
        cs/0405020.
    """

    degree: int = Field(default=4, ge=1)

    def at(self, n: int, seed: int, round: int) -> Graph:
        """Return the graph.

        Raises:
            TopologyError: no such graph exists, or no draw was connected.
        """

        def fits(m: int) -> bool:
            return m > self.degree and m * self.degree % 2 == 0 and (self.degree > 1 or m == 2)

        require(
            fits(n),
            f"topology.degree: no connected graph of {n} agents gives each {self.degree} neighbors (it takes more "
            f"agents than that, and an even number where the degree is odd): {sizes(n, fits)} agents would fit",
        )
        advice = "raise topology.degree"
        return _connected(
            n,
            lambda attempt: (
                nx.random_regular_graph(self.degree, n, seed=_number(seed, attempt)).edges
            ),
            advice,
        )


@rule
class WattsStrogatz(Topology):
    """A ring lattice of `neighbors` nearest neighbors, each edge rewired with probability `rewire`.

    Attributes:
        neighbors: neighbors of every agent before rewiring; even.
        rewire: probability per edge.

    Reference: Watts, Strogatz, Collective dynamics of small-world networks, Nature 393, 1998.
    """

    neighbors: int = Field(default=4, ge=2, multiple_of=2)
    rewire: float = Field(default=0.1, ge=0, le=1)

    def at(self, n: int, seed: int, round: int) -> Graph:
        """Return the graph.

        Raises:
            TopologyError: there are too few agents, or no draw was connected.
        """
        require(
            n > self.neighbors,
            f"topology.neighbors: {self.neighbors} neighbors need at least {self.neighbors + 1} agents, got {n}",
        )
        return _connected(
            n,
            lambda attempt: (
                nx.watts_strogatz_graph(
                    n, self.neighbors, self.rewire, seed=_number(seed, attempt)
                ).edges
            ),
            "raise topology.neighbors",
        )


@rule
class BarabasiAlbert(Topology):
    """Agents join one by one and attach to `attach` earlier ones, in proportion to their degrees.

    A few agents become hubs.

    Attributes:
        attach: edges of every new agent.

    Reference: Barabasi, Albert, Emergence of scaling in random networks, Science 286, 1999, arXiv
    cond-mat/9910332.
    """

    attach: int = Field(default=2, ge=1)

    def at(self, n: int, seed: int, round: int) -> Graph:
        """Return the graph.

        Raises:
            TopologyError: there are too few agents.
        """
        require(
            n > self.attach,
            f"topology.attach: {self.attach} needs at least {self.attach + 1} agents, got {n}",
        )
        return _connected(
            n,
            lambda attempt: (
                nx.barabasi_albert_graph(n, self.attach, seed=_number(seed, attempt)).edges
            ),
            "lower it",
        )


@rule
class RandomGeometric(Topology):
    """Agents at uniform points of the unit square exchange within `radius` of each other.

    Attributes:
        radius: range of an agent; None takes 1.5 sqrt(ln(n) / (pi n)), 1.5 times the threshold of
            connectivity.
        latency_per_unit: latency of a link of length 1; 0 leaves latencies to the scenario's
            network.

    Reference: Gupta, Kumar, Critical power for asymptotic connectivity in wireless networks, 1998;
        Boyd, Ghosh, Prabhakar, Shah, IEEE Trans. Information Theory 52(6), 2006 (gossip on it).
    """

    radius: float | None = Field(default=None, gt=0)
    latency_per_unit: Seconds = 0.0

    def at(self, n: int, seed: int, round: int) -> Graph:
        """Return the graph with its positions.

        Raises:
            TopologyError: no draw was connected.
        """
        threshold = math.sqrt(math.log(n) / (math.pi * n))
        radius = 1.5 * threshold if self.radius is None else self.radius

        def edges(attempt: int) -> Iterable[tuple[int, int]]:
            pairs = spatial.cKDTree(_points(n, seed, attempt)).query_pairs(
                radius, output_type="ndarray"
            )
            return [(int(i), int(j)) for i, j in pairs]

        advice = (
            f"raise topology.radius above sqrt(ln(n)/(pi n)) = {threshold:.3g} (it is {radius:.3g})"
        )
        graph, attempt = _first_connected(n, edges, advice)
        points = _points(n, seed, attempt)
        latency = {}
        if self.latency_per_unit:
            latency = {
                (i, j): self.latency_per_unit * math.dist(points[i], points[j])
                for i, j in graph.edges
            }
        return Graph(
            graph.successors, latency, positions=tuple((float(x), float(y)) for x, y in points)
        )


def _points(n: int, seed: int, attempt: int) -> np.ndarray[tuple[int, int], np.dtype[np.float64]]:
    return generator(seed, Purpose.TOPOLOGY, attempt).random((n, 2))


def _number(seed: int, attempt: int) -> int:
    return int.from_bytes(key(seed, "topology", attempt), "little")


def _connected(n: int, edges: Callable[[int], Iterable[tuple[int, int]]], advice: str) -> Graph:
    return _first_connected(n, edges, advice)[0]


def _first_connected(
    n: int, edges: Callable[[int], Iterable[tuple[int, int]]], advice: str
) -> tuple[Graph, int]:
    for attempt in range(_ATTEMPTS):
        graph = undirected(n, edges(attempt))
        if graph.is_connected:
            return graph, attempt
    raise TopologyError(f"{_ATTEMPTS} random graphs of {n} agents were all disconnected: {advice}")
