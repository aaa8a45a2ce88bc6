"""What sections must not be together, with the reason. Each check looks at the whole scenario."""

from __future__ import annotations

from p2pfrl.scenario.sections import Scenario

Problem = tuple[tuple[str | int, ...], str]


def check(scenario: Scenario) -> list[Problem]:
    """Return every combination that means nothing, as (path of the key, reason)."""
    return []
