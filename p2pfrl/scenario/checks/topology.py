"""Topology checks: whether the graph fits the agents, the mixing rule and single links."""

from __future__ import annotations

from collections.abc import Iterator

from p2pfrl.consensus.mixing.base import require_matrix
from p2pfrl.consensus.topologies.base import TopologyView
from p2pfrl.core.errors import TopologyError
from p2pfrl.core.graph import Graph
from p2pfrl.core.types import COORDINATOR
from p2pfrl.scenario.checks.facts import Problem
from p2pfrl.scenario.modes import MODES
from p2pfrl.scenario.sections import Edge, Scenario

_MOST_ROUNDS = 64


def topology(scenario: Scenario) -> Iterator[Problem]:
    """Yield reasons why the topology has no graph that the agents and rules can use."""
    is_edge = isinstance(scenario.network.latency, Edge)
    view = TopologyView(scenario.topology, scenario.agents, scenario.seed)
    try:
        graphs = [view.at(round) for round in range(min(view.period or 1, _MOST_ROUNDS))]
    except TopologyError as error:
        yield placed(str(error), "topology")
        return
    except OSError as error:
        yield ("topology",), f"its file cannot be read: {error.strerror}"
        return
    if MODES[scenario.mode].mixes:
        yield from _mixing(scenario, graphs)
    if is_edge:
        lacking = [edge for graph in graphs for edge in graph.edges if edge not in graph.latency]
        if lacking:
            i, j = lacking[0]
            reason = f"the topology gives no latency from agent {graphs[0].name(i)} to {graphs[0].name(j)}"
            yield ("network", "latency"), f"{reason}; give a duration or a distribution"
    if is_edge and scenario.coordinator.at >= scenario.agents:
        yield (
            ("coordinator", "at"),
            f"expected a node below {scenario.agents}, got {scenario.coordinator.at}",
        )


def _mixing(scenario: Scenario, graphs: list[Graph]) -> Iterator[Problem]:
    for graph in graphs:
        try:
            scenario.mixing.check(graph)
            require_matrix(scenario.mixing, graph)
        except TopologyError as error:
            yield placed(str(error), "mixing")
            return


def links(scenario: Scenario) -> Iterator[Problem]:
    """Yield problems of `[[network.links]]`."""
    nodes, seen = range(COORDINATOR, scenario.agents), set[tuple[int, int]]()
    for position, link in enumerate(scenario.network.links):
        path, pair = ("network", "links", position), (link.from_, link.to)
        for name, node in (("from", link.from_), ("to", link.to)):
            if node not in nodes:
                yield (
                    (*path, name),
                    f"expected an agent below {scenario.agents}, or -1 for the coordinator, got {node}",
                )
        if link.from_ == link.to:
            yield (*path, "to"), f"{link.to} sends nothing to itself"
        if pair in seen:
            yield path, f"the link from {link.from_} to {link.to} is listed twice"
        if link.latency is None and link.bandwidth is None:
            yield (
                path,
                "expected a latency or a bandwidth: without them the link is like all others",
            )
        seen.add(pair)
    if MODES[scenario.mode].mixes:
        yield from _linked(scenario)


def _linked(scenario: Scenario) -> Iterator[Problem]:
    """Yield problems of links between agents that are not neighbors.

    Links of a coordinator are problems in modes without one.
    """
    pairs = {
        (link.from_, link.to): position for position, link in enumerate(scenario.network.links)
    }
    pairs = {
        pair: position
        for pair, position in pairs.items()
        if min(pair) >= 0 and max(pair) < scenario.agents
    }
    if not pairs:
        return
    try:
        edges = set(TopologyView(scenario.topology, scenario.agents, scenario.seed).union.edges)
    except (TopologyError, OSError):
        return  # another check says why
    for (i, j), position in pairs.items():
        if i != j and (i, j) not in edges:
            yield (
                ("network", "links", position),
                f"agent {i} sends nothing to {j}: no neighbors in this topology",
            )


def placed(message: str, section: str) -> Problem:
    """Return the problem of a message that may begin with its key: "mixing.alpha: ..."."""
    key, _, reason = message.partition(": ")
    if key == section or key.startswith(f"{section}."):
        return tuple(key.split(".")), reason
    return (section,), message
