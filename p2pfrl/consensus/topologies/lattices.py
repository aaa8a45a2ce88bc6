"""Regular lattices: grid, torus and hypercube."""

from __future__ import annotations

import math

from pydantic import Field

from p2pfrl.consensus.topologies.base import Topology, require, sizes
from p2pfrl.core.errors import TopologyError
from p2pfrl.core.graph import Graph, undirected
from p2pfrl.core.rule import rule


@rule
class Grid(Topology):
    """A rows x columns grid: agent r * columns + c exchanges with its up to four grid neighbors.

    Attributes:
        rows: number of rows; None takes the largest divisor of n up to its square root.

    Reference: Boyd, Ghosh, Prabhakar, Shah, Randomized gossip algorithms, IEEE Trans. Information
    Theory 52(6), 2006.
    """

    rows: int | None = Field(default=None, ge=2)

    def at(self, n: int, seed: int, round: int) -> Graph:
        """Return the grid.

        Raises:
            TopologyError: n is not rows x columns with at least two of each.
        """
        rows, columns = shape(n, self.rows, "grid")
        across = (
            (r * columns + c, r * columns + c + 1) for r in range(rows) for c in range(columns - 1)
        )
        down = (
            (r * columns + c, (r + 1) * columns + c)
            for r in range(rows - 1)
            for c in range(columns)
        )
        return undirected(n, [*across, *down])


@rule
class Torus(Topology):
    """A rows x columns grid whose opposite sides meet: four neighbors per agent.

    A side of two gives one edge, not two.

    Attributes:
        rows: number of rows; None takes the largest divisor of n up to its square root.

    Reference: Lian, Zhang, Zhang, Hsieh, Zhang, Liu, Can decentralized algorithms outperform
        centralized algorithms?, NeurIPS 2017, arXiv 1705.09056; as a graph for CHOCO: Koloskova,
        Stich, Jaggi, ICML 2019, arXiv 1902.00340.
    """

    rows: int | None = Field(default=None, ge=2)

    def at(self, n: int, seed: int, round: int) -> Graph:
        """Return the torus.

        Raises:
            TopologyError: n is not rows x columns with at least two of each.
        """
        rows, columns = shape(n, self.rows, "torus")
        across = (
            (r * columns + c, r * columns + (c + 1) % columns)
            for r in range(rows)
            for c in range(columns)
        )
        down = (
            (r * columns + c, (r + 1) % rows * columns + c)
            for r in range(rows)
            for c in range(columns)
        )
        return undirected(n, [*across, *down] if n > 1 else ())


@rule
class Hypercube(Topology):
    """Agents whose ids differ in one bit exchange: log2(n) neighbors each.

    Reference: Ying, Yuan, Chen, Hu, Pan, Yin, Exponential graph is provably efficient for
        decentralized deep training, NeurIPS 2021, arXiv 2110.13363 (table 1).
    """

    def at(self, n: int, seed: int, round: int) -> Graph:
        """Return the hypercube.

        Raises:
            TopologyError: n is not a power of two.
        """
        require(
            n.bit_count() == 1,
            f"a hypercube has a power of two of agents, got {n}: {sizes(n, lambda m: m.bit_count() == 1)} would fit",
        )
        return undirected(
            n, ((i, i ^ 1 << bit) for i in range(n) for bit in range(n.bit_length() - 1))
        )


def shape(n: int, rows: int | None, family: str) -> tuple[int, int]:
    """Return (rows, columns) of n agents.

    Raises:
        TopologyError: n is not a product of at least two rows and two columns.
    """
    if n == 1 and rows is None:
        return 1, 1
    if rows is None:
        best = largest_divisor(n)
        if best < 2:
            fitting = sizes(n, lambda m: largest_divisor(m) >= 2)
            raise TopologyError(
                f"a {family} needs rows x columns agents, two of each at least, and {n} does not divide: "
                f"{fitting} would fit"
            )
        return best, n // best
    if n % rows or n < 2 * rows:
        fitting = sizes(n, lambda m: m % rows == 0 and m >= 2 * rows)
        raise TopologyError(
            f"topology.rows: {n} agents do not make a {family} of {rows} rows with two columns at least: "
            f"{fitting} would fit"
        )
    return rows, n // rows


def largest_divisor(n: int) -> int:
    """Return the largest divisor of n that is at most sqrt(n)."""
    return next(k for k in range(math.isqrt(n), 0, -1) if n % k == 0)
