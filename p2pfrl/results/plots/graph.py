"""Communication graph, colored by the agents' final returns and distances to the average."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from numpy.typing import NDArray

from p2pfrl.core.graph import Graph
from p2pfrl.results.groups import Group, final_rows
from p2pfrl.results.plots.style import GRAY, INK, Drawing, panels

_MEANINGS = {
    "return": "Final return: each agent's own.",
    "disagreement": "Disagreement: the distance of an agent's parameters from the average of all.",
}
_LUMINANCE = np.array([0.299, 0.587, 0.114])  # of red, green and blue, ITU-R BT.601
_SPRINGS = 1500  # agents; with more a force-directed layout takes minutes
_VECTORS = 400  # agents; with more the SVG has marks and edges as pixels
_OUTLINED = 200  # agents; with more the marks have no outline


def graph(groups: Sequence[Group]) -> Drawing | None:
    """Draw the graph of one run, its agents colored by final return and by disagreement."""
    record = groups[0].first
    rows = final_rows(record)
    views = [
        (column, title, rows[column].astype(np.float64), colors)
        for column, title, colors in (
            ("return", "final return", "viridis"),
            ("disagreement", "disagreement: distance from the average", "YlOrBr"),
        )
        if column in rows and np.isfinite(rows[column].astype(np.float64)).any()
    ]
    if not views or record.graph.n < 2:
        return None
    positions = layout(record.graph)
    figure, axes = panels(len(views), size=(4.3, 4.0))
    for panel, (_, title, values, colors) in zip(axes, views, strict=True):
        _draw(figure, panel, record.graph, positions, rows["agent"], values, colors)
        panel.set_title(title)
    return Drawing(figure, _caption(record.graph, groups[0], [column for column, *_ in views]))


def layout(graph: Graph) -> NDArray[np.float64]:
    """Return `(n, 2)` positions: the graph's own, else a circle or a force-directed layout.

    Rings and complete graphs have a circle. More than 1500 agents are placed on Fermat's spiral in
    the order of their ids, which fills a disk evenly (Vogel, "A better way to construct the
    sunflower head", Mathematical Biosciences, 1979).
    """
    n = graph.n
    if len(graph.positions) == n:
        return np.array(graph.positions, dtype=np.float64)
    degrees = {
        len(set(s) | set(p)) for s, p in zip(graph.successors, graph.predecessors, strict=True)
    }
    if degrees == {0}:
        side = math.ceil(math.sqrt(n))
        return np.array([(i % side, -(i // side)) for i in range(n)], dtype=np.float64)
    if degrees <= {2, n - 1}:
        start = math.pi if n == 2 else math.pi / 2
        angles = start - 2 * math.pi * np.arange(n) / n
        return np.stack([np.cos(angles), np.sin(angles)], axis=1)
    if n > _SPRINGS:
        turns, radii = math.pi * (3 - math.sqrt(5)) * np.arange(n), np.sqrt(np.arange(n) / n)
        return np.stack([radii * np.cos(turns), radii * np.sin(turns)], axis=1)
    return _forces(graph)


def _forces(graph: Graph) -> NDArray[np.float64]:
    import networkx as nx

    drawn = nx.Graph()
    drawn.add_nodes_from(range(graph.n))
    drawn.add_edges_from(graph.edges)
    start = {
        i: (math.cos(2 * math.pi * i / graph.n), math.sin(2 * math.pi * i / graph.n))
        for i in range(graph.n)
    }
    if graph.n <= 150 and nx.is_connected(drawn):
        places = nx.kamada_kawai_layout(drawn, pos=start)
    else:
        places = nx.spring_layout(drawn, pos=start, seed=0, iterations=60)
    return np.array([places[i] for i in range(graph.n)], dtype=np.float64)


def _draw(
    figure: Figure,
    axes: Axes,
    graph: Graph,
    positions: NDArray[np.float64],
    agents: NDArray[np.int64],
    values: NDArray[np.float64],
    colors: str,
) -> None:
    n = graph.n
    pairs = sorted({(min(i, j), max(i, j)) for i, j in graph.edges})
    many = len(pairs)
    axes.add_collection(
        LineCollection(
            [positions[list(pair)] for pair in pairs],
            colors=GRAY,
            linewidths=1.0 if many < 200 else 0.5,
            alpha=max(0.08, min(0.6, 120 / max(many, 1))),
            zorder=1,
            rasterized=n > _VECTORS,
        )
    )
    by_agent = np.full(n, np.nan)
    known = (agents >= 0) & (agents < n)
    by_agent[agents[known]] = values[known]
    finite = np.isfinite(by_agent)
    size = float(np.clip(5200 / n, 14, 330))
    marks = axes.scatter(
        positions[finite, 0],
        positions[finite, 1],
        c=by_agent[finite],
        cmap=colors,
        s=size,
        edgecolors=GRAY,
        linewidths=0.8 if n <= _OUTLINED else 0,
        zorder=2,
        rasterized=n > _VECTORS,
    )
    axes.scatter(
        positions[~finite, 0],
        positions[~finite, 1],
        c="white",
        s=size,
        edgecolors=GRAY,
        linewidths=0.8 if n <= _OUTLINED else 0,
        zorder=2,
        rasterized=n > _VECTORS,
    )
    if n <= 40:
        _names(axes, graph, positions, marks.to_rgba(by_agent))
    axes.set_aspect("equal")
    middle, half = (
        (positions.max(axis=0) + positions.min(axis=0)) / 2,
        np.ptp(positions, axis=0) / 2,
    )
    half = np.maximum(half, 0.3 * half.max()) + 0.16 * half.max()
    axes.set_xlim(middle[0] - half[0], middle[0] + half[0])
    axes.set_ylim(middle[1] - half[1], middle[1] + half[1])
    axes.axis("off")
    bar = figure.colorbar(marks, ax=axes, shrink=0.75, aspect=28, pad=0.02)
    bar.outline.set_visible(False)
    bar.ax.tick_params(length=2)


def _names(
    axes: Axes,
    graph: Graph,
    positions: NDArray[np.float64],
    fills: NDArray[np.float64],
) -> None:
    """Write agent ids into the marks, and the names of a graph file beside them."""
    for agent, (x, y) in enumerate(positions.tolist()):
        dark = fills[agent, 3] > 0 and float(fills[agent, :3] @ _LUMINANCE) < 0.5
        axes.text(
            x,
            y,
            str(agent),
            ha="center",
            va="center",
            fontsize=7,
            color="white" if dark else INK,
            zorder=3,
        )
        if graph.labels:
            axes.annotate(
                graph.labels[agent],
                (x, y),
                (0, -12),
                textcoords="offset points",
                ha="center",
                va="top",
                fontsize=6.5,
                color=GRAY,
                zorder=3,
            )


def _caption(graph: Graph, group: Group, columns: Sequence[str]) -> str:
    kind = "edges" if graph.is_undirected else "directed links"
    count = len(graph.edges) // 2 if graph.is_undirected else len(graph.edges)
    text = f"Communication graph: {graph.n:,} agents, {count:,} {kind}. " + " ".join(
        _MEANINGS[c] for c in columns
    )
    text += " A color that changes along the graph shows where information is still on its way."
    if len(graph.positions) != graph.n and graph.n > _SPRINGS:
        text += " Agents lie on a spiral in the order of their ids."
    return text + (f" Seed {group.first.seed} is shown." if len(group.records) > 1 else "")
