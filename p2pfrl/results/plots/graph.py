"""Communication graph, colored by the agents' final returns and distances to the average."""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.colors import Colormap, ListedColormap
from matplotlib.figure import Figure
from numpy.typing import NDArray

from p2pfrl.core.graph import Graph, undirected
from p2pfrl.core.types import COORDINATOR, name_of
from p2pfrl.results.groups import Group, final_rows, is_agreed, is_one_model, scenario_keys
from p2pfrl.results.numbers import drawable, number
from p2pfrl.results.plots.data import belong
from p2pfrl.results.plots.style import FAULT, GRAY, INK, Drawing, color_bar, level, panels
from p2pfrl.results.record import BYZANTINE, Record, is_index
from p2pfrl.results.rounds import EPISODES

_LUMINANCE = np.array([0.299, 0.587, 0.114])  # of red, green and blue, ITU-R BT.601
CIRCULAR = (
    "watts_strogatz",
    "exponential",
    "one_peer_exponential",
    "directed_ring",
    "random_matchings",
)
_SPRINGS = 1500  # agents; with more a force-directed layout takes minutes
_VECTORS = 400  # agents; with more the SVG has marks and edges as pixels
_LINES = 2_000  # edges; with more the SVG has them as pixels, which take less space
_OUTLINED = 200  # agents; with more the marks have a thin outline
_MOST_EDGES = 20_000  # with more, some are drawn: each takes 400 bytes, and they hide each other
_PALE = 5_000  # edges; with more they may be fainter
_INK = 40.0  # lengths of a panel that edges may have in all, and still be drawn dark


def graph(groups: Sequence[Group]) -> Drawing | None:
    """Draw who talks to whom in one run: the agents' graph, or the tree below a coordinator.

    Agents are colored by final return and by disagreement. There is no figure of agents that talk
    to nobody.
    """
    record = groups[0].first
    rows = final_rows(record)
    views = [
        (column, title, drawable(rows[column]), colors)
        for column, title, colors in (
            ("return", "final return", "viridis"),
            ("disagreement", "disagreement: distance from the average", _warm()),
        )
        if column in rows and np.isfinite(drawable(rows[column])).any()
    ]
    views = [
        view
        for view in views
        if view[0] != "disagreement"
        or not (is_one_model(record) or is_agreed(record) or _is_zero(view[2]))
    ]
    drawn = network(record)
    if record.graph.n < 2 or not drawn.size:
        return None
    if not views and not record.coordinators and not is_agreed(record):
        return None
    views = views or [("", "", np.full(len(rows.get("agent", ())), np.nan), "viridis")]
    kind = str(scenario_keys(record.scenario).get("topology.kind"))
    positions = places(record.graph, record.coordinators, kind)
    pairs, left_out = some_pairs(drawn, kind)
    figure, axes = panels(len(views), size=(4.3, 4.0))
    for panel, (_, title, values, colors) in zip(axes, views, strict=True):
        by_agent = np.full(record.graph.n, np.nan)
        ids = rows.get("agent", np.empty(0, dtype=np.int64))
        known = (ids >= 0) & (ids < record.graph.n)
        by_agent[ids[known]] = level(values[known])
        _draw(figure, panel, (drawn, pairs), positions, by_agent, colors)
        _mark(panel, positions, byzantine(record))
        panel.set_title(title)
    meanings = [_meaning(column, values, rows) for column, _, values, _ in views if column]
    if marked := byzantine(record):
        meanings.append(f"A red ring marks the Byzantine agents: {', '.join(map(str, marked))}.")
    if left_out:
        meanings.append(f"{left_out[0].upper()}{left_out[1:]}.")
    return Drawing(figure, _caption(record, groups[0], meanings))


def byzantine(record: Record) -> tuple[int, ...]:
    """Return the agents of a run that an attack names; none in a run without attacks."""
    found = record.summary.get(BYZANTINE)
    agents = found.get("agents", ()) if isinstance(found, dict) else ()
    return tuple(agent for agent in agents if is_index(agent, record.graph.n))


def _mark(axes: Axes, positions: NDArray[np.float64], agents: Sequence[int]) -> None:
    """Draw a ring around Byzantine agents."""
    if agents:
        size = 2.2 * float(np.clip(5200 / len(positions), 14, 330))
        at = positions[list(agents)]
        axes.scatter(
            at[:, 0],
            at[:, 1],
            s=size,
            facecolors="none",
            edgecolors=FAULT,
            linewidths=1.8,
            zorder=2,
        )


