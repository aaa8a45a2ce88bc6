"""Exponential graphs: hops of 1, 2, 4, ... along a ring, all at once or one per round."""

from __future__ import annotations

from typing_extensions import override

from p2pfrl.consensus.topologies.base import Topology
from p2pfrl.core.graph import Graph, directed
from p2pfrl.core.rule import rule


def hops(n: int) -> int:
    """Return ceil(log2 n), the number of hops 2^k below n."""
    return (n - 1).bit_length()


@rule
class Exponential(Topology):
    """Agent i receives from i + 2^k (mod n) for k = 0..ceil(log2 n) - 1.

    The graph is directed, with equal in-degrees and out-degrees. With uniform weights and n = 2^k
    agents, |lambda_2| = (k - 1) / (k + 1).

    Reference: Ying, Yuan, Chen, Hu, Pan, Yin, Exponential graph is provably efficient for
        decentralized deep training, NeurIPS 2021, arXiv 2110.13363 (equation 5).
    """

    @override
    def at(self, n: int, seed: int, round: int) -> Graph:
        return directed(n, (((i + (1 << k)) % n, i) for i in range(n) for k in range(hops(n))))


@rule
class OnePeerExponential(Topology):
    """In round t agent i receives from i + 2^(t mod ceil(log2 n)) (mod n) only.

    With uniform weights, 1/2 each, log2 n rounds average exactly if and only if n is a power of
    two.

    Reference: Ying, Yuan, Chen, Hu, Pan, Yin, Exponential graph is provably efficient for
        decentralized deep training, NeurIPS 2021, arXiv 2110.13363 (equation 7); Assran, Loizou,
        Ballas, Rabbat, ICML 2019, arXiv 1811.10792.
    """

    def period(self, n: int) -> int:
        """Return ceil(log2 n), or 1 for one agent."""
        return max(1, hops(n))

    @override
    def at(self, n: int, seed: int, round: int) -> Graph:
        hop = 1 << round % self.period(n)
        return directed(n, (((i + hop) % n, i) for i in range(n if n > 1 else 0)))
