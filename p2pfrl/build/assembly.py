"""Assembly: the agents and coordinators of a scenario, for the simulator and for a LAN alike."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property, lru_cache
from typing import Any

import numpy as np

from p2pfrl.agent import Agent, Rules
from p2pfrl.build.attackers import Attackers
from p2pfrl.build.devices import chosen
from p2pfrl.build.modes import BUILDERS
from p2pfrl.build.modes.base import AgentLife, CoordinatorLife, Neighbors, Plan
from p2pfrl.build.secure import (
    Keyring,
    achieved,
    circle_of,
    circles,
    member_of,
    simulated_keyring,
    sums_of,
)
from p2pfrl.consensus.coordinator import Sums, Witness
from p2pfrl.consensus.mixing.base import Mixing, Weights, require_matrix
from p2pfrl.consensus.mixing.metropolis import Metropolis
from p2pfrl.consensus.schedules.base import Attendance, Available, always
from p2pfrl.consensus.schedules.workload import Quota, Workload
from p2pfrl.consensus.theory import Prediction, predict
from p2pfrl.consensus.topologies.base import TopologyView
from p2pfrl.core.actor import Actor
from p2pfrl.core.resources import Resources
from p2pfrl.core.rng import MessagePurpose, draw
from p2pfrl.core.state import State
from p2pfrl.core.types import COORDINATOR, Observer, Port, Schedule
from p2pfrl.core.units import SECOND
from p2pfrl.core.wire import Decoder, Encoder
from p2pfrl.exchange.attacks.base import View
from p2pfrl.exchange.outbox import Hiding
from p2pfrl.exchange.payloads.base import Payload
from p2pfrl.exchange.privacy.base import Privacy
from p2pfrl.exchange.privacy.ledger import Ledger, simulated, simulated_words
from p2pfrl.exchange.scores import SCORES
from p2pfrl.learning.model import Model
from p2pfrl.learning.trainer import Trainer
from p2pfrl.scenario import Scenario
from p2pfrl.scenario.bind import learning
from p2pfrl.scenario.checks.needs import require
from p2pfrl.scenario.resources import assigned, resources
from p2pfrl.scenario.traffic import Sizes, elements, shared_parts, sizes
from p2pfrl.simulator.availability import Presence


class Assembly:
    """Makes the agents and the coordinator of a scenario, for any world.

    Attributes:
        scenario: what is built: without the rules that its mode has no use for.
        mode: what sets its mode apart.
        device: where minibatch steps are taken.
        learning: learner and environments.
        plan: what all participants are made from.
        resources: of the agents.
        attackers: the Byzantine agents.
        sums: the part of the coordinator that was started last in secure sums, if it has one.
        decoder: checks the frames of this run.

    Args:
        scenario: what to build.
        keyring: keys of secure sums; None for those of a simulation.
        agents: how many train in this process; None: all.

    Raises:
        TopologyError: the mixing rule does not fit the graph.
        ScenarioError: a rule needs what the scenario does not have.
    """

    def __init__(
        self, scenario: Scenario, keyring: Keyring | None = None, agents: int | None = None
    ) -> None:
        self._keyring = keyring
        self.sums: Sums | None = None
        self._builder = BUILDERS[scenario.mode]()
        self.mode = self._builder.mode
        self.scenario = scenario = self._builder.plain(scenario)
        view = TopologyView(scenario.topology, scenario.agents, scenario.seed)
        self.device = chosen(scenario, scenario.agents if agents is None else agents)
        self.learning = learning(self.device.applied(scenario))
        self.resources = resources(scenario, self.learning.stack)
        mixing: Mixing = Metropolis()
        if self.mode.mixes:
            mixing = scenario.mixing.with_resources(self.resources).fit(view.at(0))
            require_matrix(mixing, view.at(0))
        stack = self.learning.stack
        require(scenario, stack)
        self.plan = Plan(
            scenario=scenario,
            groups=scenario.edges,
            resources=self.resources,
            view=view,
            mixing=mixing,
            payload=self._builder.payload(scenario),
            parts=shared_parts(scenario, stack),
            stack=stack,
        )
        self._updates = assigned(scenario, self.resources.speed)
        self.attackers = Attackers(self.plan, self.neighbors, self._row)
        self._rules = self._rules_of_agents()
        self._waits = self.mode.mixes and self._rules.need_every_message
        self._matrix = lru_cache(maxsize=64)(self._weights)
        if self.mode.mixes:
            self._matrix(0)
        self._sizes = self._sizes_of_messages()
        self.decoder = self._decoder()
        section = scenario.availability
        self._presence = (
            Presence.read(section.path, scenario.agents) if section.trace else Presence({})
        )

    def _rules_of_agents(self) -> Rules:
        """Return one rule of every axis."""
        scenario, plan = self.scenario, self.plan
        section = scenario.coordinator
        score = section.aggregator.score or section.participation.score
        return Rules(
            seed=scenario.seed,
            payload=plan.payload,
            gate=scenario.gate.bind(scenario.agents),
            privacy=scenario.privacy.planned(scenario.stop.rounds),
            compressor=scenario.compressor,
            mixing=plan.mixing,
            correction=scenario.correction,
            order=scenario.exchange.order,
            max_staleness=scenario.schedule.max_staleness,
            score=SCORES[score] if score and self.mode.has_coordinator else None,
            rate=plan.stack.traits.rate,
            secure=scenario.secure,
        )

    def _sizes_of_messages(self) -> Sizes:
        """Return how many numbers travel in a message."""
        plan, has_coordinator = self.plan, self.mode.has_coordinator
        return sizes(
            plan.scenario,
            plan.stack,
            plan.parts,
            plan.payload,
            plan.mixing,
            coordinator=has_coordinator,
        )

    def _decoder(self) -> Decoder:
        """Return what checks the frames of this run."""
        scenario, plan = self.scenario, self.plan
        return Decoder(
            scenario.name,
            agents=scenario.agents,
            parts=plan.parts,
            names=plan.payload.parts(plan.parts),
            size=self._sizes.upload,
            model=self._sizes.model,
            dtype=plan.stack.layout.dtype,
            codec=scenario.compressor,
            masked=elements(scenario) if self.mode.exchanges else None,
            coordinators=max(1, len(self.coordinators) - len(scenario.standbys)),
            standbys=len(scenario.standbys),
            state=self._most_of_state(),
        )

    @cached_property
    def prediction(self) -> Prediction | None:
        """What theory predicts of the agreement; None without rounds of mixing between agents."""
        if not self.mode.mixes or self.scenario.schedule.is_asynchronous:
            return None
        return predict(self.plan.view, self.plan.mixing)

    def _most_of_state(self) -> int:
        """Return the most bytes of what a coordinator remembers and its standbys store.

        It has a few vectors of the size of a model, and two for each agent.
        """
        itemsize = np.dtype(self.plan.stack.layout.dtype).itemsize
        return 2**20 + (16 + 2 * self.scenario.agents) * self._sizes.model * itemsize

    def close(self) -> None:
        """Close the environments."""
        self.learning.close()

    @property
    def forgets(self) -> str:
        """What is lost in a restart, in words.

        "" where checkpoints hold environments and all that learners remember.
        """
        makes = self.scenario.makes
        worlds = [make.environment.rule for make in makes if make.environment is not None]
        if not all(problem.is_saved_whole for problem in worlds):
            what = "its environments cannot be saved, so that episodes begin anew"
        elif not self.learning.stack.traits.is_saved_whole:
            what = "its learner does not save all that it remembers"
        else:
            return ""
        return f"{what}: the run will differ from an uninterrupted one"

    @property
    def compared(self) -> Sequence[str] | None:
        """The parts over which agents are compared; None for all parts.

        All parts are compared unless an agent has personal parts, which never travel.
        """
        traits = self.learning.stack.traits
        return traits.common if traits.personal else None

    @property
    def judges(self) -> bool:
        """Whether a robust rule judges the vectors that agents send."""
        by_neighbors = self.mode.mixes and self.plan.mixing.is_robust
        return by_neighbors or (
            self.mode.averages and self.scenario.coordinator.aggregator.is_robust
        )

    @property
    def coordinators(self) -> Sequence[int]:
        """The ids of all coordinators."""
        return self.scenario.coordinators

    def neighbors(self) -> Neighbors:
        """Return by id whom every agent and coordinator talks to."""
        return self._builder.neighbors(self.plan)

    def trainer(self, agents: Sequence[int]) -> Trainer:
        """Return the trainer of `agents`."""
        same_start = self.scenario.learner.same_start
        return Trainer(self._builder.trained(self.plan.stack), agents, same_start=same_start)

    @property
    def privacy(self) -> Privacy:
        """The rule by which agents protect what leaves them, with all that the run gives it."""
        return self._rules.privacy

    def ledgers(self) -> dict[int, Ledger]:
        """Return the ledgers of simulated agents or of a coordinator, of whoever adds noise."""
        seed = self.scenario.seed
        return {
            id: Ledger(simulated(seed, id), words=simulated_words(seed, id))
            for id in self.accounted
        }

    @property
    def accounted(self) -> Sequence[int]:
        """Who has a ledger: all agents, the coordinator, or nobody."""
        if self.privacy.is_central:
            return (COORDINATOR, *self.scenario.standbys)
        return range(self.scenario.agents) if self.privacy.is_accounted else ()

    def seconds_per_step(self) -> list[float]:
        """Return the virtual seconds that one environment step takes each agent."""
        speeds = self.resources.speed
        return [float(s) for s in self.scenario.compute.seconds_per_env_step / speeds]

    @property
    def counted(self) -> Resources | None:
        """What the agents have, where the record counts their steps and joules."""
        section = self.scenario
        counts = section.energy.is_counted or section.work.assign != "equal"
        return self.resources if counts else None

    def interfaces(self) -> dict[int, float]:
        """Return the bytes per second of the interface of every agent and coordinator."""
        agents = dict(enumerate(self.resources.bandwidth.tolist()))
        own = self.scenario.network.coordinator_bandwidth or max(agents.values())
        return {**agents, **dict.fromkeys(self.coordinators, own)}

    def agent(
        self,
        agent: int,
        incarnation: int,
        port: Port,
        trainer: Trainer,
        observer: Observer,
        *,
        first: int = 0,
        memory: State | None = None,
        counts_own: bool = False,
        view: View | None = None,
        ledger: Ledger | None = None,
    ) -> Actor:
        """Return one life of an agent.

        Args:
            agent: its id.
            incarnation: how many times it was started before.
            port: its world.
            trainer: holds what it learns with.
            observer: writes the record.
            first: the round at which a restarted one goes on.
            memory: what a restarted one remembers.
            counts_own: an asynchronous agent ends after `stop.rounds` rounds of its own, where no
                world counts the updates of all.
            view: what it sees of the others if it is an omniscient attacker.
            ledger: pays for what leaves it, where `privacy.is_accounted`.
        """
        body = Agent(
            agent,
            model=self._model(trainer, agent),
            rules=self._rules,
            weights=lambda round: self._row(agent, round),
            encoder=Encoder(self.scenario.name, agent, incarnation),
            port=port,
            observer=observer,
            attacker=self.attackers.attacker(agent, port, view),
            ledger=ledger,
            hiding=self._hiding(agent, incarnation, ledger),
        )
        if memory is not None:
            body.restore(memory)
        life = AgentLife(
            agent,
            self._available(agent),
            first,
            counts_own,
            has_sent=body.has_begun_exchange,
            waits=self._waits,
        )
        return Actor(self._schedule(life), body, port, stays=self._waits)

    def _schedule(self, life: AgentLife) -> Schedule:
        """Return the state machine of an agent, with the work that it is assigned."""
        work, plan = self.scenario.work, self._singly
        if work.assign == "equal":
            return self._builder.schedule(self.plan, life)
        quota = Quota(most=work.most, time=round((work.time or 0.0) * SECOND))
        if work.assign == "speed":
            updates = int(self._updates[life.agent])
            quota = Quota(updates, updates)
        return Workload(self._builder.schedule(plan, life), quota)

    @cached_property
    def _singly(self) -> Plan:
        """The plan with one local update per exchange."""
        rule: Any = self.scenario.schedule  # a dataclass, which the contract does not say
        scenario = replace(self.scenario, schedule=replace(rule, every=1))
        return replace(self.plan, scenario=scenario)

    def coordinator(
        self,
        port: Port,
        trainer: Trainer,
        witness: Witness,
        id: int = COORDINATOR,
        incarnation: int = 0,
        ledger: Ledger | None = None,
    ) -> Actor:
        """Return the life of the coordinator, or of one of a tree.

        `incarnation` and `ledger` as of an agent.
        """
        start = self._model(trainer, 0).first(self.plan.stack)
        model = self.plan.payload.first(start, self._sizes.offered)
        encoder = Encoder(self.scenario.name, id, incarnation)
        if self.scenario.secure.phases:
            self.sums = sums_of(self.scenario, self.keyring, id)
        life = CoordinatorLife(id, model, encoder, port, witness, ledger, self.sums)
        return self._builder.coordinator(self.plan, life)

    def circles(self) -> dict[int, tuple[int, ...]]:
        """Return by agent who needs its key, without being a neighbor of it; empty for nobody."""
        return circles(self.scenario, self._row)

    @property
    def keyring(self) -> Keyring:
        """The keys of secure sums."""
        if self._keyring is None:
            self._keyring = simulated_keyring(self.scenario.seed)
        return self._keyring

    def secured(self) -> dict[str, Any]:
        """Return what came of secure sums, as a key of the summary; nothing without any."""
        if not self.scenario.secure.is_on:
            return {}
        return achieved(self.scenario, self.keyring, self.sums)

    def _hiding(self, agent: int, incarnation: int, ledger: Ledger | None) -> Hiding | None:
        """Return what hides the vectors of an agent; None where receivers may see them."""
        if not self.scenario.secure.is_on:
            return None
        if self.scenario.secure.is_of_neighbors:
            return circle_of(self.scenario, self.keyring, agent, self._row)
        unit = float(self.plan.stack.traits.min_steps)
        noised = None if ledger is None else self.privacy.of_ring(ledger)
        return member_of(self.scenario, self.keyring, agent, incarnation, unit, noised)

    @property
    def sends_all(self) -> bool:
        """Whether the vector that a round ends with is all that an agent has learned."""
        layout, payload = self.learning.stack.layout, type(self.plan.payload)
        is_written = payload.write is Payload.write and self.scenario.learner.moments != "average"
        return is_written and set(self.plan.parts) == set(layout.parts)

    def _model(self, trainer: Trainer, agent: int) -> Model:
        moments = self.scenario.learner.moments
        return Model(trainer, agent, parts=self.plan.parts, moments=moments)

    def _weights(self, index: int) -> tuple[Weights, ...]:
        view = self.plan.view
        graph = view.union if self._averages_alone else view.at(index)
        mixing = self.plan.mixing
        mixing.check(graph)
        require_matrix(mixing, graph)
        return mixing.weights(graph)

    def _row(self, agent: int, round: int) -> Weights:
        """Return the agent's row of the mixing matrix of `round`."""
        if not self.mode.mixes and not self._averages_alone:
            return {agent: 1.0}
        period = self.plan.view.period
        return self._matrix(round % period if period else round)[agent]

    @property
    def _averages_alone(self) -> bool:
        """Whether agents average with their neighbors while there is no coordinator."""
        scenario = self.scenario
        return bool(scenario.standbys) and scenario.coordinator.fallback == "gossip"

    def _available(self, agent: int) -> Available:
        """Return whether the agent takes part in a round."""
        scenario, presence = self.scenario, self._presence
        dropout = scenario.availability.dropout
        if presence.has(agent):
            return self._attendance(agent)
        if dropout:
            return lambda round, now: (
                draw(scenario.seed, agent, agent, round, MessagePurpose.AVAILABILITY)[0] >= dropout
            )
        return always

    def _attendance(self, agent: int) -> Attendance:
        """Return when an agent of the availability trace takes part."""
        presence, n = self._presence, self.scenario.agents

        def returns(now: int) -> int | None:
            return presence.next(agent, now)

        return Attendance(
            is_there=lambda now: presence.is_there(agent, now / SECOND),
            returns=returns,
            # An agent that exchanges with nobody keeps step with nobody.
            opens=(lambda now: presence.first(n, now)) if self.mode.exchanges else returns,
        )


def saved_every(scenario: Scenario) -> int:
    """Return the rounds between two checkpoints of an agent that trains for a coordinator.

    With a correction that travels every update is saved, because the coordinator says later whether
    the update counted.
    """
    return 1 if scenario.correction.extras else scenario.checkpoint.rounds
