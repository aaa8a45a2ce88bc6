"""Assembly: the agents and coordinators of a scenario, for the simulator and for a LAN alike."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

from p2pfrl.agent import Agent, Rules
from p2pfrl.build import hierarchical as tree
from p2pfrl.build.modes import MODES, coordinators
from p2pfrl.build.pooled import Collecting, Pool, Upload, plain
from p2pfrl.consensus.coordinator import Coordinator, Witness
from p2pfrl.consensus.mixing import Metropolis, Mixing
from p2pfrl.consensus.schedules.base import Alone, Available, Neighborhood, Participants, always
from p2pfrl.consensus.topologies import TopologyView
from p2pfrl.core.actor import Actor
from p2pfrl.core.rng import MessagePurpose, draw
from p2pfrl.core.types import COORDINATOR, Observer, Port, Schedule, edge_id
from p2pfrl.core.units import SECOND
from p2pfrl.core.wire import Decoder, Encoder
from p2pfrl.exchange.payloads import RULES as PAYLOADS
from p2pfrl.exchange.payloads import Parameters
from p2pfrl.exchange.scores import SCORES
from p2pfrl.learning.learners.base import Stack
from p2pfrl.learning.model import Model
from p2pfrl.learning.trainer import Trainer
from p2pfrl.scenario import Scenario
from p2pfrl.scenario.bind import learning
from p2pfrl.scenario.checks.needs import require
from p2pfrl.scenario.traffic import shared_parts, sizes
from p2pfrl.simulator.availability import Presence


@dataclass(frozen=True)
class _Links:
    """One agent's neighborhood on a topology."""

    view: TopologyView
    me: int

    def successors(self, round: int) -> Sequence[int]:
        """Return whom it sends to."""
        return self.view.at(round).successors[self.me]

    def predecessors(self, round: int) -> Sequence[int]:
        """Return whom it hears."""
        return self.view.at(round).predecessors[self.me]


