"""Mode independent: every agent learns alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import ClassVar

from p2pfrl.build.modes.base import AgentLife, ModeBuilder, Plan
from p2pfrl.build.modes.gossip import among
from p2pfrl.consensus.schedules.base import Alone
from p2pfrl.consensus.topologies.base import TopologyView
from p2pfrl.core.types import Schedule
from p2pfrl.exchange.privacy.base import Plain
from p2pfrl.exchange.secure.base import Visible
from p2pfrl.scenario import Scenario
from p2pfrl.scenario.modes import MODES, Mode


class IndependentBuilder(ModeBuilder):
    """Makes agents without neighbors."""

    mode: ClassVar[Mode] = MODES["independent"]

    def plain(self, scenario: Scenario) -> Scenario:
        """Return the scenario without privacy and secure sums: nothing leaves an agent."""
        return replace(scenario, privacy=Plain(), secure=Visible())

    def neighbors(self, plan: Plan) -> list[Sequence[int]]:
        """Return nobody."""
        return [() for _ in range(plan.scenario.agents + 1)]

    def schedule(self, plan: Plan, life: AgentLife) -> Schedule:
        """Return the state machine of an agent that has nobody to mix with."""
        return among(plan.scenario, Alone(), life)

    def messages(self, scenario: Scenario, view: TopologyView) -> float:
        """Return 0."""
        return 0.0

    def differences(self, scenario: Scenario) -> tuple[str, ...]:
        """Return what comes with being alone."""
        return (
            "Nothing is sent and nobody waits: a round lasts as long as the agent's own training.",
            "Every agent has only its own samples; graph, mixing weights and network play no part.",
        )
