"""Checks of a process that would go on from a checkpoint."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from p2pfrl.catalog import kind_of
from p2pfrl.core.errors import P2PFRLError
from p2pfrl.core.needs import Need
from p2pfrl.scenario.modes import MODES
from p2pfrl.scenario.sections import Scenario


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
    """Return the rule that does not stand a message that a killed process missed, in words; None: none."""
    needs = {Need.EVERY_MESSAGE, Need.MEMORY}
    if MODES[scenario.mode].mixes and needs & {*scenario.mixing.needs}:
        return f"mixing {kind_of('mixing', scenario.mixing)!r}"
    return None


def refuse_resuming(scenario: Scenario, out: Path) -> None:
    """Refuse to go on from checkpoints where the rules need the messages that were missed meanwhile.

    Raises:
        P2PFRLError: names the rule.
    """
    if (what := forgotten(scenario)) is not None:
        raise P2PFRLError(
            f"{out}: {what} needs every message, and the others went on without this process, so this run cannot be "
            "resumed: start all processes anew with another --out"
        )
