"""What of a scenario only the simulator can do, said to whoever runs it as processes."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from p2pfrl.catalog import kind_of
from p2pfrl.core.errors import P2PFRLError, ScenarioError
from p2pfrl.scenario.checks.notes import says_something
from p2pfrl.scenario.sections import Scenario


def refuse_faults(scenario: Scenario) -> None:
    """Refuse a timeline of faults.

    Raises:
        ScenarioError: there is one.
    """
    if scenario.faults:
        raise ScenarioError(
            ["faults: only the simulator makes them happen: remove them, or --set faults=[]"]
        )


def without_effect(scenario: Scenario) -> str:
    """Return one line on the sections that say something and have no effect over TCP; empty where there is none."""
    said = [f"[{name}]" for name in ("network", "compute") if says_something(scenario, name)]
    if not said:
        return ""
    verb = "have" if len(said) > 1 else "has"
    return f"{' and '.join(said)} {verb} no effect over TCP: messages and training take the time that they really take"


def refuse_coordinating_again(ids: Iterable[int], out: Path) -> None:
    """Refuse to begin a coordinator a second time in the same run: its model went with the process.

    Args:
        ids: who lives here.
        out: the run directory of a process whose agents had begun.

    Raises:
        P2PFRLError: a coordinator lives here.
    """
    if any(id < 0 for id in ids):
        raise P2PFRLError(
            f"{out}: a coordinator has no checkpoint, and what it knew is gone with the process that was here: start "
            "all processes anew with another --out"
        )


def forgotten(scenario: Scenario) -> str | None:
    """Return what an agent of this scenario remembers that its checkpoint does not hold, in words; None: nothing."""
    if scenario.mode == "gossip" and scenario.mixing.is_stateful:
        return f"mixing {kind_of('mixing', scenario.mixing)!r}"
    if scenario.compressor.is_difference:
        return f"compressor {kind_of('compressors', scenario.compressor)!r}"
    return None


def refuse_resuming(scenario: Scenario, out: Path) -> None:
    """Refuse to go on from checkpoints that do not hold everything that the rules remember.

    Raises:
        P2PFRLError: names the rule.
    """
    if (what := forgotten(scenario)) is not None:
        raise P2PFRLError(
            f"{out}: {what} remembers more than a checkpoint holds, so this run cannot be resumed: start all processes "
            "anew with another --out"
        )
