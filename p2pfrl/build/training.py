"""The learner with which agents train, made from a scenario in any process."""

from __future__ import annotations

from p2pfrl.build.modes import BUILDERS
from p2pfrl.learning.learners.base import Stack
from p2pfrl.scenario import Scenario
from p2pfrl.scenario.bind import learning


def trained(scenario: Scenario) -> Stack:
    """Return the learner that computes the updates of a scenario's agents: that of `Assembly`."""
    builder = BUILDERS[scenario.mode]()
    return builder.trained(learning(builder.plain(scenario)).stack)
