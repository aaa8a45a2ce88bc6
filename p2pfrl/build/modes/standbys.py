"""Coordinators with standbys: what their mode builder makes beside a plain coordinator."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from p2pfrl.build.modes.base import AgentLife, CoordinatorLife, Plan
from p2pfrl.consensus.coordinator import Coordinator
from p2pfrl.consensus.failover.follower import Follower
from p2pfrl.consensus.failover.replica import Office, Replica
from p2pfrl.consensus.failover.voter import Voter
from p2pfrl.core.actor import Actor
from p2pfrl.core.types import Schedule
from p2pfrl.core.units import SECOND


def neighbors(plan: Plan) -> Mapping[int, Sequence[int]]:
    """Return by id: all voters and agents talk to each other.

    Agents also talk to their neighbors in the topology, where they average without a coordinator.
    """
    scenario = plan.scenario
    agents, voters = range(scenario.agents), scenario.voters
    return {
        **{i: (*voters, *mixed_with(plan, i)) for i in agents},
        **{id: (*agents, *(other for other in voters if other != id)) for id in voters},
    }


def mixed_with(plan: Plan, agent: int) -> Sequence[int]:
    """Return the neighbors with which an agent averages while there is no coordinator."""
    is_gossip = plan.scenario.coordinator.fallback == "gossip"
    return plan.view.union.predecessors[agent] if is_gossip else ()


def follower(plan: Plan, life: AgentLife, schedule: Schedule) -> Schedule:
    """Return the schedule of an agent that follows whoever is in office."""
    return Follower(
        schedule,
        plan.scenario.voters,
        neighbors=mixed_with(plan, life.agent),
        trains=plan.scenario.coordinator.fallback != "wait",
        available=life.available,
    )


def replica(
    plan: Plan, life: CoordinatorLife, coordinator: Coordinator, schedule: Schedule
) -> Actor:
    """Return the life of a coordinator with standbys, or of a standby."""
    scenario = plan.scenario
    wait = round(scenario.coordinator.standby_wait * SECOND)
    body = Office(coordinator, life.encoder, life.port, life.ledger)
    machine = Replica(
        Voter(life.id, scenario.voters, wait=wait),
        schedule,
        body,
        range(scenario.agents),
        round(scenario.schedule.patience * SECOND),
        life.witness.took_office,
    )
    return Actor(machine, body, life.port, gives_last=True)
