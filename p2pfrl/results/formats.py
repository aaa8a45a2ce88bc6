"""File format of the graph of a record."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from p2pfrl.core.graph import Graph
from p2pfrl.results.files import encode_json


def graph_to_json(graph: Graph, coordinators: Mapping[int, tuple[int, ...]]) -> dict[str, Any]:
    """Return a graph and the members of every coordinator as a JSON object."""
    value: dict[str, Any] = {
        "agents": graph.n,
        "successors": [list(receivers) for receivers in graph.successors],
        "latency": [[i, j, value] for (i, j), value in sorted(graph.latency.items())],
        "bandwidth": [[i, j, value] for (i, j), value in sorted(graph.bandwidth.items())],
        "positions": [list(position) for position in graph.positions],
        "labels": list(graph.labels),
    }
    if coordinators:
        value["coordinators"] = [
            {"id": id, "members": list(members)} for id, members in coordinators.items()
        ]
    return value


def encode_graph(graph: Graph, coordinators: Mapping[int, tuple[int, ...]]) -> bytes:
    """Return `graph.json`: what `graph_to_json` returns, as `encode_json` writes it.

    The edges are written agent by agent: as one JSON object they would take 150 bytes each.
    """
    without = Graph((), graph.latency, graph.bandwidth, graph.positions, graph.labels)
    whole = encode_json({**graph_to_json(without, coordinators), "agents": graph.n})
    if not graph.n:
        return whole
    rows = b",\n".join(map(_row, graph.successors))
    return whole.replace(b'"successors": []', b'"successors": [\n' + rows + b"\n  ]", 1)


def _row(receivers: Sequence[int]) -> bytes:
    """Return the agents that one agent sends to, in the place that they have in the file."""
    if not receivers:
        return b"    []"
    return b"    [\n      " + ",\n      ".join(map(str, receivers)).encode() + b"\n    ]"


def graph_from_json(value: Mapping[str, Any]) -> tuple[Graph, dict[int, tuple[int, ...]]]:
    """Return the graph and the coordinators that `graph_to_json` encoded.

    Raises:
        ValueError: the edges do not fit the number of agents, or a coordinator is in a loop.
    """
    n = int(value["agents"])
    successors = tuple(tuple(int(j) for j in receivers) for receivers in value["successors"])
    if len(successors) != n or any(not 0 <= j < n for receivers in successors for j in receivers):
        raise ValueError("its edges do not fit the number of agents")
    coordinators = {
        int(one["id"]): tuple(int(member) for member in one["members"])
        for one in value.get("coordinators", ())
    }
    for id, members in coordinators.items():
        if id >= 0 or any(not -(2**31) < member < n or id <= member < 0 for member in members):
            raise ValueError("its coordinators do not fit the agents")
    graph = Graph(
        successors=successors,
        latency={(int(i), int(j)): float(v) for i, j, v in value["latency"]},
        bandwidth={(int(i), int(j)): float(v) for i, j, v in value["bandwidth"]},
        positions=tuple((float(x), float(y)) for x, y in value["positions"]),
        labels=tuple(str(label) for label in value["labels"]),
    )
    return graph, coordinators
