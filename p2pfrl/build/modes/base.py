"""The contract of mode builders, which make what is different from mode to mode.

Mode builders are part of the composition root.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, ClassVar

from p2pfrl.consensus.aggregators.base import Aggregator
from p2pfrl.consensus.mixing.base import Mixing
from p2pfrl.consensus.schedules.base import Available
from p2pfrl.consensus.topologies.base import TopologyView
from p2pfrl.core.parameters import Vector
from p2pfrl.core.resources import Resources
from p2pfrl.core.types import COORDINATOR, Port, Schedule, edge_id
from p2pfrl.exchange.payloads import RULES as PAYLOADS
from p2pfrl.exchange.payloads.base import Parameters, Payload
from p2pfrl.exchange.privacy.ledger import Ledger
from p2pfrl.learning.learners.base import Stack
from p2pfrl.scenario import Scenario
from p2pfrl.scenario.modes import Mode
from p2pfrl.scenario.resources import resources

if TYPE_CHECKING:
    from p2pfrl.consensus.coordinator import Sums, Witness
    from p2pfrl.core.actor import Actor
    from p2pfrl.core.wire import Encoder


Neighbors = Sequence[Sequence[int]] | Mapping[int, Sequence[int]]
"""By id: agents first and coordinators last, or, where standbys have ids of their own, a table."""


@dataclass(frozen=True)
class Plan:
    """The rules and vectors from which all participants of a run are made.

    Attributes:
        scenario: without the rules that the mode has no use for.
        groups: who is below each edge coordinator, agents or edges; none where there are no edges.
        resources: what the agents have.
        view: the topology.
        mixing: the mixing rule, fitted to the graph.
        payload: the payload rule.
        parts: the parts of the parameters that are shared.
        stack: the learner.
    """

    scenario: Scenario
    groups: tuple[tuple[int, ...], ...]
    resources: Resources
    view: TopologyView
    mixing: Mixing
    payload: Payload
    parts: tuple[str, ...]
    stack: Stack

    def capacities(self, aggregator: Aggregator) -> dict[int, float]:
        """Return the capacity of every agent and edge by which an aggregator weighs, if it does."""
        name = aggregator.capacity
        if name is None:
            return {}
        own = dict(enumerate(self.resources.of(name)))
        for number, group in reversed([*enumerate(self.groups)]):  # an edge comes before its own
            own[edge_id(number)] = sum(own[i] for i in group)
        return own

    @cached_property
    def top(self) -> tuple[int, ...]:
        """The edges below the cloud, sorted."""
        ids = (edge_id(number) for number in range(len(self.groups)))
        return tuple(sorted(id for id in ids if id not in self.edge_of))

    def height(self, id: int) -> int:
        """Return how many links lead from a coordinator of a tree down to its agents."""
        below = self.top if id == COORDINATOR else self.groups[edge_id(id)]
        return 1 if below[0] >= 0 else 1 + max(self.height(child) for child in below)

    @cached_property
    def edge_of(self) -> dict[int, int]:
        """The edge above every agent and edge that has one; empty where there are no edges."""
        groups = enumerate(self.groups)
        return {agent: edge_id(number) for number, members in groups for agent in members}


@dataclass(frozen=True, slots=True)
class AgentLife:
    """One life of an agent, with what its schedule needs to know.

    Attributes:
        agent: its id.
        available: whether it takes part in a round.
        first: the round at which a restarted one goes on.
        counts_own: an asynchronous agent ends after `stop.rounds` rounds of its own, where no world
            counts the updates of all.
        has_sent: whether the messages of round `first` had left.
        waits: whether it waits for neighbors that are down, since a rule needs every message.
    """

    agent: int
    available: Available
    first: int = 0
    counts_own: bool = False
    has_sent: bool = False
    waits: bool = False


@dataclass(frozen=True, slots=True)
class CoordinatorLife:
    """One life of a coordinator.

    Attributes:
        id: -1, or that of an edge.
        model: the first model, `(k,)`.
        encoder: makes its frames.
        port: its world.
        witness: writes the record.
        ledger: pays for its models, where `privacy.is_central`.
        sums: its part of secure sums, where they have phases.
    """

    id: int
    model: Vector
    encoder: Encoder
    port: Port
    witness: Witness
    ledger: Ledger | None = None
    sums: Sums | None = None


class ModeBuilder(ABC):
    """Makes what is different from mode to mode.

    Attributes:
        mode: the mode that it builds.
    """

    mode: ClassVar[Mode]

    def plain(self, scenario: Scenario) -> Scenario:
        """Return the scenario without the rules that the mode has no use for."""
        return scenario

    def payload(self, scenario: Scenario) -> Payload:
        """Return the payload rule of the mode: the scenario's, where the mode can use it."""
        named = PAYLOADS[scenario.exchange.payload]
        return named() if named.is_for(self.mode.name) else Parameters()

    def trained(self, stack: Stack) -> Stack:
        """Return the learner that agents train with, given that of the scenario."""
        return stack

    @abstractmethod
    def neighbors(self, plan: Plan) -> Neighbors:
        """Return the ids that each participant talks to."""

    @abstractmethod
    def schedule(self, plan: Plan, life: AgentLife) -> Schedule:
        """Return the state machine of an agent."""

    def coordinator(self, plan: Plan, life: CoordinatorLife) -> Actor:
        """Return the life of a coordinator, where the mode has one."""
        raise NotImplementedError(f"mode {self.mode.name} has no coordinator")

    @abstractmethod
    def messages(self, scenario: Scenario, view: TopologyView) -> float:
        """Return the messages per round of all participants, when every payload is sent."""

    @abstractmethod
    def differences(self, scenario: Scenario) -> tuple[str, ...]:
        """Return sentences about what the mode of `scenario` changes beyond the mode itself."""


def words(rule: object) -> str:
    """Return the name of a rule as words: "staleness mix" of StalenessMix."""
    name = type(rule).__name__
    return "".join(f" {c.lower()}" if c.isupper() else c for c in name).strip()


def rate(scenario: Scenario) -> str:
    """Return the rate of every interface, as text for people."""
    rates = resources(scenario).bandwidth * 8.0 / 1e6
    low, high = rates.min(), rates.max()
    return f"{high:g} Mbit/s" if low == high else f"{low:g} to {high:g} Mbit/s"
