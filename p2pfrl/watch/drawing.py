"""The graph of a run as a page draws it: places, edges, and cells where there are many agents."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from p2pfrl.core.graph import Graph
from p2pfrl.core.types import name_of
from p2pfrl.results.plots.graph import joined, pairs_of, places
from p2pfrl.watch.tails import rounded

SINGLE = 1500
"""Number of agents above which cells of the plane are drawn in place of agents."""
_SIDE = 24
_EDGES = 4000
"""Number of edges above which only some are drawn."""


@dataclass(frozen=True)
class Picture:
    """What is drawn of a graph.

    Attributes:
        section: the graph as JSON.
        cells: agent -> its cell; None if every agent is drawn.
        note: what is thinned or aggregated; "" if nothing is.
    """

    section: dict[str, Any]
    cells: NDArray[np.int64] | None
    note: str

    def values(self, by_agent: Sequence[float | None]) -> list[float | None]:
        """Return a number per mark: of the agent, or the mean of the agents of a cell."""
        if self.cells is None:
            return list(by_agent)
        known = np.array([math.nan if v is None else v for v in by_agent], dtype=np.float64)
        is_known = np.isfinite(known)
        size = int(self.cells.max()) + 1
        sums = np.bincount(self.cells[is_known], known[is_known], size)
        counts = np.bincount(self.cells[is_known], minlength=size)
        with np.errstate(invalid="ignore", divide="ignore"):
            return [rounded(v) for v in (sums / counts).tolist()]


def picture(graph: Graph, coordinators: Mapping[int, tuple[int, ...]], kind: str) -> Picture:
    """Return what is drawn of a graph that a topology of this kind has made.

    At most `SINGLE` agents are drawn as marks with edges between them; of more, the plane is
    divided into cells, and each has the mean of its agents.
    """
    n = graph.n
    where = _unit(places(graph, coordinators, kind))
    base: dict[str, Any] = {
        "agents": n,
        "coordinators": list(coordinators),
        "names": [str(name_of(id)) for id in coordinators],
    }
    if n > SINGLE:
        return _cells(base, where[:n])
    drawn = joined(graph, coordinators)
    edges, note = pairs_of(drawn, kind)
    if len(edges) > _EDGES:
        shown = [edges[int(k * len(edges) / _EDGES)] for k in range(_EDGES)]
        note, edges = f"{_EDGES:,} of {len(edges):,} edges are drawn", shown
    section = {
        **base,
        "x": [round(x, 4) for x in where[:, 0].tolist()],
        "y": [round(y, 4) for y in where[:, 1].tolist()],
        "edges": [place for edge in edges for place in edge],
        "labels": list(graph.labels),
    }
    return Picture(section, None, note)


def _cells(base: dict[str, Any], where: NDArray[np.float64]) -> Picture:
    """Return the cells of a square grid over the plane that have agents."""
    grid = np.minimum((where * _SIDE).astype(np.int64), _SIDE - 1)
    keys, cells, counts = np.unique(
        grid[:, 1] * _SIDE + grid[:, 0], return_inverse=True, return_counts=True
    )
    section = {
        **base,
        "x": [round((key % _SIDE + 0.5) / _SIDE, 4) for key in keys.tolist()],
        "y": [round((key // _SIDE + 0.5) / _SIDE, 4) for key in keys.tolist()],
        "counts": counts.tolist(),
        "cell": 1 / _SIDE,
        "edges": [],
        "labels": [],
    }
    note = (
        f"{base['agents']:,} agents are drawn as {len(keys)} cells of {int(np.median(counts))} or so: "
        "a cell has the mean of its agents; edges and messages are not drawn"
    )
    return Picture(section, cells.reshape(-1).astype(np.int64), note)


def _unit(where: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return positions in the unit square, of equal scale on both axes, y downward."""
    low, high = where.min(axis=0), where.max(axis=0)
    span = max(float((high - low).max()), 1e-9)
    inside = (where - (low + high) / 2) / span + 0.5
    inside[:, 1] = 1 - inside[:, 1]
    clipped: NDArray[np.float64] = np.clip(inside, 0.0, 1.0)
    return clipped
