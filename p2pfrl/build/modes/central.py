"""Mode central: a coordinator averages what agents send."""

from __future__ import annotations

from typing import ClassVar

from p2pfrl.build.modes.base import rate, words
from p2pfrl.build.modes.coordinated import CoordinatedBuilder
from p2pfrl.consensus.topologies.base import TopologyView
from p2pfrl.scenario import Scenario
from p2pfrl.scenario.modes import MODES, Mode


class CentralBuilder(CoordinatedBuilder):
    """Makes one coordinator with the rules of `[coordinator]`."""

    mode: ClassVar[Mode] = MODES["central"]

    def messages(self, scenario: Scenario, view: TopologyView) -> float:
        """Return a model down and an answer up for every participant, in every phase."""
        phases = max(1, len(scenario.secure.phases))
        return 2.0 * phases * float(scenario.coordinator.participation.expected(scenario.agents))

    def differences(self, scenario: Scenario) -> tuple[str, ...]:
        """Return what comes with one coordinator."""
        section = scenario.coordinator
        return (
            f"{2 * scenario.agents} messages per exchange when all take part, every one through the coordinator's "
            f"single interface of {rate(scenario)}, which limits a round.",
            f"An exchange takes two trips, model down and result up; the coordinator waits for everyone it awaits "
            f"({words(scenario.schedule)} schedule).",
            f"Participation is {words(section.participation)}, aggregation {words(section.aggregator)}, the server's "
            f"step {words(section.server_optimizer)}; the graph and its mixing weights play no part.",
            "All agents train from one point"
            + (
                "."
                if scenario.learner.same_start
                else ": starting at different points has no effect after one exchange."
            ),
        )
