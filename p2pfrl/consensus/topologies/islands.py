"""Several graphs beside each other, without an edge between them."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field
from typing_extensions import override

from p2pfrl.consensus.topologies import INNER
from p2pfrl.consensus.topologies.base import Topology, require, sizes
from p2pfrl.consensus.topologies.lines import Ring
from p2pfrl.core.errors import TopologyError
from p2pfrl.core.graph import Graph
from p2pfrl.core.options import Rule
from p2pfrl.core.rule import rule


@rule
class Islands(Topology):
    """Groups of equally many agents; each has the same graph within, and no edge to the others.

    Agents of a shared world that exchange within their world have islands of consecutive agents, as
    many as worlds. Where members have roles and only those of one role may average, they have
    islands of alternate agents, as many as members. |lambda_2| = 1: islands never agree.

    Reference: Tanese, "Distributed genetic algorithms", ICGA 1989, there with rare migrations.

    Attributes:
        count: number of islands.
        agents: consecutive: island i has agents i n/count to (i+1) n/count - 1; alternate: it has
            agents i, i + count, i + 2 count, ...
        graph: of one island.
    """

    count: int = Field(default=2, ge=2)
    agents: Literal["consecutive", "alternate"] = "consecutive"
    graph: Annotated[Topology, Rule("topologies", lambda: INNER, "ring")] = Field(
        default_factory=Ring
    )

    @property
    @override
    def islands(self) -> int:
        return self.count

    @override
    def period(self, n: int) -> int | None:
        return self.graph.period(max(1, n // self.count))

    @override
    def at(self, n: int, seed: int, round: int) -> Graph:
        return self._copied(n, self._of_one(n, seed, round))

    @override
    def union(self, n: int, seed: int) -> Graph:
        return self._copied(n, self.graph.union(n // self.count, seed))

    def _of_one(self, n: int, seed: int, round: int) -> Graph:
        """Return the graph of one island.

        Raises:
            TopologyError: agents cannot be dealt out equally, or the graph does not fit.
        """
        fit = sizes(n, lambda m: m % self.count == 0)
        require(
            n % self.count == 0,
            f"topology.count: {n} agents cannot form {self.count} equal islands; {fit} can",
        )
        try:
            return self.graph.at(n // self.count, seed, round)
        except TopologyError as error:
            _, key, reason = str(error).rpartition("topology.")
            raise TopologyError(f"topology.graph{'.' if key else ': '}{reason}") from error

    def _copied(self, n: int, graph: Graph) -> Graph:
        """Return `graph` once for each island."""
        receivers: list[tuple[int, ...]] = [()] * n
        latency: dict[tuple[int, int], float] = {}
        for island in range(self.count):
            ids = (
                range(island, n, self.count)
                if self.agents == "alternate"
                else range(island * graph.n, (island + 1) * graph.n)
            )
            for agent, heard in zip(ids, graph.successors, strict=True):
                receivers[agent] = tuple(ids[other] for other in heard)
            latency |= {(ids[i], ids[j]): seconds for (i, j), seconds in graph.latency.items()}
        return Graph(tuple(receivers), latency)