def _is_zero(values: NDArray[np.float64]) -> bool:
    """Whether all agents end with the same parameters, as with a coordinator without rounds."""
    return not values[np.isfinite(values)].any()


def _meaning(
    column: str, values: NDArray[np.float64], rows: Mapping[str, NDArray[np.float64]]
) -> str:
    """Return the sentence of the caption that says what colors mean, and their range."""
    known = values[np.isfinite(values)]
    low, high = number(float(known.min())), number(float(known.max()))
    span = f"the same for all agents, {low}" if low == high else f"colors from {low} to {high}"
    if column == "disagreement":
        return (
            f"Disagreement: the distance of an agent's parameters from the average of all, {span}."
        )
    counts = rows.get("episodes", np.empty(0))
    counts = np.minimum(counts[counts > 0], EPISODES).astype(np.int64)
    few, many = (int(counts.min()), int(counts.max())) if len(counts) else (EPISODES, EPISODES)
    last = f"{few}" if few == many else f"{few} to {many}"
    episodes = "episode" if last == "1" else f"{last} episodes"
    return f"Final return: the mean of each agent's last {episodes} of training, {span}."


def network(record: Record) -> Graph:
    """Return who talks to whom, agents first and then coordinators in the order of the record.

    The nodes of coordinators have labels.
    """
    return joined(record.graph, record.coordinators)


def joined(base: Graph, coordinators: Mapping[int, tuple[int, ...]]) -> Graph:
    """Return a graph of agents and, after them, of their coordinators with the members of each."""
    n = base.n
    if not coordinators:
        return base
    node = {id: n + place for place, id in enumerate(coordinators)}
    pairs = [
        (node[id], member if member >= 0 else node[member])
        for id, members in coordinators.items()
        for member in members
        if member >= 0 or member in node
    ]
    tree = undirected(n + len(node), [*base.edges, *pairs])
    names = [str(name_of(id)) for id in node]
    return replace(tree, labels=(*(base.labels or [""] * n), *names))