class Assembly:
    """Makes the agents and the coordinator of a scenario, for any world.

    Attributes:
        asked: the scenario as it was given.
        scenario: what is built: in mode pooled without the rules that it has no use for.
        mode: what sets its mode apart.
        mixing: the mixing rule.
        view: the topology.
        groups: the agents of each edge coordinator.
        learning: learner and environments.
        parts: the parts of the parameters that are shared.
        decoder: checks the frames of this run.

    Args:
        scenario: what to build.
        mixing: a rule of the user's own, in place of the scenario's.

    Raises:
        TopologyError: the mixing rule does not fit the graph.
        ScenarioError: a rule needs what the scenario does not have.
    """

    def __init__(self, scenario: Scenario, mixing: Mixing | None = None) -> None:
        self.mode = MODES[scenario.mode]
        self.asked = scenario
        self.scenario = scenario = plain(scenario) if self.mode.pools else scenario
        self.mixing = mixing or scenario.mixing
        self.view = TopologyView(scenario.topology, scenario.agents, scenario.seed)
        if self.mode.mixes:
            self.mixing = self.mixing.fit(self.view.at(0))
        self.groups = scenario.hierarchy.members(scenario.agents) if self.mode.has_edges else ()
        self._above = {
            agent: edge_id(number) for number, group in enumerate(self.groups) for agent in group
        }
        self.learning = learning(scenario)
        stack = self.learning.stack
        require(replace(scenario, mixing=mixing) if mixing else scenario, stack)
        self.parts = shared_parts(scenario, stack)
        aggregator, participation = (
            scenario.coordinator.aggregator,
            scenario.coordinator.participation,
        )
        score = aggregator.score or participation.score
        named = PAYLOADS[scenario.exchange.payload]
        self._rules = Rules(
            seed=scenario.seed,
            payload=Upload()
            if self.mode.pools
            else (named if named.is_for(scenario.mode) else Parameters)(),
            gate=scenario.gate.bind(scenario.agents),
            privacy=scenario.privacy,
            compressor=scenario.compressor,
            mixing=self.mixing if self.mode.mixes else Metropolis(),
            correction=scenario.correction,
            order=scenario.exchange.order,
            max_staleness=scenario.schedule.max_staleness,
            score=SCORES[score] if score and self.mode.coordinator else None,
            rate=stack.rate,
        )
        self._matrix = lru_cache(maxsize=64)(self._weights)
        if self.mode.mixes:
            self._matrix(0)
        self.decoder = self._decoder(stack)
        trace = scenario.availability.trace
        self._presence = Presence.read(trace, scenario.agents) if trace else Presence({})

    @property
    def compared(self) -> Sequence[str] | None:
        """The parts over which agents are compared: None for all, which they are where nothing has to stay."""
        stack = self.learning.stack
        return stack.common if stack.personal else None

    def _decoder(self, stack: Stack) -> Decoder:
        """Return what checks the frames of this run."""
        scenario, rules = self.scenario, self._rules
        found = sizes(
            scenario,
            stack,
            self.parts,
            rules.payload,
            rules.mixing,
            coordinator=self.mode.coordinator,
        )
        self._told = found.told
        return Decoder(
            scenario.name,
            agents=scenario.agents,
            parts=self.parts,
            names=rules.payload.parts(self.parts),
            size=found.upload,
            model=found.model,
            dtype=stack.layout.dtype,
            codec=scenario.compressor,
            coordinators=max(1, len(self.coordinators)),
        )

    def trainer(self, agents: Sequence[int]) -> Trainer:
        """Return the trainer of `agents`."""
        stack = self.learning.stack
        return Trainer(
            Collecting(stack) if self.mode.pools else stack,
            agents,
            same_start=self.scenario.learner.same_start,
        )

    def seconds_per_step(self) -> list[float]:
        """Return the virtual seconds that one environment step takes each agent."""
        n = self.scenario.agents
        speeds = self.scenario.compute.speed.values(self.scenario.seed, range(n), n, "speed")
        return [float(s) for s in self.scenario.compute.seconds_per_env_step / speeds]

    def agent(
        self,
        agent: int,
        incarnation: int,
        port: Port,
        trainer: Trainer,
        observer: Observer,
        *,
        first: int = 0,
        counts_own: bool = False,
    ) -> Actor:
        """Return one life of an agent.

        Args:
            agent: its id.
            incarnation: how many times it was started before.
            port: its world.
            trainer: holds what it learns with.
            observer: writes the record.
            first: the round at which a restarted one goes on.
            counts_own: an asynchronous agent ends after `stop.rounds` rounds of its own, where no
                world counts the updates of all.
        """
        scenario = self.scenario
        rules = self._rules
        body = Agent(
            agent,
            model=self._model(trainer, agent),
            rules=rules,
            weights=lambda round: self._row(agent, round),
            encoder=Encoder(scenario.name, agent, incarnation),
            port=port,
            observer=observer,
        )
        rounds, available = scenario.stop.rounds, self._available(agent)
        if self.mode.coordinator:
            models = None if rounds is None else scenario.schedule.models(rounds, scenario.agents)
            above = self._above.get(agent, COORDINATOR)
            schedule = scenario.schedule.client(
                rounds=models, available=available, coordinator=above
            )
        else:
            links: Neighborhood = _Links(self.view, agent) if self.mode.mixes else Alone()
            last = None if scenario.schedule.is_asynchronous and not counts_own else rounds
            if self.mode.mixes and self.mixing.is_pairwise:
                schedule = self._pairs(agent, links, last, available, first)
            else:
                schedule = scenario.schedule.gossip(
                    agent,
                    links,
                    rounds=last,
                    order=scenario.exchange.order,
                    available=available,
                    first=first,
                )
        return Actor(schedule, body, port)

    def _pairs(
        self, agent: int, links: Neighborhood, last: int | None, available: Available, first: int
    ) -> Schedule:
        """Return the protocol of an agent that exchanges with one neighbor at a time."""
        scenario = self.scenario

        def pick(round: int, near: Sequence[int]) -> int:
            return near[
                int(draw(scenario.seed, agent, agent, round, MessagePurpose.PARTNER)[0] * len(near))
            ]

        seconds = scenario.network.peer_timeout or scenario.schedule.link_timeout
        machine: Schedule = scenario.schedule.pairs(
            agent,
            links,
            rounds=last,
            patience=round(seconds * SECOND),
            pick=pick,
            available=available,
            first=first,
        )
        return machine

    @property
    def coordinators(self) -> Sequence[int]:
        """The ids of all coordinators."""
        return coordinators(self.scenario)

    def neighbors(self) -> list[Sequence[int]]:
        """Return per agent and, from the end, per coordinator: whom it talks to."""
        return self.mode.neighbors(self.view.union, self.groups)

    def coordinator(
        self,
        port: Port,
        trainer: Trainer,
        witness: Witness,
        id: int = COORDINATOR,
        incarnation: int = 0,
    ) -> Actor:
        """Return the life of the coordinator, or of one of a tree; `incarnation` as of an agent."""
        scenario, section, stack = self.scenario, self.scenario.coordinator, self.learning.stack
        payload = self._rules.payload
        common: dict[str, Any] = {
            "model": payload.first(self._model(trainer, 0).first(stack), self._told),
            "payload": payload,
            "correction": scenario.correction,
            "seed": scenario.seed,
            "encoder": Encoder(scenario.name, id, incarnation),
            "parts": self.parts,
            "port": port,
        }
        if self.mode.has_edges:
            return tree.life(scenario, self.groups, id, witness, common)
        body = Coordinator(
            **common,
            aggregator=Pool(stack)
            if self.mode.pools
            else section.aggregator.bind(scenario.learner.lr),
            optimizer=section.server_optimizer,
            participation=section.participation,
            agents=scenario.agents,
            witness=witness,
        )
        participants = Participants(scenario.agents, body.choose)
        schedule = scenario.schedule.coordinator(participants, rounds=scenario.stop.rounds)
        return Actor(schedule, body, port)

    def _model(self, trainer: Trainer, agent: int) -> Model:
        return Model(trainer, agent, parts=self.parts, moments=self.scenario.learner.moments)

    def _weights(self, index: int) -> tuple[dict[int, float], ...]:
        graph = self.view.at(index)
        self.mixing.check(graph)
        return self.mixing.weights(graph)

    def _row(self, agent: int, round: int) -> dict[int, float]:
        """Return the agent's row of the mixing matrix of `round`."""
        if not self.mode.mixes:
            return {agent: 1.0}
        return self._matrix(round % self.view.period if self.view.period else round)[agent]

    def _available(self, agent: int) -> Available:
        """Return whether the agent takes part in a round."""
        scenario, presence = self.scenario, self._presence
        dropout = scenario.availability.dropout
        if presence.has(agent):
            return lambda round, now: presence.is_there(agent, now / SECOND)
        if dropout:
            return lambda round, now: (
                draw(scenario.seed, agent, agent, round, MessagePurpose.AVAILABILITY)[0] >= dropout
            )
        return always
