"""Checker of the topology contract, for built-in topologies and a user's own."""

from __future__ import annotations

from p2pfrl.consensus.topologies.base import Topology, TopologyView
from p2pfrl.core.contract import described, name_of, require, require_rule
from p2pfrl.core.errors import TopologyError
from p2pfrl.core.graph import Graph


def check_topology(topology: Topology, agents: tuple[int, ...] = (2, 3, 8, 16, 25)) -> None:
    """Raise an error if a topology breaks the contract of `Topology`.

    It checks several sizes, seeds and rounds. The graph must be a pure function of them, have the
    right size, no self-loops and sorted receivers. A periodic topology must repeat. Over all rounds
    every agent must reach every other of its island (`Topology.islands`). Sizes that the topology
    refuses with a `TopologyError` are skipped.

    Args:
        topology: the topology to check.
        agents: sizes to try.

    Raises:
        ContractError: with the expected and the actual result, or if all sizes were refused.
    """
    require_rule(topology, Topology, "check_topology")
    where, accepted = f"{name_of(topology)}.at", 0
    for n in agents:
        try:
            first = topology.at(n, 0, 0)
        except TopologyError:
            continue
        require(isinstance(first, Graph), where, f"expected a Graph, got {described(first)}")
        accepted += 1
        for seed in (0, 7):
            for round in range(4):
                graph, again = topology.at(n, seed, round), topology.at(n, seed, round)
                require(
                    graph == again, where, f"n = {n}: two graphs for seed {seed}, round {round}"
                )
                require(graph.n == n, where, f"expected {n} agents, got {graph.n}")
                for i, receivers in enumerate(graph.successors):
                    good = list(receivers) == sorted(set(receivers) - {i})
                    message = f"n = {n}: agent {i} sends to {receivers}; no self-loops, ascending"
                    require(good, where, message)
                    inside = all(0 <= j < n for j in receivers)
                    require(inside, where, f"n = {n}: agent {i} sends to {receivers}")
            view = TopologyView(topology, n, seed)
            found, expected = view.union.islands, topology.islands
            what = "is disconnected" if expected == 1 else f"has {found} islands, not {expected}"
            require(found == expected, where, f"n = {n}: the union over rounds {what}")
            if view.period is not None:
                repeats = topology.at(n, seed, view.period + 1) == topology.at(
                    n, seed, 1 % view.period
                )
                require(repeats, where, f"n = {n}: does not repeat after {view.period} rounds")
    require(accepted > 0, where, f"refused all of {agents} agents")
