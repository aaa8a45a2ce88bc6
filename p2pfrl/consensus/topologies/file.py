"""Topology from a graph file: a real network with named nodes and link latencies."""

from __future__ import annotations

import difflib
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NoReturn

from p2pfrl.consensus.topologies import graphml
from p2pfrl.consensus.topologies.base import Topology, require
from p2pfrl.consensus.topologies.graphml import Document, Element
from p2pfrl.core import finder
from p2pfrl.core.errors import TopologyError
from p2pfrl.core.graph import Graph, directed
from p2pfrl.core.located import Located
from p2pfrl.core.rule import rule
from p2pfrl.core.units import rate, seconds

_EARTH_RADIUS = 6371.0088e3  # meters, mean radius of the Geodetic Reference System 1980
_SPEED_IN_FIBER = 299_792_458.0 * 2 / 3  # meters per second


@rule
class File(Topology, Located):
    """The graph of a GraphML file; agent i is its i-th node.

    These attributes are read, in any case: of a node `label` or `name` (else its id), `latitude`
    and `longitude` in degrees; of an edge `latency` ("5ms", or a number of seconds) and `bandwidth`
    ("10Gbit/s", or a number of bytes per second). An edge without a latency between nodes with
    coordinates has a latency from the great-circle distance and two thirds of the speed of light,
    the speed in fiber. Edges are directed if the file declares it. Parallel links count as one,
    with the smallest latency and the largest bandwidth.

    Attributes:
        path: path of the file; it is searched beside the scenario file, in the working directory,
            in ./topologies, and in the package.

    Reference: Knight, Nguyen, Falkner, Bowden, Roughan, The Internet Topology Zoo, IEEE JSAC 29(9),
    2011.
    """

    path: str

    def at(self, n: int, seed: int, round: int) -> Graph:
        """Return the graph of the file.

        Raises:
            TopologyError: the file is missing or unfit, or has another number of nodes.
        """
        graph = load(self.beside(self.path) or find(self.path))
        require(
            graph.n == n,
            f"{self.path} has {graph.n} nodes, the scenario {n} agents: set agents = {graph.n} or take another graph",
        )
        return graph

    def files(self) -> Mapping[str, Path]:
        """Return the graph file."""
        found = self.beside(self.path) or finder.search(self.path, "topologies")
        return {} if found is None else {self.path: found}


def find(name: str) -> Path:
    """Return the graph file with this name.

    Raises:
        TopologyError: there is none; the message suggests the nearest name.
    """
    if (found := finder.search(name, "topologies")) is not None:
        return found
    known = list(finder.files("topologies", ".graphml"))
    near = difflib.get_close_matches(name, known, n=1)
    hint = f"did you mean {near[0]!r}?" if near else f"there are {', '.join(known)}"
    raise TopologyError(
        f"topology.path: no graph file {name[:200]!r} beside the scenario, here, in ./topologies or "
        f"in the package; {hint}"
    )


def load(path: Path) -> Graph:
    """Return the graph of a GraphML file.

    Raises:
        TopologyError: it is malformed, empty, disconnected, or has a self-loop or an edge to an
            unknown node.
    """
    document = graphml.read(path)
    if not document.nodes:
        document.refuse(1, "no nodes")
    index = _index(document)
    places = [_place(document, node) for node in document.nodes]
    latency: dict[tuple[int, int], float] = {}
    bandwidth: dict[tuple[int, int], float] = {}
    pairs: dict[tuple[int, int], None] = {}
    for edge in document.edges:
        i, j = (_endpoint(document, edge, index, end) for end in ("source", "target"))
        if i == j:
            document.refuse(
                edge.line, f"node {edge.attributes['source']!r} has an edge to itself: remove it"
            )
        one_way = {"true": True, "false": False}.get(
            edge.attributes.get("directed", ""), document.directed
        )
        delay = _number(document, edge, "latency", seconds)
        if delay is None and (a := places[i]) and (b := places[j]):
            delay = great_circle(a, b) / _SPEED_IN_FIBER
        capacity = _number(document, edge, "bandwidth", rate)
        if capacity == 0.0:
            document.refuse(
                edge.line, "bandwidth: a link of zero bandwidth carries nothing: remove it"
            )
        for pair in ((i, j),) if one_way else ((i, j), (j, i)):
            pairs[pair] = None
            if delay is not None:
                latency[pair] = min(delay, latency.get(pair, math.inf))
            if capacity is not None:
                bandwidth[pair] = max(capacity, bandwidth.get(pair, 0.0))
    positions = tuple((place[1], place[0]) for place in places if place)
    graph = Graph(
        directed(len(index), pairs).successors,
        latency,
        bandwidth,
        positions if len(positions) == len(places) else (),
        tuple(_label(node) for node in document.nodes),
    )
    if graph.gap is not None:
        _refuse_gap(document, graph, *graph.gap)
    return graph


