"""Graphs of small diameter: star, complete graph, tree and dumbbell."""

from __future__ import annotations

from itertools import combinations

from pydantic import Field
from typing_extensions import override

from p2pfrl.consensus.topologies.base import Topology, require
from p2pfrl.core.graph import Graph, undirected
from p2pfrl.core.rule import rule


@rule
class Star(Topology):
    """Agent 0 exchanges with every other agent: the graph of a server that also learns.

    With Metropolis weights lambda_2 = 1 - 1/n.

    Reference: Xiao, Boyd, Fast linear iterations for distributed averaging, Systems & Control
    Letters 53, 2004.
    """

    @override
    def at(self, n: int, seed: int, round: int) -> Graph:
        return undirected(n, ((0, i) for i in range(1, n)))


@rule
class Complete(Topology):
    """Every agent exchanges with every other.

    With uniform weights one round averages exactly, as a server does.

    Reference: Xiao, Boyd, Fast linear iterations for distributed averaging, Systems & Control
    Letters 53, 2004.
    """

    @override
    def at(self, n: int, seed: int, round: int) -> Graph:
        everyone = tuple(range(n))  # the numbers of all edges are these objects
        return Graph(tuple(everyone[:i] + everyone[i + 1 :] for i in range(n)))


@rule
class Tree(Topology):
    """Agent i exchanges with its parent (i - 1) // branching.

    The tree is complete, and its last level is filled from the left.

    Attributes:
        branching: children per agent.

    Reference: Vogels, He, Koloskova, Lin, Karimireddy, Stich, Jaggi, RelaySum for decentralized
        deep learning on heterogeneous data, NeurIPS 2021, arXiv 2110.04175.
    """

    branching: int = Field(default=2, ge=1)

    @override
    def at(self, n: int, seed: int, round: int) -> Graph:
        return undirected(n, (((i - 1) // self.branching, i) for i in range(1, n)))


@rule
class Dumbbell(Topology):
    """Two cliques, agents 0..n//2 - 1 and the others, joined by a few bridges: a bottleneck.

    Attributes:
        bridges: edges between the cliques; bridge k joins agent n//2 - 1 - k to agent n//2 + k.

    Reference: He, Karimireddy, Jaggi, Byzantine-robust decentralized learning via ClippedGossip,
        2022, arXiv 2202.01545.
    """

    bridges: int = Field(default=1, ge=1)

    def at(self, n: int, seed: int, round: int) -> Graph:
        """Return the dumbbell.

        Raises:
            TopologyError: a clique is smaller than the number of bridges.
        """
        half = n // 2
        if n == 1:
            return undirected(1, ())
        require(
            self.bridges <= half,
            f"topology.bridges: a dumbbell of {n} agents has a clique of {half}, so at most {half} bridges fit; got "
            f"{self.bridges}: lower it, or take at least {2 * self.bridges} agents",
        )
        cliques = [*combinations(range(half), 2), *combinations(range(half, n), 2)]
        return undirected(n, [*cliques, *((half - 1 - k, half + k) for k in range(self.bridges))])
