"""Mode hierarchical: edge coordinators below a coordinator, the cloud."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from p2pfrl.build.modes.base import CoordinatorLife, Plan, words
from p2pfrl.build.modes.coordinated import CoordinatedBuilder
from p2pfrl.consensus.aggregators.mean import Mean
from p2pfrl.consensus.coordinator import Coordinator, CoordinatorRules
from p2pfrl.consensus.hierarchy import CloudWitness, EdgeCoordinator, GroupWitness
from p2pfrl.consensus.participation.base import All
from p2pfrl.consensus.schedules.base import Participants
from p2pfrl.consensus.server_optimizers.base import Replace
from p2pfrl.consensus.topologies.base import TopologyView
from p2pfrl.core.actor import Actor
from p2pfrl.core.types import COORDINATOR, edge_id
from p2pfrl.scenario import Scenario
from p2pfrl.scenario.modes import MODES, Mode


class HierarchicalBuilder(CoordinatedBuilder):
    """Makes edges, which average their agents, and the cloud, which averages the edges."""

    mode: ClassVar[Mode] = MODES["hierarchical"]

    def neighbors(self, plan: Plan) -> list[Sequence[int]]:
        """Return the ids that each participant talks to.

        An agent talks to its edge, an edge to the cloud and its agents, the cloud to all edges.
        """
        edges = [(COORDINATOR, *members) for members in plan.groups]
        return [
            *((plan.edge_of[agent],) for agent in range(plan.scenario.agents)),
            *reversed(edges),
            [edge_id(number) for number in range(len(edges))],
        ]

    def coordinator(self, plan: Plan, life: CoordinatorLife) -> Actor:
        """Return the life of the cloud or of an edge."""
        return _cloud(plan, life) if life.id == COORDINATOR else _edge(plan, life)

    def messages(self, scenario: Scenario, view: TopologyView) -> float:
        """Return the messages between agents and edges, and those between edges and the cloud."""
        groups, section = scenario.edges, scenario.coordinator
        below = sum(float(section.participation.expected(len(group))) for group in groups)
        return 2.0 * (below + len(groups) / scenario.hierarchy.edge_rounds)

    def differences(self, scenario: Scenario) -> tuple[str, ...]:
        """Return sentences about what a tree of coordinators changes."""
        n, groups, period = scenario.agents, scenario.edges, scenario.hierarchy.edge_rounds
        often = "each" if period == 1 else f"one of {period}"
        return (
            f"{2 * n} messages per exchange between agents and {len(groups)} edge coordinators when all take part, and "
            f"{2 * len(groups)} more between edges and cloud in {often}; no interface takes more than "
            f"{max(len(groups), *map(len, groups))} of one kind at a time.",
            f"An exchange takes two trips, and two more where the cloud averages; every edge waits for its own agents, "
            f"the cloud for all edges ({words(scenario.schedule)} schedule).",
            f"Edges aggregate by {words(scenario.coordinator.aggregator)}, the cloud by the mean, with server step "
            f"{words(scenario.coordinator.server_optimizer)}; the graph and its mixing weights play no part.",
            "Agents of one edge train from one point"
            + (
                "."
                if period == 1
                else ", those of different edges from different ones until the cloud averages."
            ),
        )


def _cloud(plan: Plan, life: CoordinatorLife) -> Actor:
    """Return the life of the coordinator of all edges."""
    scenario, edges = plan.scenario, len(plan.groups)
    period, aggregator = scenario.hierarchy.edge_rounds, _of_edges(plan)
    body = Coordinator(
        life.model,
        agents=edges,
        seed=scenario.seed,
        rules=CoordinatorRules(
            payload=plan.payload,
            aggregator=aggregator,
            optimizer=scenario.coordinator.server_optimizer,
            correction=scenario.correction,
            participation=All(),
            capacities=plan.capacities(aggregator),
        ),
        encoder=life.encoder,
        parts=plan.parts,
        port=life.port,
        witness=CloudWitness(life.witness, scenario.agents, period),
    )
    ids = tuple(sorted(edge_id(number) for number in range(edges)))
    machine = scenario.schedule.cloud(
        Participants(edges, body.choose, ids), rounds=scenario.stop.rounds, period=period
    )
    return Actor(machine, body, life.port, gives_last=True)


def _of_edges(plan: Plan) -> Mean:
    """Return the mean of edges, weighted by their steps, or by the capacities of their agents."""
    name = plan.scenario.coordinator.aggregator.capacity
    return Mean(weights="samples" if name is None else name)


def _edge(plan: Plan, life: CoordinatorLife) -> Actor:
    """Return the life of the coordinator of some agents."""
    scenario, section = plan.scenario, plan.scenario.coordinator
    members = plan.groups[edge_id(life.id)]
    mine = set(members)
    aggregator = section.aggregator.bind(scenario.learner.lr)
    body = EdgeCoordinator(
        life.model,
        id=life.id,
        agents=len(members),
        seed=scenario.seed,
        rules=CoordinatorRules(
            payload=plan.payload,
            aggregator=aggregator,
            optimizer=Replace(),
            correction=scenario.correction,
            participation=section.participation.with_resources(plan.resources),
            capacities=plan.capacities(aggregator),
        ),
        encoder=life.encoder,
        parts=plan.parts,
        port=life.port,
        witness=GroupWitness(life.witness, [i for i in range(scenario.agents) if i not in mine]),
    )
    machine = scenario.schedule.edge(
        Participants(len(members), body.choose, members),
        rounds=scenario.stop.rounds,
        period=scenario.hierarchy.edge_rounds,
    )
    return Actor(machine, body, life.port, gives_last=True)
