"""Who takes part in a run, agents and coordinators, and how processes share them. Part of the composition root."""

from __future__ import annotations

from itertools import pairwise

from p2pfrl.build.modes import MODES
from p2pfrl.core.types import COORDINATOR, edge_id
from p2pfrl.scenario import Scenario


def coordinators(scenario: Scenario) -> list[int]:
    """Return the ids of all coordinators: -1 and, in a tree, -2, -3, ..., the edges."""
    mode = MODES[scenario.mode]
    groups = scenario.hierarchy.members(scenario.agents) if mode.has_edges else ()
    return (
        [COORDINATOR, *(edge_id(number) for number in range(len(groups)))]
        if mode.coordinator
        else []
    )


def everyone(scenario: Scenario) -> list[int]:
    """Return the ids of all who have to live in some process."""
    return [*coordinators(scenario), *range(scenario.agents)]


def share(scenario: Scenario, jobs: int) -> list[tuple[int, ...]]:
    """Return who lives in which process.

    Agents that are neighbors by number live together, an edge coordinator where most of its agents
    do (the first such process), and the coordinator above all alone and first.
    """
    n = scenario.agents
    count = max(1, min(jobs, n))
    bounds = [round(i * n / count) for i in range(count + 1)]
    processes = [list(range(low, high)) for low, high in pairwise(bounds)]
    groups = scenario.hierarchy.members(n) if MODES[scenario.mode].has_edges else ()
    for number, group in enumerate(groups):
        home = max(processes, key=lambda there: len(set(group).intersection(there)))
        home.append(edge_id(number))
    shared = [tuple(sorted(there)) for there in processes]
    return [(COORDINATOR,), *shared] if MODES[scenario.mode].coordinator else shared
