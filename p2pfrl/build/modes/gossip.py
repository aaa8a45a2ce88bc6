"""Mode gossip: agents average with their neighbors on the topology."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from p2pfrl.build.modes.base import AgentLife, ModeBuilder, Plan, rate, words
from p2pfrl.consensus.schedules.base import Neighborhood
from p2pfrl.consensus.topologies.base import TopologyView
from p2pfrl.core.rng import MessagePurpose, draw
from p2pfrl.core.types import Schedule
from p2pfrl.core.units import SECOND
from p2pfrl.scenario import Scenario
from p2pfrl.scenario.modes import MODES, Mode


@dataclass(frozen=True)
class _Links:
    """The neighborhood of one agent on a topology."""

    view: TopologyView
    me: int

    def successors(self, round: int) -> Sequence[int]:
        """Return the agents that it sends to."""
        return self.view.at(round).successors[self.me]

    def predecessors(self, round: int) -> Sequence[int]:
        """Return the agents that it hears."""
        return self.view.at(round).predecessors[self.me]


class GossipBuilder(ModeBuilder):
    """Makes agents that average with their neighbors."""

    mode: ClassVar[Mode] = MODES["gossip"]

    def neighbors(self, plan: Plan) -> list[Sequence[int]]:
        """Return an agent's neighbors on the graph; the coordinator has none."""
        graph = plan.view.union
        both = zip(graph.successors, graph.predecessors, strict=True)
        return [*(out if out == into else sorted({*out, *into}) for out, into in both), ()]

    def schedule(self, plan: Plan, life: AgentLife) -> Schedule:
        """Return the state machine of an agent.

        The agent mixes with all its neighbors, or with one at a time.
        """
        links = _Links(plan.view, life.agent)
        if life.waits:
            return _in_lockstep(plan.scenario, links, life)
        if plan.mixing.is_pairwise:
            return _pairs(plan.scenario, links, life)
        return among(plan.scenario, links, life)

    def messages(self, scenario: Scenario, view: TopologyView) -> float:
        """Return the average number of edges in a round."""
        rounds = view.period or 1
        return sum(view.at(round).size for round in range(rounds)) / rounds

    def differences(self, scenario: Scenario) -> tuple[str, ...]:
        """Return sentences about what neighbors change."""
        graph = scenario.topology.at(scenario.agents, scenario.seed, 0)
        degree = max((len(receivers) for receivers in graph.successors), default=0)
        return (
            f"{graph.size} messages per exchange, from every agent to its neighbors (at most {degree}), each "
            f"over its own interface of {rate(scenario)}.",
            "An agent waits for its neighbors only; the parameters of agents differ, and their distance is reported.",
            f"One exchange averages with neighbors, by {words(scenario.mixing)} weights: information needs several to "
            "cross the graph.",
        )


def among(scenario: Scenario, links: Neighborhood, life: AgentLife) -> Schedule:
    """Return the state machine of an agent that mixes with its neighbors, if it has any."""
    machine: Schedule = scenario.schedule.gossip(
        life.agent,
        links,
        rounds=_rounds(scenario, life),
        order=scenario.exchange.order,
        available=life.available,
        first=life.first,
    )
    return machine


def _in_lockstep(scenario: Scenario, links: Neighborhood, life: AgentLife) -> Schedule:
    """Return the state machine of an agent that continues only with all its neighbors."""
    from p2pfrl.consensus.schedules.lockstep import Lockstep

    schedule = scenario.schedule
    return Lockstep(
        life.agent,
        links,
        every=schedule.every,
        rounds=_rounds(scenario, life),
        patience=round(schedule.patience * SECOND),
        combine_first=scenario.exchange.order == "combine_while_adapting",
        first=life.first,
        has_sent=life.has_sent,
    )


def _pairs(scenario: Scenario, links: Neighborhood, life: AgentLife) -> Schedule:
    """Return the state machine of an agent that exchanges with one neighbor at a time."""
    seed, agent = scenario.seed, life.agent

    def pick(round: int, near: Sequence[int]) -> int:
        return near[int(draw(seed, agent, agent, round, MessagePurpose.PARTNER)[0] * len(near))]

    seconds = scenario.network.peer_timeout or scenario.schedule.link_timeout
    machine: Schedule = scenario.schedule.pairs(
        agent,
        links,
        rounds=_rounds(scenario, life),
        patience=round(seconds * SECOND),
        pick=pick,
        available=life.available,
        first=life.first,
    )
    return machine


def _rounds(scenario: Scenario, life: AgentLife) -> int | None:
    """Return the number of rounds after which the agent ends by itself."""
    if scenario.schedule.is_asynchronous and not life.counts_own:
        return None
    rounds: int | None = scenario.stop.rounds
    return rounds
