"""Participants of a run, agents and coordinators, and how processes share them."""

from __future__ import annotations

from itertools import pairwise

from p2pfrl.core.types import COORDINATOR, edge_id
from p2pfrl.scenario import Scenario


def everyone(scenario: Scenario) -> list[int]:
    """Return the ids of all who have to live in some process."""
    return [*scenario.coordinators, *range(scenario.agents)]


def share(scenario: Scenario, jobs: int) -> list[tuple[int, ...]]:
    """Return who lives in which process.

    Agents that are neighbors by number live together, and so do all members of a shared world; an
    edge coordinator where most of its agents do (the first such process), and the coordinator above
    all alone and first. A standby lives with its agent, or alone.
    """
    k = scenario.members
    worlds = scenario.agents // k
    count = max(1, min(jobs, worlds))
    bounds = [round(i * worlds / count) * k for i in range(count + 1)]
    processes = [list(range(low, high)) for low, high in pairwise(bounds)]
    below = scenario.edges

    def agents(id: int) -> set[int]:
        return {id} if id >= 0 else {i for child in below[edge_id(id)] for i in agents(child)}

    for number in range(len(below)):
        own = agents(edge_id(number))
        home = max(processes, key=lambda there: len(own.intersection(there)))
        home.append(edge_id(number))
    hosted = scenario.hosted
    for id, host in hosted.items():
        next(there for there in processes if host in there).append(id)
    shared = [tuple(sorted(there)) for there in processes]
    alone = [(id,) for id in (COORDINATOR, *scenario.standbys) if id not in hosted]
    return [*alone, *shared] if scenario.coordinators else shared
