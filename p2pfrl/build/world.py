"""The composition root: a scenario becomes a simulated world."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from p2pfrl.agent import Agent
from p2pfrl.build.assembly import Assembly, saved_every
from p2pfrl.build.attackers import marked
from p2pfrl.core.actor import Actor
from p2pfrl.core.distributions.base import Constant, Draw
from p2pfrl.core.errors import RecordError
from p2pfrl.core.graph import Graph, path_latency
from p2pfrl.core.mailbox import MailboxPort
from p2pfrl.core.parameters import Vector
from p2pfrl.core.rng import MessagePurpose, draw
from p2pfrl.core.state import State
from p2pfrl.core.types import COORDINATOR, Frame, Scores, Update
from p2pfrl.core.units import SECOND
from p2pfrl.exchange.privacy.ledger import Ledger
from p2pfrl.learning.learners.base import Evaluator, Objective
from p2pfrl.learning.meetings import whole_worlds
from p2pfrl.learning.trainer import Trainer
from p2pfrl.results.distances import Sums
from p2pfrl.results.recorder import Recorder, Row, Rows
from p2pfrl.scenario import Scenario
from p2pfrl.scenario.modes import MODES
from p2pfrl.simulator.crowds import last_number
from p2pfrl.simulator.digest import MIX, Log
from p2pfrl.simulator.links import Jittered, Latency, PerEdge, PerLink, drawn
from p2pfrl.simulator.loop import VirtualTimeLoop, virtual_time
from p2pfrl.simulator.losses import LinkLosses, Loss
from p2pfrl.simulator.network import Network
from p2pfrl.simulator.simulation import Simulation

_MANY = 1024
"""Agents from which on it matters where their objects lie."""


class StackJudge:
    """The learner, as the recorder uses it.

    Args:
        trainer: has the numbers.
        has_all: whether the vector with which a round ends is all that the agent has learned.
    """

    def __init__(self, trainer: Trainer, *, has_all: bool = False) -> None:
        self._trainer = trainer
        self._has_all = has_all
        stack = trainer.stack
        self._dtype = np.dtype(stack.layout.dtype)
        self._has_error = type(stack.objective).error is not Objective.error
        self._has_divergence = type(stack.evaluator).divergence is not Evaluator.divergence
        self.average = stack.evaluator.average

    def parameters(self, agent: int, shared: Vector | None) -> Vector:
        """Return the vector that the agent goes on with, or a copy of its row."""
        if shared is not None and self._has_all and shared.dtype == self._dtype:
            return shared
        return self._trainer.stack.layout.pack(self._trainer.read(agent))

    def error(self, parameters: Rows) -> tuple[float, float] | None:
        """Return objective and error of `(b, stride)` parameters, or None if unknown."""
        return self._trainer.stack.objective.error(parameters()) if self._has_error else None

    def evaluate(
        self, agents: Sequence[int], parameters: Vector, episodes: int, index: int
    ) -> NDArray[np.float64] | None:
        """Return the mean return `(b,)` of rows in their agents' environments, if any.

        The absent members of shared worlds act with their last parameters.
        """
        evaluate = self._trainer.stack.evaluator.evaluate
        traits = self._trainer.stack.traits
        k = max(traits.members, traits.companions)
        if k == 1:
            return evaluate(agents, parameters, episodes, index)
        known = dict(zip(agents, parameters, strict=True))
        everyone = whole_worlds(agents, k)
        rows = self._trainer.stack.layout.zeros(len(everyone))
        for row, agent in zip(rows, everyone, strict=True):
            row[:] = known[agent] if agent in known else self._trainer.read(agent)
        found = evaluate(everyone, rows, episodes, index)
        if found is None:
            return None
        returns = dict(zip(everyone, found.tolist(), strict=True))
        return np.array([returns[agent] for agent in agents])

    def divergence(
        self, agents: Sequence[int], vectors: Sequence[Vector], parameters: Rows
    ) -> float | None:
        """Return the mean KL divergence of the policies from that of the mean parameters."""
        if not self._has_divergence:
            return None
        state = dict(self._trainer.state)
        if len(agents) < len(self._trainer.agents):
            rows = [self._trainer.row(agent) for agent in agents]
            state = {name: values[rows] for name, values in state.items()}
        evaluator = self._trainer.stack.evaluator
        found = evaluator.divergence_of(agents, vectors, state)
        return evaluator.divergence(agents, parameters(), state) if found is None else found


@dataclass(frozen=True)
class World:
    """A built simulation and what belongs to its record."""

    assembly: Assembly
    loop: VirtualTimeLoop
    simulation: Simulation
    network: Network
    trainer: Trainer
    recorder: Recorder
    log: Log
    ledgers: Mapping[int, Ledger]

    def __enter__(self) -> World:
        return self

    def __exit__(self, *problem: object) -> None:
        """Close the environments, whatever happened."""
        self.assembly.close()

    def save(self, others: Mapping[str, object]) -> State:
        """Return the state of the whole run, taken between two events.

        The state shares arrays with the run: write it before the run continues. The record's rows
        and the bytes of the events are not part of it: they only grow, and are kept beside it.

        Args:
            others: further objects, by name, that have something scheduled.
        """
        names = {id(owner): name for name, owner in self._owners(others).items()}
        return {
            "now": self.loop.now,
            "scheduled": [
                (when, sequence, names[id(_owner(callback))], callback.__name__, args)
                for when, sequence, callback, args in self.loop.alone()
            ],
            "simulation": self.simulation.save(),
            "network": self.network.save(),
            "trainer": self.trainer.save(),
            "recorder": self.recorder.save(),
            "ledgers": {agent: ledger.save() for agent, ledger in self.ledgers.items()},
        }

    def restore(self, state: State, others: Mapping[str, object]) -> None:
        """Take over what `save` returned, for a world of the same scenario that has not run."""
        owners = self._owners(others)
        self.loop.resume(
            state["now"],
            [
                (when, sequence, _verb(owners[owner], name), args)
                for when, sequence, owner, name, args in state["scheduled"]
            ],
            last_number(state["network"].get("crowds", {})),  # earlier versions have none
        )
        self.network.restore(state["network"])
        for agent, ledger in self.ledgers.items():  # an agent compares its releases with them
            ledger.restore(state["ledgers"][agent])
        self.simulation.restore(state["simulation"])
        self.trainer.load(state["trainer"])
        self.recorder.restore(state["recorder"])

    def _owners(self, others: Mapping[str, object]) -> dict[str, object]:
        """Return all objects that schedule events, by name."""
        ports = {
            f"port {agent}": self.simulation.port(agent)
            for agent in (*range(self.assembly.scenario.agents), *self.assembly.coordinators)
        }
        own = {"simulation": self.simulation, "network": self.network, "recorder": self.recorder}
        return {**own, **ports, **others}


_VERBS = (
    "strike",
    "meet",
    "could_end",
    "ends",
    "report_lost",
    "farewell",
    "arrive",
    "arrive_again",
    "hand_over",
    "notice_gap",
    "ring",
    "tick",
    "because",
)
"""Methods that are ever scheduled: a saved run names no others."""


def _owner(callback: Callable[..., object]) -> object:
    """Return the object whose method is scheduled."""
    owner: object = callback.__self__  # type: ignore[attr-defined]
    return owner


def _verb(owner: object, name: str) -> Callable[..., object]:
    """Return the method that a saved run names.

    Raises:
        RecordError: no such method is ever scheduled.
    """
    if name not in _VERBS:
        raise RecordError(f"a saved run schedules {name!r}, which nothing does")
    method: Callable[..., object] = getattr(owner, name)
    return method


def build(
    scenario: Scenario,
    *,
    trace: bool = False,
    on_row: Callable[[Row], bool],
    actors: Callable[[Actor], Actor] | None = None,
) -> World:
    """Return the simulated world of a scenario.

    Args:
        scenario: what to build.
        trace: keep every event.
        on_row: called with every new row of metrics; returns whether to stop.
        actors: returns what runs in place of a new life of an agent or coordinator, such as one
            whose schedule is watched.

    Raises:
        TopologyError: the mixing rule does not fit the graph.
    """
    if scenario.agents >= _MANY and scenario.compute.engine != "torch":
        from p2pfrl.learning.native.arenas import use_large_pages

        use_large_pages()
    assembly = Assembly(scenario)
    trainer = assembly.trainer(range(scenario.agents))
    loop, log = virtual_time(), Log(trace=trace)
    network = _network(assembly, loop, log)
    ledgers = assembly.ledgers()
    recorder = _recorder(assembly, trainer, loop, ledgers, on_row)
    recorder.traffic = network.traffic
    worlds: list[Simulation] = []
    attackers = assembly.attackers
    sight = attackers.sight(trainer, lambda agent: worlds[0].body(agent))

    def starts(agent: int) -> None:
        body = worlds[0].body(agent)
        if isinstance(body, Agent):
            marked(attackers, trainer, agent, body.round, loop.now)

    returning = _returning(scenario)

    def spawn(
        agent: int, incarnation: int, first: int, memory: State | None, port: MailboxPort
    ) -> Actor:
        saves = agent in returning and not assembly.mode.has_coordinator
        every = scenario.checkpoint.rounds if saves else None
        observer = _Saving(recorder, worlds[0], log, loop, every)
        actor = assembly.agent(
            agent,
            incarnation,
            port,
            trainer,
            observer,
            first=first,
            memory=memory,
            view=sight,
            ledger=ledgers.get(agent),
        )
        return actor if actors is None else actors(actor)

    def coordinate(id: int) -> Callable[[int, MailboxPort], Actor]:
        def make(incarnation: int, port: MailboxPort) -> Actor:
            actor = assembly.coordinator(port, trainer, recorder, id, incarnation, ledgers.get(id))
            return actor if actors is None else actors(actor)

        return make

    simulation = Simulation(
        loop,
        network,
        trainer,
        agents=scenario.agents,
        spawn=spawn,
        coordinators={id: coordinate(id) for id in assembly.coordinators},
        hosted=scenario.hosted,
        seconds_per_step=assembly.seconds_per_step(),
        variation=_variation(scenario),
        neighbors=assembly.neighbors(),
        peer_timeout=round(
            (scenario.network.peer_timeout or scenario.schedule.link_timeout) * SECOND
        ),
        grace=scenario.schedule.every,
        faults=scenario.faults,
        keeps=_keeps(scenario),
        log=log,
        witness=recorder,
        **({"starts": starts} if attackers.experience else {}),
    )
    worlds.append(simulation)
    if scenario.schedule.is_asynchronous:
        recorder.follow_clock(loop.post, loop.is_busy, _updates(assembly), simulation.stop)
    return World(assembly, loop, simulation, network, trainer, recorder, log, ledgers)


def _recorder(
    assembly: Assembly,
    trainer: Trainer,
    loop: VirtualTimeLoop,
    ledgers: Mapping[int, Ledger],
    on_row: Callable[[Row], bool],
) -> Recorder:
    """Return the writer of the record."""
    scenario, privacy = assembly.scenario, assembly.privacy

    def epsilon(agent: int, round: int) -> float:
        of = ledgers.values() if privacy.is_central else (ledgers[agent],)
        return privacy.epsilon(max(ledger.spent for ledger in of))

    return Recorder(
        layout=assembly.learning.stack.layout,
        agents=scenario.agents,
        start=trainer.parameters,
        judge=StackJudge(trainer, has_all=assembly.sends_all),
        now=lambda: loop.now,
        every=scenario.evaluation.every,
        episodes=scenario.evaluation.episodes if scenario.environment else 0,
        on_row=on_row,
        mixes=not assembly.mode.pools,
        tick=_tick(assembly) if scenario.schedule.is_asynchronous else None,
        parts=assembly.compared,
        counts_applied=assembly.mode.has_coordinator and not assembly.mode.has_edges,
        resources=assembly.counted,
        judges=assembly.judges,
        byzantine=assembly.attackers.agents,
        epsilon=epsilon if ledgers else None,
        engine=_sums(trainer),
    )


def _sums(trainer: Trainer) -> Sums | None:
    """Return what computes drift and distances, where it is not numpy."""
    if trainer.stack.traits.engine != "native":
        return None
    from p2pfrl.learning.native.measures import NativeSums

    return NativeSums()


def _network(assembly: Assembly, loop: VirtualTimeLoop, log: Log) -> Network:
    """Return the network between all agents and coordinators."""
    scenario, graph = assembly.scenario, assembly.plan.view.union
    rates = assembly.interfaces()
    fastest = max(rates.values())
    return Network(
        loop,
        scenario.agents,
        coordinators=max(1, len(assembly.coordinators) - len(scenario.standbys)),
        standbys=scenario.standbys,
        decoder=assembly.decoder,
        log=log,
        latency=_latency(scenario, graph),
        loss=_loss(scenario),
        bandwidth=fastest,
        slower={node: rate for node, rate in rates.items() if rate < fastest},
        edge_bandwidth=_bandwidth(scenario, graph),
        duplicate=scenario.network.duplicate,
        seed=scenario.seed,
        byzantine=assembly.attackers.agents,
    )


def _updates(assembly: Assembly) -> int | None:
    """Return the updates after which an asynchronous run ends, if no coordinator counts them."""
    rounds = assembly.scenario.stop.rounds
    if rounds is None or assembly.mode.has_coordinator:
        return None
    return rounds * assembly.scenario.agents


def _keeps(scenario: Scenario) -> Callable[[int, Frame], bool]:
    """Return the function that says whether a sender saves its state before a frame leaves.

    Senders that a fault of the timeline restarts do so.
    """
    returning, every = _returning(scenario), saved_every(scenario)
    if not returning or not scenario.coordinators:
        return lambda sender, frame: False
    return lambda sender, frame: (
        sender in returning and (sender < 0 or (frame.round + 1) % every == 0)
    )


def _returning(scenario: Scenario) -> set[int]:
    """Return who goes on from what it saved: only they save anything."""
    returning = {id for fault in scenario.faults for id in fault.returning()}
    return returning | {id for id, host in scenario.hosted.items() if host in returning}


def _variation(scenario: Scenario) -> Callable[[int, int], float]:
    """Return (agent, number of the update) -> factor of the time it takes."""
    drawn = scenario.compute.variation
    if isinstance(drawn, Constant):
        return lambda agent, number: drawn.value
    return lambda agent, number: drawn.sample(
        *draw(scenario.seed, agent, agent, number, MessagePurpose.VARIATION)
    )


def _tick(assembly: Assembly) -> int:
    """Return the nanoseconds that one update of every agent takes on average.

    An asynchronous run writes one row of metrics per such time.
    """
    seconds = assembly.seconds_per_step()
    steps = assembly.learning.stack.traits.min_steps * assembly.scenario.schedule.every
    mean: float = steps * sum(seconds) / len(seconds)
    return max(1, round(mean * SECOND))


class _Saving:
    """An observer that also saves agents for their restarts, in modes without a coordinator.

    Args:
        every: rounds between saves; None for an agent that no fault starts again, and where agents
            save themselves before they send.
    """

    def __init__(
        self,
        recorder: Recorder,
        simulation: Simulation,
        log: Log,
        loop: VirtualTimeLoop,
        every: int | None,
    ) -> None:
        self._recorder = recorder
        self._log = log
        self._loop = loop
        self._simulation = simulation
        self._every = every

    def trained(self, agent: int, update: Update) -> None:
        """A local update ended."""
        self._recorder.trained(agent, update)

    def mixed(
        self, agent: int, round: int, staleness: Mapping[int, int], before: Vector, after: Vector
    ) -> None:
        """A round ended."""
        self._log.add(self._loop.now, MIX, agent, agent, round, 0)
        self._recorder.mixed(agent, round, staleness, before, after)
        self._keep(agent, round)

    def _keep(self, agent: int, round: int) -> None:
        """Save an agent that has ended a round, if a checkpoint is due."""
        if self._every is not None and (round + 1) % self._every == 0:
            self._simulation.keep(agent, round + 1)

    def sending(self, agent: int, round: int) -> None:
        """The messages of a round are about to leave: a restart sends them again."""
        if self._every == 1:
            self._simulation.keep(agent, round)

    def answered(self, agent: int, before: Vector, after: Vector) -> None:
        """An exchange with a neighbor that asked moved the agent."""
        self._log.add(self._loop.now, MIX, agent, agent, 0, 0)
        self._recorder.answered(agent, before, after)

    def sat_out(self, agent: int, round: int) -> None:
        """A round ended in which the agent took no part."""
        self._recorder.sat_out(agent, round)
        self._keep(agent, round)

    def judged(self, round: int, scores: Scores) -> None:
        """A robust rule met vectors."""
        self._recorder.judged(round, scores)


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
    own = {
        (link.from_, link.to): drawn(scenario.seed, link.latency)
        for link in section.links
        if link.latency
    }
    base = PerLink(base, own) if own else base
    return Jittered(scenario.seed, base, section.jitter) if section.jitter else base


def _bandwidth(scenario: Scenario, graph: Graph) -> dict[tuple[int, int], float]:
    """Return the rates of single links.

    They are those of the graph, except where the scenario gives others.
    """
    given = {
        (link.from_, link.to): link.bandwidth for link in scenario.network.links if link.bandwidth
    }
    return {**graph.bandwidth, **given}


def _loss(scenario: Scenario) -> LinkLosses:
    """Return the losses of the scenario's network."""
    model: Loss = scenario.network.loss
    if MODES[scenario.mode].mixes and scenario.mixing.on_loss == "symmetric":
        model = model.symmetric() or model
    return LinkLosses(scenario.seed, model)
