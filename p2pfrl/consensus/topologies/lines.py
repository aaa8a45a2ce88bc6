"""Agents in a row: ring, path and directed ring."""

from __future__ import annotations

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
        """Return the cycle 0, 1, ..., n - 1, 0; two agents share one edge, one agent has none."""
        return undirected(n, ((i, (i + 1) % n) for i in range(n if n > 1 else 0)))


@rule
class Path(Topology):
    """Agent i exchanges with i - 1 and i + 1, where they exist.

    Reference: Xiao, Boyd, Fast linear iterations for distributed averaging, Systems & Control
    Letters 53, 2004.
    """

    def at(self, n: int, seed: int, round: int) -> Graph:
        """Return the path 0, 1, ..., n - 1."""
        return undirected(n, ((i, i + 1) for i in range(n - 1)))


@rule
class DirectedRing(Topology):
    """Agent i sends to i + 1 (mod n) and hears i - 1: every agent has one edge in and one out.

    Reference: Assran, Loizou, Ballas, Rabbat, Stochastic gradient push for distributed deep
        learning, ICML 2019, arXiv 1811.10792.
    """

    def at(self, n: int, seed: int, round: int) -> Graph:
        """Return the directed cycle."""
        return directed(n, ((i, (i + 1) % n) for i in range(n if n > 1 else 0)))
