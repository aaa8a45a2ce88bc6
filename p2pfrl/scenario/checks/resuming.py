"""Checks of a process that would go on from a checkpoint."""

from __future__ import annotations

from pathlib import Path

from p2pfrl.core.errors import P2PFRLError
from p2pfrl.scenario.checks.facts import missed_for_good
from p2pfrl.scenario.sections import Scenario


def refuse_resuming(scenario: Scenario, out: Path) -> None:
    """Refuse to go on from checkpoints where the rules need messages that nobody has kept.

    Raises:
        P2PFRLError: names the key that would have to be another.
    """
    for where, reason in missed_for_good(scenario):
        raise P2PFRLError(
            f"{out}: {'.'.join(map(str, where))}: a rule needs every message, and those that this process missed are "
            f"gone: {reason}; start all processes anew with another --out"
        )
