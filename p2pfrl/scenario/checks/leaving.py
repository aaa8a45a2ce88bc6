"""Check of a process that is to leave a run for good."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from p2pfrl.core.errors import ScenarioError
from p2pfrl.core.types import name_of
from p2pfrl.scenario.checks.needs import unmet
from p2pfrl.scenario.sections import Scenario
from p2pfrl.simulator.faults.agents import OptOut


def refuse_leaving(scenario: Scenario, ids: Sequence[int]) -> None:
    """Refuse that agents and coordinators of a process leave for good, if the others need them.

    Raises:
        ScenarioError: the run has no other coordinator, or a rule needs the messages of everybody.
    """
    offices = [id for id in ids if id < 0]
    if offices and not scenario.standbys:
        names = " and ".join(str(name_of(id)) for id in offices)
        raise ScenarioError(
            [
                f"{names}: the run cannot go on without it, and no standby would take over: give it standbys "
                "(coordinator.standbys) before the run, or end the run with p2pfrl stop"
            ]
        )
    agents = tuple(id for id in ids if id >= 0)
    if agents:
        without = replace(scenario, faults=(OptOut(at=0.0, agents=agents),))
        before = {reason for _, reason in unmet(scenario, None)}
        problems = [reason for _, reason in unmet(without, None) if reason not in before]
        if problems:
            raise ScenarioError([_of_leaving(reason) for reason in problems])


def _of_leaving(reason: str) -> str:
    """Return a reason against the fault `opt_out` as one against leaving: there is no fault."""
    said = reason.partition("; remove the fault")[0].replace("'opt_out'", "an agent that leaves")
    return f"{said}; let the process run, or end the run of all with p2pfrl stop"