def _label(node: Element) -> str:
    """Return the name of a node.

    Gephi and the Topology Zoo call it label, igraph and Cytoscape name.
    """
    return node.data.get("label") or node.data.get("name") or node.shown or node.attributes["id"]


def _refuse_gap(document: Document, graph: Graph, i: int, j: int) -> NoReturn:
    """Refuse a graph without a path from node `i` to node `j`."""
    lonely = [k for k in (j, i) if not graph.successors[k] and not graph.predecessors[k]]
    if lonely:
        reason = f"node {graph.labels[lonely[0]]!r} has no edge; give it one, or remove it"
        document.refuse(document.nodes[lonely[0]].line, f"the graph is disconnected: {reason}")
    what = "no path" if graph.is_undirected else "edges are directed, and no path"
    reason = f"{what} leads from node {graph.labels[i]!r} to {graph.labels[j]!r}"
    fix = "add an edge" if graph.is_undirected else 'add one, or declare edgedefault="undirected"'
    document.refuse(document.nodes[j].line, f"the graph is disconnected: {reason}; {fix}")


def great_circle(a: tuple[float, float], b: tuple[float, float]) -> float:
    """Return the distance in meters between (latitude, longitude) points in degrees, by haversines.

    >>> round(great_circle((40.71, -74.01), (34.05, -118.24)) / 1000)
    3935
    """
    (phi, lam), (psi, mu) = ((math.radians(x), math.radians(y)) for x, y in (a, b))
    h = (
        math.sin((psi - phi) / 2) ** 2
        + math.cos(phi) * math.cos(psi) * math.sin((mu - lam) / 2) ** 2
    )
    return 2 * _EARTH_RADIUS * math.asin(math.sqrt(min(1.0, h)))


def _index(document: Document) -> dict[str, int]:
    index: dict[str, int] = {}
    for node in document.nodes:
        name = node.attributes.get("id")
        if name is None or name in index:
            document.refuse(
                node.line, "a node without an id" if name is None else f"a second node {name!r}"
            )
        index[name] = len(index)
    return index


def _endpoint(document: Document, edge: Element, index: dict[str, int], end: str) -> int:
    name = edge.attributes.get(end)
    if name not in index:
        document.refuse(
            edge.line, f"an edge with the {end} {name!r}, which is no node of this graph"
        )
    return index[name]


def _place(document: Document, node: Element) -> tuple[float, float] | None:
    if "latitude" not in node.data or "longitude" not in node.data:
        return None
    latitude, longitude = (
        _number(document, node, name, _degrees) or 0.0 for name in ("latitude", "longitude")
    )
    if not (-90 <= latitude <= 90 and -180 <= longitude <= 180):
        document.refuse(
            node.line, f"latitude {latitude}, longitude {longitude}: not degrees on the earth"
        )
    return latitude, longitude


def _number(
    document: Document, element: Element, name: str, parse: Callable[[object], float]
) -> float | None:
    text = element.data.get(name)
    if text is None:
        return None
    try:
        return parse(_plain(text))
    except ValueError as error:
        document.refuse(element.line, f"{name}: {error}")


def _plain(text: str) -> float | str:
    try:
        return float(text)
    except ValueError:
        return text


def _degrees(value: object) -> float:
    if not isinstance(value, float):
        raise ValueError(f"expected degrees such as 51.5, got {value!r}")
    return value
