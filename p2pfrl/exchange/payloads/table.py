"""The payload of tabular learners: a table with its visits since the last exchange."""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from p2pfrl.core.needs import Needs, OneOf
from p2pfrl.core.parameters import Vector
from p2pfrl.core.rule import rule
from p2pfrl.core.turn import Turn
from p2pfrl.exchange.payloads.base import Payload, Shared

_COUNTS = "visits"


@rule
class Table(Payload):
    """Q_i with N_i(s, a), the visits since the last exchange: twice the numbers of the parameters.

    Averaged by aggregator "importance", or, without regard to the counts, by "mean".

    Reference: Woo, Joshi, Chi, "The blessing of heterogeneity in federated Q-learning", ICML 2023,
    arXiv 2305.10697.
    """

    modes: ClassVar[tuple[str, ...] | None] = ("central",)
    why: ClassVar[str] = (
        'counts are for a coordinator that weighs by them; use payload = "parameters"'
    )
    needs: ClassVar[Needs] = (
        OneOf("coordinator.aggregator", ("importance", "mean"), "others read counts as values"),
    )
    offer: ClassVar[str | None] = _COUNTS

    def write(self, model: Shared, vector: Vector) -> None:
        """Write the table back, and reset the counts."""
        model.replace(vector)
        model.store(_COUNTS, np.zeros_like(vector))

    def extract(self, turn: Turn) -> Vector:
        """Return table and counts."""
        return np.concatenate([turn.own, turn.memory.recall(_COUNTS)])

    def parts(self, shared: tuple[str, ...]) -> tuple[str, ...]:
        """Return the shared parts and the counts."""
        return (*shared, _COUNTS)

    def size(self, shared: int, offered: int | None) -> int | None:
        """Return twice the numbers that the agent shares."""
        return 2 * shared

    def scaled(self, vector: Vector, model: Vector, factor: float) -> Vector:
        """Return the table between model and vector, with the counts as they are."""
        table, counts = vector[: len(model)], vector[len(model) :]
        return np.concatenate([model + factor * (table - model), counts])

    def target(self, model: Vector, aggregate: Vector) -> Vector:
        """Return the aggregate's table."""
        return aggregate[: len(model)]
