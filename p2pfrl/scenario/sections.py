"""Scenario: all sections and keys of a scenario file as one frozen tree, in SI units.

A section is a dataclass. If a section is a rule (`[mixing] kind = "metropolis"`), the field has the
rule itself.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import AfterValidator, Field, model_validator
from pydantic_core import InitErrorDetails

from p2pfrl.catalog import kind_of
from p2pfrl.core import units
from p2pfrl.core.distributions import DRAWS
from p2pfrl.core.distributions.base import Distribution, Draw
from p2pfrl.core.located import Located
from p2pfrl.core.members import Members
from p2pfrl.core.options import Rule, Slot
from p2pfrl.core.problems import problem, refuse
from p2pfrl.core.resources import CapacityName
from p2pfrl.core.rule import rule
from p2pfrl.core.types import COORDINATOR, edge_id, standby_id
from p2pfrl.core.units import Bytes, Rate, Seconds
from p2pfrl.core.wording import show
from p2pfrl.learning.learners.base import DeviceChoice, EngineName, Learner
from p2pfrl.scenario.contracts import (
    Aggregator,
    Attack,
    Compressor,
    Correction,
    Fault,
    Gate,
    Mixing,
    Participation,
    Personal,
    Privacy,
    ScheduleRule,
    Secure,
    ServerOptimizer,
    Topology,
    choose,
)
from p2pfrl.scenario.environment import EnvironmentSection, EnvironmentSlot
from p2pfrl.scenario.groups import Group, Make, is_own, makes, problems
from p2pfrl.scenario.hierarchy import Hierarchy
from p2pfrl.scenario.modes import MODES
from p2pfrl.scenario.numbers import Number
from p2pfrl.scenario.start import Start, StartSlot
from p2pfrl.simulator.losses import RULES as LOSSES
from p2pfrl.simulator.losses import Burst, Independent, Probability

if TYPE_CHECKING:
    ModeName = str
else:
    ModeName = Literal[tuple(MODES)]
NAME = re.compile(r"(?!\.{1,2}$)[A-Za-z0-9._-]{1,64}")


def _run_name(name: str) -> str:
    if not NAME.fullmatch(name):
        raise ValueError(
            f"expected 1 to 64 letters a-z and A-Z, digits, dots, hyphens and underscores, got {show(name)}"
        )
    return name


def _table() -> Any:
    return Field(default_factory=dict, validate_default=True)


@rule
class Stop:
    """Conditions that end a run; the first one that holds ends it.

    Attributes:
        rounds: rounds of exchange. An asynchronous run makes n times as many updates over all
            agents; as processes, every agent makes as many.
        target_return: the mean return over agents, checked at round boundaries.
        virtual_time: virtual seconds.
        env_steps: environment steps, summed over agents.
    """

    rounds: int | None = Field(default=None, ge=1)
    target_return: float | None = None
    virtual_time: Seconds | None = None
    env_steps: int | None = Field(default=None, ge=1)


@rule
class Exchange:
    """The exchanged payload.

    Attributes:
        payload: the payload of an agent's messages, one of `p2pfrl list payloads`, or
            "module:Class" of a user's own.
        shared: parts of the vector that agents send; the other parts stay personal. All parts by
            default.
        order: adapt_then_combine mixes the parameters after training; combine_while_adapting mixes
            the parameters before training and adds the update.
    """

    payload: str = "parameters"
    shared: tuple[str, ...] | None = None
    order: Literal["adapt_then_combine", "combine_while_adapting"] = "adapt_then_combine"


@rule
class Coordinator:
    """The coordinator of modes central and hierarchical.

    Attributes:
        aggregator: how payloads are aggregated.
        server_optimizer: how the global parameters move to the aggregate.
        participation: which agents take part in a round.
        at: the coordinator's node in a graph file; its links have shortest-path latencies.
        standbys: who takes over where the coordinator dies, by rank: 2 or 4 agents, such as
            `[5, 9]`, or how many processes of their own. None by default.
        standby_wait: time that a standby without a coordinator waits per rank before it asks for
            votes.
        fallback: what agents do while there is no coordinator: wait; train: train on; gossip: train
            on, and average with their neighbors in the topology by Metropolis weights.
    """

    aggregator: Annotated[Aggregator, choose("aggregators", "mean")] = _table()
    server_optimizer: Annotated[ServerOptimizer, choose("server_optimizers", "replace")] = _table()
    participation: Annotated[Participation, choose("participation", "all")] = _table()
    at: int = Field(default=0, ge=0)
    standbys: Annotated[int, Field(ge=0)] | tuple[Annotated[int, Field(ge=0)], ...] = 0
    standby_wait: Annotated[Seconds, Field(gt=0)] = 0.2
    fallback: Literal["wait", "train", "gossip"] = "train"

    @property
    def hosts(self) -> tuple[int | None, ...]:
        """The agent that each standby lives with; None for a process of its own."""
        named = self.standbys
        return (None,) * named if isinstance(named, int) else named


@rule
class Edge:
    """The latency of each edge from the topology: from a graph file or from positions."""


class LossSlot(Rule):
    """Annotation of a loss model: a probability, or a table with `kind`."""

    def __init__(self) -> None:
        super().__init__("loss models", lambda: LOSSES)

    def short(self, value: object) -> object:
        """Return independent loss with this probability."""
        return self.make({"kind": "independent", "probability": value})


@rule
class Link:
    """One direction of one link that differs from the others.

    Attributes:
        from_: the agent that sends; -1: the coordinator.
        to: the agent that receives; -1: the coordinator.
        latency: latency of a message on this link, instead of the network's.
        bandwidth: bandwidth of this link; a slower interface limits it.
    """

    from_: int = Field(validation_alias="from", ge=COORDINATOR)
    to: int = Field(ge=COORDINATOR)
    latency: Annotated[Draw | None, Number(units.seconds, low=0.0, kinds=DRAWS)] = None
    bandwidth: Annotated[Rate, Field(gt=0)] | None = None


@rule
class Network:
    """The network: agents and coordinator have one full-duplex interface each, first in, first out.

    Sizes are bytes of frames.

    Attributes:
        latency: latency of a message: a duration, a distribution, or `{kind = "edge"}`.
        bandwidth: bandwidth of an agent's interface, or a distribution over agents; a link is as
            fast as the slower of its two ends, and an edge's own bandwidth limits it.
        coordinator_bandwidth: bandwidth of the interface of a coordinator; that of the fastest
            agent by default.
        loss: probability that a message is lost, or `{kind = "burst", ...}`.
        duplicate: probability that a message arrives twice.
        jitter: maximum additional delay of a message, uniform from zero; later messages may
            overtake.
        peer_timeout: silence after which a link counts as dead at both ends; half the schedule's
            deadline by default.
        links: single links that differ, one direction each: `[[network.links]]` with from, to,
            latency, bandwidth.
    """

    latency: Annotated[
        Draw | Edge,
        Number(units.seconds, low=0.0, kinds=DRAWS | Members(__name__, {"edge": "Edge"})),
    ] = Field(default=0.001, validate_default=True)
    bandwidth: Annotated[Distribution, Number(units.rate, above=0.0)] = Field(
        default=1.25e8, validate_default=True
    )
    coordinator_bandwidth: Annotated[Rate, Field(gt=0)] | None = None
    loss: Annotated[Independent | Burst, LossSlot()] = Field(default=0.0, validate_default=True)
    duplicate: Probability = 0.0
    jitter: Seconds = 0.0
    peer_timeout: Annotated[Seconds, Field(gt=0)] | None = None
    links: tuple[Annotated[Link, Slot(Link)], ...] = ()


@rule
class Compute:
    """Virtual time of local work, and what computes it.

    Attributes:
        seconds_per_env_step: seconds of one environment step (one gradient) and its share of
            learning, for an agent of speed 1.
        speed: relative speed per agent; 2.0 is twice as fast.
        variation: factor of the time of a local update, drawn for every update: `{kind =
            "exponential"}` makes every agent a Poisson clock.
        engine: what computes networks. torch: numpy and torch; native: C, which is compiled at
            first use, is faster, and has the same bits with every compiler. It has code for dense
            layers of ppo, a2c, reinforce, dqn, sac and td3, and digests of its own. auto: native
            where it has code and can be compiled, else torch; processes on machines that differ
            then say that their run equals no simulated one, bit for bit.
        device: where torch takes minibatch steps. cuda: on a GPU, all agents of a batch at once, of
            ppo, a2c and reinforce with dense layers, Adam or SGD. Acting and environments stay on
            the processor. It needs torch with CUDA, and no engine 'native'. auto: where an update
            of all agents takes less time, which is measured once at the start where torch sees a
            GPU; else cpu. The record has the choice, and a run that is repeated or goes on takes
            the same one.
    """

    seconds_per_env_step: Seconds = 1e-4
    speed: Annotated[Distribution, Number(low=1e-6)] = Field(default=1.0, validate_default=True)
    variation: Annotated[Draw, Number(low=0.0, kinds=DRAWS)] = Field(
        default=1.0, validate_default=True
    )
    engine: EngineName = "auto"
    device: DeviceChoice = "cpu"


@rule
class Energy:
    """Energy that agents use: joules = per_step x environment steps + per_byte x bytes sent.

    It is counted and changes nothing else. Bytes are those of frames that the agent hands to the
    network. Coordinators are not counted.

    Attributes:
        per_step: joules of one environment step (one gradient) and its share of learning.
        per_byte: joules of one byte that an agent sends.
    """

    per_step: Annotated[Distribution, Number(units.joules, low=0.0)] = Field(
        default=0.0, validate_default=True
    )
    per_byte: Annotated[Distribution, Number(units.joules, low=0.0)] = Field(
        default=0.0, validate_default=True
    )

    @property
    def is_counted(self) -> bool:
        """Whether any agent uses energy."""
        return any(rate.bounds[1] > 0.0 for rate in (self.per_step, self.per_byte))


@rule
class Allocation:
    """Shares R_k of a resource: the greatest sum_k U_k(R_k) with sum_k R_k <= R.

    What an agent has by `[compute]` or `[network]` is multiplied by its share; without an
    allocation every share is 1. Utilities are weighted by w_k: w_k log r, w_k r, or
    w_k r^(1 - alpha) / (1 - alpha).

    Attributes:
        utility: none; log, which makes shares proportional to weights; linear, which gives the
            agents of the greatest weight all they may have; alpha_fair, between both for alpha
            below 1, and closer to equal shares the larger alpha is.
        resource: speed of local work, or bandwidth of an agent's interface.
        total: R; the number of agents by default, so that the mean share is 1.
        weights: w_k.
        low: lower bound of a share.
        high: upper bound of a share; none by default.
        alpha: of utility alpha_fair; 1 is log, and 0 would be linear.

    Reference: Kelly, Maulloo, Tan, J. Operational Research Society 49(3), 1998; Mo, Walrand,
        IEEE/ACM Transactions on Networking 8(5), 2000.
    """

    utility: Literal["none", "log", "linear", "alpha_fair"] = "none"
    resource: CapacityName = "speed"
    total: float | None = Field(default=None, gt=0)
    weights: Annotated[Distribution, Number(above=0.0)] = Field(default=1.0, validate_default=True)
    low: Annotated[Distribution, Number(low=0.0)] = Field(default=0.0, validate_default=True)
    high: Annotated[Distribution | None, Number(above=0.0)] = None
    alpha: float = Field(default=2.0, ge=0.1)

    @property
    def exponent(self) -> float | None:
        """Alpha of the utility; None without one."""
        return {"log": 1.0, "linear": 0.0, "alpha_fair": self.alpha}.get(self.utility)


@rule
class Work:
    """Local updates of each agent per exchange, so that agents of unlike speeds end together.

    Unequal numbers of updates move the fixed point of a plain mean toward the agents that make
    more; aggregator "normalized" keeps it.

    Attributes:
        assign: equal: schedule.every of each agent; speed: n x schedule.every in all, shared in
            proportion to the agents' speeds, at least one each; time: each agent measures its
            updates and makes another one if it would end within `time`.
        time: duration of an agent's training per exchange, with assign = "time".
        most: maximum number of updates of an agent per exchange, with assign = "time".
    """

    assign: Literal["equal", "speed", "time"] = "equal"
    time: Annotated[Seconds, Field(gt=0)] | None = None
    most: int | None = Field(default=None, ge=1)


@rule
class Availability(Located):
    """Availability of agents.

    Attributes:
        dropout: probability that an agent sits out a round.
        trace: a CSV file with lines `agent,from,until` (durations) during which an agent is
            available; instead of dropout. It is searched beside the scenario file, then in the
            working directory.
    """

    dropout: float = Field(default=0.0, ge=0, lt=1)
    trace: str | None = None

    def files(self) -> Mapping[str, Path]:
        """Return the trace."""
        return {} if self.trace is None else {self.trace: self.path}

    @property
    def path(self) -> Path:
        """The path of the trace."""
        assert self.trace is not None
        return self.beside(self.trace) or Path(self.trace)


@rule
class Evaluation:
    """Greedy episodes apart from training, which take no virtual time.

    Learners `softmax_pg`, `npg` and `tabular_ac` draw actions from their policies instead.

    Attributes:
        every: rounds between evaluations; the last round is always evaluated.
        episodes: episodes of each agent's own model, its personal one if it has one, and of the
            mean model; 0 disables evaluation.
        newcomers: agents that take no part in the run, with physics of their own as further agents
            would have them. After the run they play with the mean model.
        adaptation: local updates that each newcomer takes after the run, from the mean model and
            once more from scratch; it is evaluated after each.
    """

    every: int = Field(default=10, ge=1)
    episodes: int = Field(default=10, ge=0)
    newcomers: int = Field(default=0, ge=0, le=100_000)
    adaptation: int = Field(default=0, ge=0)


@rule
class Checkpoint:
    """Checkpoints, for runs that are interrupted and agents that crash.

    Attributes:
        every: rounds, or a duration of real time, between checkpoints. By default a simulated run
            with a run directory saves its state every 60 s. An agent that crashes restarts from its
            last checkpoint if `every` is a number of rounds, else from its last round; in modes
            with a coordinator, from its last update.
        journal: maximum size of an agent's part of `journal.bin`, from which the record of a
            deployment is made; 1 GiB by default. In a longer run not every round is written.
        on_error: what happens if a checkpoint, or rows of a run in progress, cannot be written, as
            on a full disk: "stop" ends the run with an error, "continue" goes on without them. By
            default a process of a deployment stops, and a simulated run continues.
    """

    every: Annotated[int, Field(ge=1)] | Annotated[Seconds, Field(gt=0)] | None = None
    journal: Annotated[Bytes, Field(ge=10_000)] | None = None
    on_error: Literal["stop", "continue"] | None = None

    @property
    def rounds(self) -> int:
        """Rounds between the checkpoints of an agent."""
        return self.every if isinstance(self.every, int) else 1


@rule
class Scenario:
    """One experiment.

    Attributes:
        name: letters, digits, dot, underscore and hyphen; the name of the run directory.
        seed: seed of all random streams.
        agents: number of agents n.
        mode: gossip with neighbors, central with a coordinator, hierarchical with a tree of
            coordinators, independent without exchange, or pooled: agents upload transitions, and
            one learner trains on all of them.
        start: saved parameters from which agents start: a run directory or a file, or a table with
            a path; by default agents start as their learner says.
        stop: when the run ends.
        environment: environment of the agents; none for a learner that needs none.
        learner: what a local update of an agent is.
        exchange: what agents send, how often, and in which order they train and mix.
        schedule: the round protocol: whom agents wait for, and how long.
        topology: which agents are neighbors, in mode gossip.
        mixing: how an agent combines its vector with those of its neighbors, in mode gossip.
        coordinator: how a coordinator aggregates, and which agents take part, in modes with one.
        hierarchy: the agents of each edge coordinator, in mode hierarchical.
        correction: a term that corrects the gradient of every local step.
        personal: models of their own that agents keep beside the shared one.
        gate: when an agent sends its payload, and when a skip.
        compressor: how payloads are encoded.
        privacy: what an agent sends in place of its payload.
        secure: whether receivers learn every agent's vector, or their sum alone.
        network: latency, bandwidth and loss of the simulated links.
        compute: virtual time that training takes, and the engine that computes it.
        energy: joules per environment step and per byte, which are counted.
        allocation: how speed or bandwidth is shared among agents.
        work: how many local updates each agent makes per exchange.
        availability: when agents sit rounds out.
        evaluation: how often, and over how many episodes, policies are evaluated.
        checkpoint: how often agents and runs are saved.
        attacks: Byzantine agents: who they are, and what they send or do instead of what the rules
            say.
        faults: what goes wrong in the simulator, and when.
        groups: agents with a learner or environment of their own.
    """

    name: Annotated[str, AfterValidator(_run_name)]
    seed: int = Field(default=0, ge=0, lt=2**63)
    agents: int = Field(ge=1, le=1_000_000)
    mode: ModeName = "gossip"
    start: Annotated[Start | None, StartSlot()] = None
    stop: Annotated[Stop, Slot(Stop)]
    environment: Annotated[EnvironmentSection | None, EnvironmentSlot()] = None
    learner: Annotated[Learner, choose("learners")]
    exchange: Annotated[Exchange, Slot(Exchange)] = _table()
    schedule: Annotated[ScheduleRule, choose("schedules", "synchronous")] = _table()
    topology: Annotated[Topology, choose("topologies", "ring")] = _table()
    mixing: Annotated[Mixing, choose("mixing", "metropolis")] = _table()
    coordinator: Annotated[Coordinator, Slot(Coordinator)] = _table()
    hierarchy: Annotated[Hierarchy, Slot(Hierarchy)] = _table()
    correction: Annotated[Correction, choose("corrections", "none")] = _table()
    personal: Annotated[Personal, choose("personal", "none")] = _table()
    gate: Annotated[Gate, choose("gates", "none")] = _table()
    compressor: Annotated[Compressor, choose("compressors", "none")] = _table()
    privacy: Annotated[Privacy, choose("privacy", "none")] = _table()
    secure: Annotated[Secure, choose("secure", "none")] = _table()
    network: Annotated[Network, Slot(Network)] = _table()
    compute: Annotated[Compute, Slot(Compute)] = _table()
    energy: Annotated[Energy, Slot(Energy)] = _table()
    allocation: Annotated[Allocation, Slot(Allocation)] = _table()
    work: Annotated[Work, Slot(Work)] = _table()
    availability: Annotated[Availability, Slot(Availability)] = _table()
    evaluation: Annotated[Evaluation, Slot(Evaluation)] = _table()
    checkpoint: Annotated[Checkpoint, Slot(Checkpoint)] = _table()
    attacks: tuple[Annotated[Attack, choose("attacks")], ...] = ()
    faults: tuple[Annotated[Fault, choose("faults")], ...] = ()
    groups: tuple[Annotated[Group, Slot(Group)], ...] = ()

    @property
    def edges(self) -> tuple[tuple[int, ...], ...]:
        """Who is below each edge coordinator: agents or edges; empty in a mode without edges."""
        return self.hierarchy.members(self.agents) if MODES[self.mode].has_edges else ()

    @property
    def coordinators(self) -> tuple[int, ...]:
        """Ids of all coordinators: -1, the edges -2, -3, ... of a tree, and the standbys."""
        if not MODES[self.mode].has_coordinator:
            return ()
        edges = (edge_id(number) for number in range(len(self.edges)))
        return (COORDINATOR, *edges, *self.standbys)

    @property
    def standbys(self) -> tuple[int, ...]:
        """Ids of the coordinator's standbys, by rank."""
        if not MODES[self.mode].has_coordinator:
            return ()
        return tuple(map(standby_id, range(len(self.coordinator.hosts))))

    @property
    def voters(self) -> tuple[int, ...]:
        """Ids of the coordinator and its standbys, by rank; empty where there are none."""
        return (COORDINATOR, *self.standbys) if self.standbys else ()

    @property
    def hosted(self) -> dict[int, int]:
        """Standby -> the agent in whose process it lives."""
        pairs = zip(self.standbys, self.coordinator.hosts, strict=True) if self.standbys else ()
        return {id: host for id, host in pairs if host is not None}

    @model_validator(mode="after")
    def _check_groups(self) -> Scenario:
        made_of = (self.groups, self.agents, self.learner, self.environment)
        if found := [*problems(*made_of), *self._personal_problems()]:
            raise refuse(*found)
        return self

    def _personal_problems(self) -> Iterator[InitErrorDetails]:
        """Yield conflicts between mode, groups, personal models and shared parts."""
        has_personal = kind_of("personal", self.personal) != "none"
        for name, is_there in (("groups", bool(self.groups)), ("personal", has_personal)):
            if is_there and MODES[self.mode].pools:
                yield problem("mode pooled has one learner for all agents: leave this out", name)
        for position, part in enumerate(self.exchange.shared or ()):
            if (self.groups and is_own(part)) or (has_personal and part == "personal"):
                yield problem(f"{part!r} never travels", "exchange", "shared", position, value=part)

    @property
    def makes(self) -> tuple[Make, ...]:
        """Learner and environment of the agents: one entry per group, or one for all."""
        return makes(self.groups, self.agents, self.learner, self.environment)

    @property
    def members(self) -> int:
        """Number of agents that train together because they share a world; 1 if none do."""
        sections = [make.environment for make in self.makes]
        return max((section.members for section in sections if section), default=1)

    @property
    def players(self) -> int:
        """Number of members of a shared world, whether or not they train together; else 1."""
        sections = [make.environment for make in self.makes]
        return max((section.rule.spec.members for section in sections if section), default=1)
