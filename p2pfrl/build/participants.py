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
    all alone and first.
    """
    k = scenario.members
    worlds = scenario.agents // k
    count = max(1, min(jobs, worlds))
    bounds = [round(i * worlds / count) * k for i in range(count + 1)]
    processes = [list(range(low, high)) for low, high in pairwise(bounds)]
    for number, group in enumerate(scenario.edges):
        home = max(processes, key=lambda there: len(set(group).intersection(there)))
        home.append(edge_id(number))
    shared = [tuple(sorted(there)) for there in processes]
    return [(COORDINATOR,), *shared] if scenario.coordinators else shared
