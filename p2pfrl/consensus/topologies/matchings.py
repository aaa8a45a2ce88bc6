"""Random matchings: in every round each agent has one partner."""

from __future__ import annotations

from typing_extensions import override

from p2pfrl.consensus.topologies.base import Topology
from p2pfrl.consensus.topologies.hubs import Complete
from p2pfrl.core.graph import Graph, undirected
from p2pfrl.core.rng import Purpose, generator
from p2pfrl.core.rule import rule


@rule
class RandomMatchings(Topology):
    """In every round the agents form uniformly random pairs. If n is odd, one agent sits out.

    The pairs of round t depend on (seed, t) and n only. With Metropolis weights partners average,
    1/2 each.

    Reference: Boyd, Ghosh, Prabhakar, Shah, Randomized gossip algorithms, IEEE Trans. Information
        Theory 52(6), 2006 (synchronous gossip); Wang, Sahu, Yang, Joshi, Kar, MATCHA, 2019, arXiv
        1905.09435.
    """

    def period(self, n: int) -> int | None:
        """Return None, because every round is random.

        1 for one or two agents, which have one matching.
        """
        return None if n > 2 else 1

    @override
    def at(self, n: int, seed: int, round: int) -> Graph:
        order = [int(i) for i in generator(seed, Purpose.MATCHING, round).permutation(n)]
        return undirected(n, zip(order[::2], order[1::2], strict=False))

    def union(self, n: int, seed: int) -> Graph:
        """Return the complete graph, because every pair meets in some round."""
        return Complete().at(n, seed, 0)
