"""Graphs of agents in a row: ring, path and directed ring."""

from __future__ import annotations

from typing_extensions import override

from p2pfrl.consensus.topologies.base import Topology
from p2pfrl.core.graph import Graph, directed, undirected
from p2pfrl.core.rule import rule


@rule
class Ring(Topology):
    """Agent i exchanges with i - 1 and i + 1 (mod n).

    With Metropolis weights lambda_2 = 1/3 + 2/3 cos(2 pi / n): the gap shrinks like 1/n^2.

    Reference: Xiao, Boyd, Fast linear iterations for distributed averaging, Systems & Control
    Letters 53, 2004.
    """

    def at(self, n: int, seed: int, round: int) -> Graph:
        """Return the cycle 0, 1, ..., n - 1, 0.

        Two agents have one edge, and one agent has none.
        """
        return undirected(n, ((i, (i + 1) % n) for i in range(n if n > 1 else 0)))


@rule
class Path(Topology):
    """Agent i exchanges with agents i - 1 and i + 1, if they exist.

    Reference: Xiao, Boyd, Fast linear iterations for distributed averaging, Systems & Control
    Letters 53, 2004.
    """

    @override
    def at(self, n: int, seed: int, round: int) -> Graph:
        return undirected(n, ((i, i + 1) for i in range(n - 1)))


@rule
class DirectedRing(Topology):
    """Agent i sends to i + 1 (mod n) and receives from i - 1.

    Reference: Assran, Loizou, Ballas, Rabbat, Stochastic gradient push for distributed deep
        learning, ICML 2019, arXiv 1811.10792.
    """

    @override
    def at(self, n: int, seed: int, round: int) -> Graph:
        return directed(n, ((i, (i + 1) % n) for i in range(n if n > 1 else 0)))
