"""The coordinators of mode hierarchical: edges, and the cloud above them. Part of the composition root."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from p2pfrl.consensus.aggregators import Mean
from p2pfrl.consensus.coordinator import Coordinator, Witness
from p2pfrl.consensus.hierarchy import CloudWitness, EdgeCoordinator, GroupWitness
from p2pfrl.consensus.participation import All
from p2pfrl.consensus.schedules.base import Participants
from p2pfrl.consensus.server_optimizers import Replace
from p2pfrl.core.actor import Actor
from p2pfrl.core.types import COORDINATOR, edge_id
from p2pfrl.scenario import Scenario


def life(
    scenario: Scenario,
    groups: Sequence[tuple[int, ...]],
    id: int,
    witness: Witness,
    common: Mapping[str, Any],
) -> Actor:
    """Return the life of the coordinator `id` of a tree.

    Args:
        scenario: the run's.
        groups: the agents of each edge.
        id: the cloud's, -1, or an edge's.
        witness: writes the record.
        common: arguments of every coordinator: what it starts with, and its port.
    """
    rounds, period, section = (
        scenario.stop.rounds,
        scenario.hierarchy.edge_rounds,
        scenario.coordinator,
    )
    if id == COORDINATOR:
        cloud = Coordinator(
            **common,
            aggregator=Mean(weights="samples"),
            optimizer=section.server_optimizer,
            participation=All(),
            agents=len(groups),
            witness=CloudWitness(witness, scenario.agents, period),
        )
        edges = tuple(sorted(edge_id(number) for number in range(len(groups))))
        above = Participants(len(groups), cloud.choose, edges)
        machine = scenario.schedule.cloud(above, rounds=rounds, period=period)
        return Actor(machine, cloud, common["port"])
    members = groups[edge_id(id)]
    mine = set(members)
    others = [agent for agent in range(scenario.agents) if agent not in mine]
    edge = EdgeCoordinator(
        **common,
        id=id,
        aggregator=section.aggregator.bind(scenario.learner.lr),
        optimizer=Replace(),
        participation=section.participation,
        agents=len(members),
        witness=GroupWitness(witness, others),
    )
    below = Participants(len(members), edge.choose, members)
    protocol = scenario.schedule.edge(below, rounds=rounds, period=period)
    return Actor(protocol, edge, common["port"])
