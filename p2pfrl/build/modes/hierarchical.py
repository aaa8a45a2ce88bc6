"""Mode hierarchical: edge coordinators below a coordinator, the cloud."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
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

        An agent talks to its edge, an edge to the one above it and to those below, and the cloud to
        the edges below it.
        """
        edges = [
            (plan.edge_of.get(edge_id(number), COORDINATOR), *below)
            for number, below in enumerate(plan.groups)
        ]
        return [
            *((plan.edge_of[agent],) for agent in range(plan.scenario.agents)),
            *reversed(edges),
            sorted(plan.top, reverse=True),
        ]

    def coordinator(self, plan: Plan, life: CoordinatorLife) -> Actor:
        """Return the life of the cloud or of an edge."""
        return _cloud(plan, life) if life.id == COORDINATOR else _edge(plan, life)

    def messages(self, scenario: Scenario, view: TopologyView) -> float:
        """Return the messages between agents and edges, and those of edges with those above."""
        section, period = scenario.coordinator, float(scenario.hierarchy.edge_rounds)
        heights, found = dict[int, int](), 0.0
        for number, below in reversed([*enumerate(scenario.edges)]):
            is_lowest = below[0] >= 0
            height = 1 if is_lowest else 1 + max(heights[child] for child in below)
            heights[edge_id(number)] = height
            found += float(section.participation.expected(len(below))) if is_lowest else 0.0
            found += period**-height
        return 2.0 * found

    def differences(self, scenario: Scenario) -> tuple[str, ...]:
        """Return sentences about what a tree of coordinators changes."""
        n, groups, period = scenario.agents, scenario.edges, scenario.hierarchy.edge_rounds
        if any(below[0] < 0 for below in groups):
            return (_of_levels(scenario),)
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


def _of_levels(scenario: Scenario) -> str:
    """Return a sentence about a tree of several levels of edges."""
    groups = scenario.edges
    return (
        f"{len(groups)} edge coordinators on several levels, each with at most {max(map(len, groups))} below it; every "
        "level adds two trips where it averages."
    )


def _cloud(plan: Plan, life: CoordinatorLife) -> Actor:
    """Return the life of the coordinator above all edges."""
    scenario, edges = plan.scenario, plan.top
    period = scenario.hierarchy.edge_rounds ** (plan.height(COORDINATOR) - 1)
    body = Coordinator(
        life.model,
        agents=len(edges),
        seed=scenario.seed,
        rules=replace(_rules_of_edges(plan), optimizer=scenario.coordinator.server_optimizer),
        encoder=life.encoder,
        parts=plan.parts,
        port=life.port,
        witness=CloudWitness(life.witness, scenario.agents, period),
    )
    machine = scenario.schedule.cloud(
        Participants(len(edges), body.choose, edges), rounds=scenario.stop.rounds, period=period
    )
    return Actor(machine, body, life.port, gives_last=True)


def _rules_of_edges(plan: Plan) -> CoordinatorRules:
    """Return the rules of a coordinator of edges: their mean.

    Edges are weighted by their environment steps, or by the capacities of their agents.
    """
    name = plan.scenario.coordinator.aggregator.capacity
    aggregator = Mean(weights="samples" if name is None else name)
    return CoordinatorRules(
        payload=plan.payload,
        aggregator=aggregator,
        optimizer=Replace(),
        correction=plan.scenario.correction,
        participation=All(),
        capacities=plan.capacities(aggregator),
    )


def _rules_of_agents(plan: Plan) -> CoordinatorRules:
    """Return the rules of a coordinator of agents: those of the scenario."""
    scenario, section = plan.scenario, plan.scenario.coordinator
    aggregator = section.aggregator.bind(scenario.learner.lr)
    return CoordinatorRules(
        payload=plan.payload,
        aggregator=aggregator,
        optimizer=Replace(),
        correction=scenario.correction,
        participation=section.participation.with_resources(plan.resources),
        capacities=plan.capacities(aggregator),
    )


def _edge(plan: Plan, life: CoordinatorLife) -> Actor:
    """Return the life of the coordinator of some agents, or of some edges."""
    scenario, period, n = plan.scenario, plan.scenario.hierarchy.edge_rounds, plan.scenario.agents
    below, passed = plan.groups[edge_id(life.id)], period ** (plan.height(life.id) - 1)
    rounds, witness = scenario.stop.rounds, life.witness
    if below[0] < 0:
        witness, rules = CloudWitness(witness, n, passed), _rules_of_edges(plan)
    else:
        mine = set(below)
        witness = GroupWitness(witness, [i for i in range(n) if i not in mine])
        rules = _rules_of_agents(plan)
    body = EdgeCoordinator(
        life.model,
        id=life.id,
        agents=len(below),
        seed=scenario.seed,
        rules=rules,
        encoder=life.encoder,
        parts=plan.parts,
        port=life.port,
        witness=witness,
    )
    machine = scenario.schedule.edge(
        Participants(len(below), body.choose, below),
        rounds=None if rounds is None else -(-rounds // passed),
        period=period,
        above=plan.edge_of.get(life.id, COORDINATOR),
    )
    return Actor(machine, body, life.port, gives_last=True)
