"""The composition root: a scenario becomes a world. The only module that sees every axis."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from p2pfrl.agent import Agent, Rules, follow
from p2pfrl.consensus.coordinator import Coordinator
from p2pfrl.consensus.mixing import Mixing
from p2pfrl.consensus.schedules.base import Alone, Available, Neighborhood, Participants, always
from p2pfrl.consensus.topologies import TopologyView
from p2pfrl.core.distributions import Draw
from p2pfrl.core.graph import Graph, path_latency
from p2pfrl.core.parameters import Vector
from p2pfrl.core.rng import draw
from p2pfrl.core.types import COORDINATOR
from p2pfrl.core.wire import Decoder, Encoder
from p2pfrl.exchange.payloads import RULES as PAYLOADS
from p2pfrl.learning.environments.heterogeneity import heterogeneity
from p2pfrl.learning.environments.vary import columns
from p2pfrl.learning.learners.base import Stack, Task
from p2pfrl.learning.model import Model
from p2pfrl.learning.trainer import Trainer
from p2pfrl.pooling import Collecting, Pool, Upload
from p2pfrl.results.recorder import Recorder, Row
from p2pfrl.scenario import Scenario, sections
from p2pfrl.world.availability import Presence
from p2pfrl.world.digest import Log
from p2pfrl.world.links import SECOND, Burst, Independent, Jittered, Latency, Loss, Never, PerEdge, Symmetric, drawn
from p2pfrl.world.loop import VirtualTimeLoop, virtual_time
from p2pfrl.world.network import Network
from p2pfrl.world.port import SimulatedPort
from p2pfrl.world.simulation import Actor, Simulation

_AVAILABILITY = 6


@dataclass(frozen=True)
class Learning:
    """Everything about learning that a scenario describes.

    Attributes:
        stack: the learner, bound to the environments.
        physics: `(n, ...)` per name; empty without an environment.
        instance: what `problem.safetensors` holds.
        heterogeneity: how different the agents are.
    """

    stack: Stack
    physics: dict[str, NDArray[np.generic]]
    instance: dict[str, NDArray[np.generic]]
    heterogeneity: dict[str, float]


def learning(scenario: Scenario) -> Learning:
    """Return the learner and environments of a scenario."""
    n, seed, section = scenario.agents, scenario.seed, scenario.environment
    if section is None:
        stack = scenario.learner.prepare(Task(seed, n))
        return Learning(stack, {}, stack.problem(), {})
    problem = section.rule
    table = problem.physics(seed, range(n), columns(problem, section.vary, seed, range(n), n))
    simulator = problem.simulator(table, section.instances, seed)
    episodes = scenario.evaluation.episodes
    evaluator = problem.simulator(table, episodes, seed) if episodes else None
    stack = scenario.learner.prepare(Task(seed, n, simulator, evaluator))
    return Learning(stack, table, problem.instance(table) | stack.problem(), heterogeneity(problem, table))


class StackJudge:
    """What the recorder asks of the learner."""

    def __init__(self, trainer: Trainer) -> None:
        self._trainer = trainer

    def parameters(self, agent: int) -> Vector:
        """Return a copy of the agent's row."""
        return self._trainer.read(agent).copy()

    def error(self, parameters: Vector) -> tuple[float, float] | None:
        """Return objective and error, where they are known."""
        return self._trainer.stack.error(parameters)

    def divergence(self, agents: Sequence[int], parameters: Vector) -> float | None:
        """Return the mean KL divergence of the policies from that of the mean parameters."""
        rows = [self._trainer.row(agent) for agent in agents]
        state = {name: values[rows] for name, values in self._trainer.state.items()}
        return self._trainer.stack.divergence(agents, parameters, state)

    def evaluate(
        self, agents: Sequence[int], parameters: Vector, episodes: int, index: int
    ) -> NDArray[np.float64] | None:
        """Return mean greedy returns."""
        return self._trainer.stack.evaluate(agents, parameters, episodes, index)


@dataclass(frozen=True)
class World:
    """A built simulation and what belongs to its record."""

    loop: VirtualTimeLoop
    simulation: Simulation
    network: Network
    trainer: Trainer
    recorder: Recorder
    log: Log
    learning: Learning
    graph: Graph
    view: TopologyView
    mixing: Mixing


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


