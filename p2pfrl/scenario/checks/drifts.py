"""Checks of drifts: what is known before a run of the values that physics will have in it."""

from __future__ import annotations

from collections.abc import Iterator

from p2pfrl.core.errors import P2PFRLError
from p2pfrl.learning.drifts.base import Drift
from p2pfrl.learning.environments.base import Array, Environment
from p2pfrl.learning.environments.vary import columns, misfit, outside
from p2pfrl.scenario.checks.facts import Path, Problem
from p2pfrl.scenario.checks.notes import updates
from p2pfrl.scenario.sections import Scenario


def drifts(scenario: Scenario) -> Iterator[Problem]:
    """Yield drifts that do not fit the agents, or take a quantity out of its range in the run.

    Where the number of updates of an agent is not known, that is a drift's whole course.
    """
    for position, make in enumerate(scenario.makes):
        section = make.environment
        if section is None or not section.drift or not isinstance(section.rule, Environment):
            continue
        path: Path = ("groups", position) if scenario.groups else ()
        rule, agents = section.rule, [*make.agents]
        try:
            last = updates(scenario)
            start = columns(rule, section.vary, scenario.seed, agents, scenario.agents)
        except P2PFRLError:
            return  # other checks say what is wrong with them
        for name, drift in section.drift.items():
            at, known = (*path, "environment", "drift", name), rule.spec.ranges.get(name)
            try:
                if wrong := drift.misfit(scenario.agents + scenario.evaluation.newcomers):
                    yield at, wrong
                elif name in start and known is not None:
                    yield from _leaving(drift, start[name], agents, last, known, at)
            except P2PFRLError as error:
                if scenario.groups:  # those of all agents are read elsewhere
                    yield at, str(error)


def _leaving(
    drift: Drift,
    start: Array,
    agents: list[int],
    last: int | None,
    known: tuple[float, float],
    path: Path,
) -> Iterator[Problem]:
    """Yield the first agent whose quantity leaves its range until update `last`."""
    who, when = drift.peaks(agents, last)
    row = {agent: number for number, agent in enumerate(agents)}
    values = drift.values(start[[row[agent] for agent in who]], who, when)
    if (found := outside(values, known)) is not None:
        why = misfit(values[found], known)
        open_end = "" if last is not None else ", and no stop.rounds ends the run before"
        yield path, f"agent {who[found]} in its update {when[found]}: {why}{open_end}"
