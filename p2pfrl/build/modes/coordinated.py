"""Modes with a coordinator: what their builders share."""

from __future__ import annotations

from functools import partial
from typing import Any

from p2pfrl.build.modes import standbys
from p2pfrl.build.modes.base import AgentLife, CoordinatorLife, ModeBuilder, Neighbors, Plan
from p2pfrl.build.own_episodes import own_episodes
from p2pfrl.consensus.aggregators.base import Aggregator
from p2pfrl.consensus.coordinator import Coordinator, CoordinatorRules
from p2pfrl.consensus.schedules.base import Participants
from p2pfrl.consensus.schedules.phased import PhasedClient, PhasedCoordinator, Phases
from p2pfrl.consensus.server_optimizers.base import ServerOptimizer
from p2pfrl.core.actor import Actor
from p2pfrl.core.types import COORDINATOR, Schedule


class CoordinatedBuilder(ModeBuilder):
    """Makes a coordinator, and agents that train for it."""

    def neighbors(self, plan: Plan) -> Neighbors:
        """Return the coordinator for every agent, and all agents for the coordinator."""
        if plan.scenario.standbys:
            return standbys.neighbors(plan)
        agents = plan.scenario.agents
        return [*((COORDINATOR,) for _ in range(agents)), range(agents)]

    def schedule(self, plan: Plan, life: AgentLife) -> Schedule:
        """Return the state machine of an agent that trains for a coordinator."""
        scenario = plan.scenario
        rounds = scenario.stop.rounds
        if scenario.secure.phases:
            options: Any = scenario.schedule  # synchronous, as secure sums need it
            return PhasedClient(options, rounds=rounds, available=life.available)
        machine: Schedule = scenario.schedule.client(
            rounds=None if rounds is None else scenario.schedule.models(rounds, scenario.agents),
            available=life.available,
            coordinator=plan.edge_of.get(life.agent, COORDINATOR),
        )
        return standbys.follower(plan, life, machine) if scenario.standbys else machine

    def aggregator(self, plan: Plan) -> Aggregator:
        """Return the aggregator, which makes one vector of what the coordinator receives."""
        scenario = plan.scenario
        rule: Aggregator = scenario.coordinator.aggregator.bind(scenario.learner.lr)
        imitation = plan.stack.imitation
        return rule if imitation is None else rule.with_policies(imitation)

    def optimizer(self, plan: Plan) -> ServerOptimizer:
        """Return the server optimizer, with episodes of its own if it plays any."""
        rule: ServerOptimizer = plan.scenario.coordinator.server_optimizer
        return rule.with_episodes(partial(own_episodes, plan)) if rule.plays else rule

    def coordinator(self, plan: Plan, life: CoordinatorLife) -> Actor:
        """Return the life of the coordinator."""
        scenario, section = plan.scenario, plan.scenario.coordinator
        aggregator = self.aggregator(plan)
        body = Coordinator(
            life.model,
            agents=scenario.agents,
            seed=scenario.seed,
            rules=CoordinatorRules(
                payload=plan.payload,
                aggregator=aggregator,
                optimizer=self.optimizer(plan),
                correction=scenario.correction,
                participation=section.participation.with_resources(plan.resources),
                capacities=plan.capacities(aggregator),
                privacy=scenario.privacy.planned(scenario.stop.rounds),
                ring=scenario.secure.ring,
                compressor=scenario.compressor,
            ),
            encoder=life.encoder,
            parts=plan.parts,
            port=life.port,
            witness=life.witness,
            ledger=life.ledger,
            sums=life.sums,
        )
        participants, secure = Participants(scenario.agents, body.choose), scenario.secure
        rounds = scenario.stop.rounds
        if secure.phases:
            phases = Phases(secure.phases, secure.fewest)
            options: Any = scenario.schedule  # synchronous, as secure sums need it
            phased = PhasedCoordinator(options, participants, phases, rounds=rounds)
            return Actor(phased, body, life.port, gives_last=True)
        machine = scenario.schedule.coordinator(participants, rounds=rounds)
        if scenario.standbys:
            return standbys.replica(plan, life, body, machine)
        return Actor(machine, body, life.port, gives_last=True)