def build(
    scenario: Scenario, *, mixing: Mixing | None = None, trace: bool = False, on_row: Callable[[Row], bool]
) -> World:
    """Return the simulated world of a scenario.

    Args:
        scenario: what to build.
        mixing: a rule of the user's own, in place of the scenario's.
        trace: keep every event.
        on_row: called with every new row of metrics; returns whether to stop.

    Raises:
        TopologyError: the mixing rule does not fit the graph.
    """
    n, rounds = scenario.agents, scenario.stop.rounds
    mix = mixing or scenario.mixing
    view = TopologyView(scenario.topology, n, scenario.seed)
    parts_of = learning(scenario)
    stack = parts_of.stack
    mode = MODES[scenario.mode]
    trainer = Trainer(Collecting(stack) if mode.pools else stack, n, same_start=scenario.learner.same_start)
    parts = tuple(scenario.exchange.shared or stack.layout.parts)
    is_central, is_asynchronous = mode.coordinator, scenario.schedule.is_asynchronous
    speeds = scenario.compute.speed.values(scenario.seed, range(n), n, "speed")
    seconds = (scenario.compute.seconds_per_env_step / speeds).tolist()
    mean_update = stack.min_steps * scenario.schedule.every * sum(seconds) / n

    loop, log = virtual_time(), Log(trace=trace)
    recorder = Recorder(
        layout=stack.layout, agents=n, start=trainer.parameters, judge=StackJudge(trainer), now=lambda: loop.now,
        every=scenario.evaluation.every, episodes=scenario.evaluation.episodes if scenario.environment else 0,
        on_row=on_row, mixes=not mode.pools, shared=parts,
        tick=max(1, round(mean_update * SECOND)) if is_asynchronous else None,
    )  # fmt: skip
    size = Model(trainer, 0, parts=parts, moments=scenario.learner.moments).size
    decoder = Decoder(scenario.name, agents=n, parts=parts, size=size, dtype=stack.layout.dtype, uploads=mode.pools)
    worlds: list[Simulation] = []
    network = Network(
        loop, n, decoder=decoder, deliver=lambda to, event: worlds[0].deliver(to, event), log=log,
        latency=_latency(scenario, view.union), loss=_loss(scenario, mix), bandwidth=scenario.network.bandwidth,
        edge_bandwidth=view.union.bandwidth, duplicate=scenario.network.duplicate, seed=scenario.seed,
    )  # fmt: skip
    recorder.traffic = network
    rules = Rules(
        PAYLOADS[scenario.exchange.payload](), scenario.gate, scenario.privacy, scenario.compressor, mix,
        scenario.exchange.order, scenario.schedule.max_staleness,
    )  # fmt: skip

    @lru_cache(maxsize=64)
    def matrix(index: int) -> tuple[dict[int, float], ...]:
        graph = view.at(index)
        mix.check(graph)
        return mix.weights(graph)

    def weights(agent: int, round: int) -> dict[int, float]:
        return matrix(round % view.period if view.period else round)[agent] if mode.mixes else {agent: 1.0}

    if mode.mixes:
        matrix(0)

    trace_file = scenario.availability.trace
    presence = Presence.read(trace_file, n) if trace_file else Presence({})

    def available(agent: int) -> Available:
        dropout = scenario.availability.dropout
        if presence.has(agent):
            return lambda round, now: presence.is_there(agent, now / SECOND)
        if dropout:
            return lambda round, now: draw(scenario.seed, agent, agent, round, _AVAILABILITY)[0] >= dropout
        return always

    def spawn(agent: int, incarnation: int, port: SimulatedPort) -> Actor:
        model = Model(trainer, agent, parts=parts, moments=scenario.learner.moments)
        observer = _Saving(recorder, worlds[0], scenario.checkpoint.every or 1)
        own_rules = replace(rules, payload=Upload(trainer, agent)) if mode.pools else rules
        body = Agent(
            agent, model=model, rules=own_rules, port=port, observer=observer,
            weights=lambda round: weights(agent, round),
            encoder=Encoder(scenario.name, agent, incarnation),
        )  # fmt: skip
        if is_central:
            last = rounds * n if rounds is not None and is_asynchronous else rounds
            schedule = scenario.schedule.client(rounds=last, available=available(agent))
        else:
            own: Neighborhood = _Links(view, agent) if mode.mixes else Alone()
            schedule = scenario.schedule.gossip(
                agent, own, rounds=None if is_asynchronous else rounds, order=rules.order, available=available(agent)
            )
        return Actor(schedule, lambda: body.run(schedule))

    def coordinate(port: SimulatedPort) -> Actor:
        section = scenario.coordinator
        body = Coordinator(
            Model(trainer, 0, parts=parts, moments=scenario.learner.moments).first(stack), parts=parts, port=port,
            aggregator=Pool(stack) if mode.pools else section.aggregator, optimizer=section.server_optimizer,
            payload=Upload(trainer, COORDINATOR) if mode.pools else rules.payload,
            encoder=Encoder(scenario.name, COORDINATOR), witness=recorder,
        )  # fmt: skip
        choose = section.participation.choose
        participants = Participants(n, lambda round, present: choose(scenario.seed, round, present))
        schedule = scenario.schedule.coordinator(participants, rounds=rounds)
        return Actor(schedule, lambda: follow(schedule, port, body.perform))

    union = view.union
    simulation = Simulation(
        loop, network, trainer, agents=n, spawn=spawn, coordinator=coordinate if is_central else None,
        seconds_per_step=seconds, neighbors=mode.neighbors(union), faults=scenario.faults, log=log, witness=recorder,
        peer_timeout=round((scenario.network.peer_timeout or scenario.schedule.link_timeout) * SECOND),
    )  # fmt: skip
    worlds.append(simulation)
    if is_asynchronous:
        recorder.follow_clock(loop.post, None if rounds is None or is_central else rounds * n, simulation.stop)
    return World(loop, simulation, network, trainer, recorder, log, parts_of, union, view, mix)