def places(
    graph: Graph, coordinators: Mapping[int, tuple[int, ...]], kind: str
) -> NDArray[np.float64]:
    """Return `(n + coordinators, 2)` positions of a graph that a topology of this kind has made."""
    n = graph.n
    if not coordinators:
        if columns := columns_of(graph, kind):
            ids = np.arange(n)
            return np.stack([ids % columns, -(ids // columns)], axis=1).astype(np.float64)
        return layout(graph, is_circular=kind in CIRCULAR)
    if len(coordinators) == 1:
        agents = layout(replace(graph, successors=((),) * n), is_circular=True)
        center = (agents.max(axis=0) + agents.min(axis=0)) / 2
        return np.vstack([agents, center])
    # The agents of one edge lie beside each other on a circle around it and the cloud.
    edges = {id: members for id, members in coordinators.items() if id != COORDINATOR}
    order = [agent for members in edges.values() for agent in members if agent >= 0]
    order += [agent for agent in range(n) if agent not in set(order)]
    found = np.zeros((n + len(coordinators), 2))
    found[order] = _circle(n)
    for place, (id, _) in enumerate(coordinators.items()):
        own, levels = _below(coordinators, id)
        if id != COORDINATOR and own:
            middle = found[own].mean(axis=0)
            away = 0.5 * 0.6**levels
            found[n + place] = away * middle / max(float(np.hypot(*middle)), 1e-9)
    return found


def columns_of(graph: Graph, kind: str) -> int:
    """Return the columns of a grid or torus whose agent r, c is r * columns + c; 0 of others.

    A graph that has positions of its own is drawn at them.
    """
    if kind not in ("grid", "torus") or graph.n < 2 or len(graph.positions) == graph.n:
        return 0
    near = set(graph.successors[0])
    for count in sorted(near - {1}):
        is_closed = kind == "grid" or graph.n - count in near
        if graph.n % count == 0 and is_closed:
            return count
    return 0


_SCATTER = 0x9E3779B1
AROUND = "the edges around the torus are not drawn"
"""What is said of a torus, if edges are left out."""


def pairs_of(graph: Graph, kind: str) -> tuple[list[tuple[int, int]], str]:
    """Return the edges that are drawn, each once, and what is left out; "" if nothing is.

    The edges around a torus would lie across all others.
    """
    pairs = sorted({(min(i, j), max(i, j)) for i, j in graph.edges})
    columns = columns_of(graph, kind) if kind == "torus" else 0
    if not columns:
        return pairs, ""
    inside = [(i, j) for i, j in pairs if j - i == columns or (j - i == 1 and j % columns != 0)]
    return inside, AROUND if len(inside) < len(pairs) else ""


def some_pairs(graph: Graph, kind: str) -> tuple[list[tuple[int, int]], str]:
    """Return what `pairs_of` returns; of a graph with very many edges about 20,000 of them.

    They are taken evenly, in an order without a pattern (multiplicative hashing, Knuth, The Art of
    Computer Programming 3, section 6.4).
    """
    if graph.size <= 2 * _MOST_EDGES or columns_of(graph, kind):
        return pairs_of(graph, kind)
    total = sum(1 for _ in _pairs(graph))
    if total <= _MOST_EDGES:
        return pairs_of(graph, kind)
    least = 2**32 * _MOST_EDGES // total
    numbered = enumerate(_pairs(graph))
    found = [pair for number, pair in numbered if number * _SCATTER % 2**32 < least]
    return found, f"one in {total / len(found):.3g} edges is drawn"


def _pairs(graph: Graph) -> Iterator[tuple[int, int]]:
    """Yield the pairs of agents of which one sends to the other, each once."""
    is_undirected = graph.is_undirected
    for i, receivers in enumerate(graph.successors):
        for j in receivers:
            if i < j:
                yield i, j
            elif not is_undirected and not _has(graph.successors[j], i):
                yield j, i


def _has(agents: tuple[int, ...], agent: int) -> bool:
    """Whether an agent is among others, which are in ascending order."""
    place = bisect_left(agents, agent)
    return place < len(agents) and agents[place] == agent


def _below(coordinators: Mapping[int, tuple[int, ...]], id: int) -> tuple[list[int], int]:
    """Return the agents below a coordinator, and how many levels of edges are between them."""
    below = coordinators.get(id, ())
    found = [_below(coordinators, child) for child in below if child < 0]
    agents = [agent for agent in below if agent >= 0] + [i for own, _ in found for i in own]
    return agents, 1 + max(levels for _, levels in found) if found else 0


def layout(graph: Graph, *, is_circular: bool = False) -> NDArray[np.float64]:
    """Return `(n, 2)` positions: the graph's own, else a circle or a force-directed layout.

    Rings, complete graphs, and graphs that are made from a ring (`is_circular`) have a circle. More
    than 1500 other agents are placed on Fermat's spiral in the order of their ids, which fills a
    disk evenly (Vogel, "A better way to construct the sunflower head", Mathematical Biosciences,
    1979).
    """
    n = graph.n
    positions = drawable(graph.positions)
    if len(positions) == n and np.isfinite(positions).all():
        return positions
    degrees = _degrees(graph)
    if degrees == {0} and not is_circular:
        side = math.ceil(math.sqrt(n))
        return np.array([(i % side, -(i // side)) for i in range(n)], dtype=np.float64)
    if degrees <= {2, n - 1} or is_circular:
        return _circle(n)
    if n > _SPRINGS:
        turns, radii = math.pi * (3 - math.sqrt(5)) * np.arange(n), np.sqrt(np.arange(n) / n)
        return np.stack([radii * np.cos(turns), radii * np.sin(turns)], axis=1)
    return _forces(graph)


def _degrees(graph: Graph) -> set[int]:
    """Return the numbers of neighbors that agents have."""
    both = zip(graph.successors, graph.predecessors, strict=True)
    return {len(s) if s is p else len({*s, *p}) for s, p in both}


def _circle(n: int) -> NDArray[np.float64]:
    start = math.pi if n == 2 else math.pi / 2
    angles = start - 2 * math.pi * np.arange(n) / n
    return np.stack([np.cos(angles), np.sin(angles)], axis=1)


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


def _warm() -> Colormap:
    """Return yellow to brown, without the pale end, which nobody sees on white."""
    return ListedColormap(colormaps["YlOrBr"](np.linspace(0.25, 1.0, 256)), "warm")


def _opacity(positions: NDArray[np.float64], pairs: Sequence[tuple[int, int]]) -> float:
    """Return how dark edges are: the less, the more of the panel they cover."""
    ends = np.array(pairs, dtype=np.int64).reshape(-1, 2)
    lengths = np.linalg.norm(positions[ends[:, 0]] - positions[ends[:, 1]], axis=1)
    side = max(float(np.ptp(positions, axis=0).max()), 1e-9)
    least = 0.08 * min(1.0, _PALE / max(1, len(pairs)))
    return float(np.clip(_INK * side / max(float(lengths.sum()), 1e-9), least, 0.8))


def _draw(
    figure: Figure,
    axes: Axes,
    drawn: tuple[Graph, list[tuple[int, int]]],
    positions: NDArray[np.float64],
    by_agent: NDArray[np.float64],
    colors: str | Colormap,
) -> None:
    """Draw a graph with some of its edges. The nodes after those of `by_agent` are coordinators."""
    graph, pairs = drawn
    n, agents = graph.n, len(by_agent)
    many = len(pairs)
    axes.add_collection(
        LineCollection(
            [positions[list(pair)] for pair in pairs],
            colors=GRAY,
            linewidths=1.0 if many < 200 else 0.5,
            alpha=_opacity(positions, pairs),
            zorder=1,
            rasterized=n > _VECTORS or many > _LINES,
        )
    )
    finite = np.isfinite(by_agent)
    own, coordinators = positions[:agents], positions[agents:]
    size = float(np.clip(5200 / n, 3, 330))
    marks = axes.scatter(
        own[finite, 0],
        own[finite, 1],
        c=by_agent[finite],
        cmap=colors,
        s=size,
        edgecolors=GRAY,
        linewidths=0.8 if n <= _OUTLINED else 0.25,
        zorder=2,
        rasterized=n > _VECTORS,
    )
    unknown = axes.scatter(
        own[~finite, 0],
        own[~finite, 1],
        c="white",
        s=size,
        edgecolors=GRAY,
        linewidths=0.8 if n <= _OUTLINED else 0.25,
        zorder=2,
        rasterized=n > _VECTORS,
    )
    squares = axes.scatter(
        coordinators[:, 0], coordinators[:, 1], c=INK, s=min(size, 90.0), marker="s", zorder=2
    )
    belong(marks, np.flatnonzero(finite).tolist())
    belong(unknown, np.flatnonzero(~finite).tolist())
    belong(squares, (graph.labels or ())[agents:])
    if n <= 50:
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
    if not finite.any():
        return
    bar = color_bar(figure, marks, axes, by_agent, shrink=0.75, aspect=28)
    bar.ax.tick_params(length=2)


def _names(
    axes: Axes,
    graph: Graph,
    positions: NDArray[np.float64],
    fills: NDArray[np.float64],
) -> None:
    """Write agent ids into the marks, and names of nodes and coordinators beside them."""
    for agent, (x, y) in enumerate(positions.tolist()):
        if graph.labels and graph.labels[agent]:
            axes.annotate(
                graph.labels[agent],
                (x, y),
                (0, -12 if agent < len(fills) else -7),
                textcoords="offset points",
                ha="center",
                va="top",
                fontsize=7,
                color=GRAY if agent < len(fills) else INK,
                zorder=3,
            )
        if agent >= len(fills):
            continue
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


def _caption(record: Record, group: Group, meanings: Sequence[str]) -> str:
    graph = record.graph
    text = f"Who talks to whom: {graph.n:,} agents"
    edges = sum(id != COORDINATOR for id in record.coordinators)
    if graph.size:
        kind = "edges" if graph.is_undirected else "directed links"
        count = graph.size // 2 if graph.is_undirected else graph.size
        text += f", {count:,} {kind}"
    if edges:
        text += f", {edges:,} edge coordinators and the cloud's coordinator"
    elif record.coordinators:
        text += " and a coordinator (the square)"
    text += ". " + " ".join(meanings)
    kind = str(scenario_keys(record.scenario).get("topology.kind"))
    is_own = len(graph.positions) == graph.n or columns_of(graph, kind)
    is_round = kind in CIRCULAR or _degrees(graph) <= {2, graph.n - 1}
    if not (record.coordinators or is_own or is_round) and graph.n > _SPRINGS:
        text += " Agents lie on a spiral in the order of their ids."
    return text + (f" Seed {group.first.seed} is shown." if len(group.records) > 1 else "")
