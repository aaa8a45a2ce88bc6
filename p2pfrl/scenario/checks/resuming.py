"""Checks of a process that would go on from a checkpoint."""

from __future__ import annotations

from pathlib import Path

from p2pfrl.core.errors import P2PFRLError
from p2pfrl.core.needs import Need
from p2pfrl.scenario.checks.facts import missed_for_good, parts
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


_EXACT = (Need.EVERY_MESSAGE, Need.MASS, Need.ACKNOWLEDGMENTS)
"""Needs of rules that an agent does not meet if it forgets what it has sent."""


def refuse_unsaved(scenario: Scenario, out: Path) -> None:
    """Refuse to go on from checkpoints that are older than what others have seen of a process.

    Raises:
        P2PFRLError: names the rule that does not permit it.
    """
    for part in parts(scenario):
        if any(part.rule.has_need(need) for need in _EXACT):
            raise P2PFRLError(
                f"{out}: before it ended, this process had gone on without checkpoints (checkpoint.on_error = "
                f'"continue"), and {".".join(map(str, part.path))} = {part.kind!r} cannot go on from an older state '
                "than its neighbors have seen; start all processes anew with another --out"
            )