@dataclass(frozen=True)
class Mode:
    """What sets one mode apart from the others.

    Attributes:
        mixes: agents mix with their neighbors on the topology.
        coordinator: there is one, and agents talk to it alone.
        pools: agents upload transitions, and the coordinator learns.
        neighbors: per agent and, last, the coordinator: whom it talks to.
    """

    mixes: bool
    coordinator: bool
    pools: bool
    neighbors: Callable[[Graph], list[Sequence[int]]]


def _on_graph(graph: Graph) -> list[Sequence[int]]:
    both = zip(graph.successors, graph.predecessors, strict=True)
    return [*(sorted({*out, *into}) for out, into in both), ()]


def _around_coordinator(graph: Graph) -> list[Sequence[int]]:
    return [*((COORDINATOR,) for _ in range(graph.n)), range(graph.n)]


def _nobody(graph: Graph) -> list[Sequence[int]]:
    return [() for _ in range(graph.n + 1)]


MODES: dict[str, Mode] = {
    "gossip": Mode(mixes=True, coordinator=False, pools=False, neighbors=_on_graph),
    "central": Mode(mixes=False, coordinator=True, pools=False, neighbors=_around_coordinator),
    "pooled": Mode(mixes=False, coordinator=True, pools=True, neighbors=_around_coordinator),
    "independent": Mode(mixes=False, coordinator=False, pools=False, neighbors=_nobody),
}


class _Saving:
    """An observer that also keeps what a restart resumes from."""

    def __init__(self, recorder: Recorder, simulation: Simulation, every: int) -> None:
        self.trained = recorder.trained
        self._recorder = recorder
        self._simulation = simulation
        self._every = every

    def mixed(self, agent: int, round: int, staleness: Mapping[int, int], before: Vector, after: Vector) -> None:
        """A round ended."""
        self._recorder.mixed(agent, round, staleness, before, after)
        if (round + 1) % self._every == 0:
            self._simulation.save(agent)

    def sat_out(self, agent: int, round: int) -> None:
        """A round ended without taking part."""
        self._recorder.sat_out(agent, round)


def _latency(scenario: Scenario, graph: Graph) -> Latency:
    """Return the latency model of the scenario's network."""
    section = scenario.network
    base: Latency
    if isinstance(section.latency, Draw):
        base = drawn(scenario.seed, section.latency)
    else:
        times = dict(graph.latency)
        for agent, seconds in enumerate(path_latency(graph, scenario.coordinator.at or 0)):
            times[agent, COORDINATOR] = times[COORDINATOR, agent] = seconds
        base = PerEdge({edge: round(seconds * SECOND) for edge, seconds in times.items()})
    return Jittered(scenario.seed, base, section.jitter) if section.jitter else base


def _loss(scenario: Scenario, mixing: Mixing) -> Loss:
    """Return the loss model of the scenario's network."""
    return _LOSSES[type(scenario.network.loss)](scenario, scenario.network.loss, mixing.on_loss == "symmetric")


def _independent(scenario: Scenario, section: sections.Independent, symmetric: bool) -> Loss:
    if not section.probability:
        return Never()
    return (Symmetric if symmetric else Independent)(scenario.seed, section.probability)


def _burst(scenario: Scenario, section: sections.Burst, symmetric: bool) -> Loss:
    return Burst(scenario.seed, section.good_to_bad, section.bad_to_good, section.loss_good, section.loss_bad)


_LOSSES: dict[type, Callable[..., Loss]] = {sections.Independent: _independent, sections.Burst: _burst}
