"""Participation by what agents have: speed, bandwidth, or the energy of a round."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from pydantic import Field
from typing_extensions import override

from p2pfrl.consensus.participation.base import Participation, Standing, share, too_many
from p2pfrl.core.resources import ResourceName, Resources
from p2pfrl.core.rng import Purpose, generator
from p2pfrl.core.rule import rule


@rule
class Capable(Participation):
    """The fraction x present most capable agents of `candidates` drawn with equal probability.

    The most capable are the fastest, those with the most bandwidth, or those that need the fewest
    joules for a round. The lower id breaks ties. Rounds get shorter, or cheaper, and the choice is
    biased: agents that are never asked have no say in the model. Fewer candidates ask the others
    more often.

    Attributes:
        fraction: share of the agents present that are asked.
        candidates: number of agents drawn first, without replacement; all that are present by
            default.
        by: speed or bandwidth, highest first; energy, lowest first: joules of the environment steps
            and of the message of a round.
        values: speed, bandwidth or joules of every agent, in order of id; those of the scenario by
            default.

    Reference: Nishio, Yonetani, Client selection for federated learning with heterogeneous
        resources in mobile edge, ICC 2019, arXiv 1804.08333: candidates are drawn, and those chosen
        that finish early. There a deadline limits their number, here a fraction.
    """

    fraction: float = Field(default=0.5, gt=0, le=1)
    candidates: int | None = Field(default=None, ge=1)
    by: ResourceName = "speed"
    values: tuple[float, ...] | None = None

    @override
    def misfit(self, agents: int) -> str | None:
        if (wrong := too_many(self.candidates, agents)) is not None:
            return wrong
        if self.values is None or len(self.values) == agents:
            return None
        given = len(self.values)
        return f"values: expected one number for each of {agents} agents, got {given}"

    @property
    @override
    def resource(self) -> ResourceName | None:
        return self.by if self.values is None else None

    @override
    def with_resources(self, resources: Resources) -> Capable:
        if self.values is not None:
            return self
        return replace(self, values=resources.of(self.by))

    @override
    def choose(self, round: int, present: Sequence[int], standing: Standing) -> Sequence[int]:
        size = share(self.fraction, len(present))
        count = min(max(self.candidates or len(present), size), len(present))
        drawn = range(len(present))
        if count < len(present):
            rng = generator(standing.seed, Purpose.PARTICIPATION, round)
            drawn = rng.choice(len(present), size=count, replace=False).tolist()
        sign = 1.0 if self.by == "energy" else -1.0

        def rank(agent: int) -> tuple[float, int]:
            return (sign * self.values[agent] if self.values else 0.0), agent

        ranked = sorted((present[i] for i in drawn), key=rank)
        return sorted(ranked[:size])

    @override
    def expected(self, agents: int) -> float:
        return float(share(self.fraction, agents))
