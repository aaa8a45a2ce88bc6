"""Invariants of coordinators: what they aggregate, what they send, and what agents make of it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from typing_extensions import override

from p2pfrl.agent import Agent
from p2pfrl.build.world import World
from p2pfrl.catalog import kind_of
from p2pfrl.consensus.coordinator import Coordinator
from p2pfrl.core.actor import Body
from p2pfrl.core.parameters import Vector
from p2pfrl.core.types import MODEL, Action, Adopt, Frame, Mix
from p2pfrl.fuzz.checks.facts import is_honest, is_plain
from p2pfrl.fuzz.watch import Check

_NEAR = 1e-9
_FAR = 30.0
"""Times the honest vectors' size that a robust rule may leave them by; attacks send much more."""


class Aggregated(Check):
    """A coordinator aggregates exactly what it received, as the rule's formula says."""

    says = "the model is the aggregate of exactly the messages that count"

    def __init__(self, world: World) -> None:
        super().__init__(world)
        self._model: Vector | None = None

    @override
    def applies(self) -> bool:
        scenario = self.scenario
        return (
            is_plain(self.world)
            and scenario.mode == "central"
            and not scenario.coordinator.standbys
            and kind_of("server_optimizers", scenario.coordinator.server_optimizer) == "replace"
            and kind_of("participation", scenario.coordinator.participation) != "weighted"
            and scenario.exchange.payload in ("parameters", "delta")
            and not scenario.correction.extras
            and not self.world.assembly.privacy.is_central
        )

    @override
    def before(self, body: Body, action: Action) -> None:
        self._model = None
        if isinstance(action, Mix) and isinstance(body, Coordinator) and action.received:
            self._model = body.model.copy()
            senders = [message.sender for message in action.received]
            if sorted(set(senders)) != senders and not self.scenario.schedule.is_asynchronous:
                self.fail(f"{body.id} aggregates {senders}")

    @override
    def after(self, body: Body, action: Action) -> None:
        if self._model is None or not isinstance(action, Mix) or not isinstance(body, Coordinator):
            return
        rule = self.scenario.coordinator.aggregator
        rows = np.array([message.payload for message in action.received], dtype=np.float64)
        is_delta = self.scenario.exchange.payload == "delta" and rows.shape[1] == len(self._model)
        base = self._model if is_delta else np.zeros_like(self._model)
        got = body.model
        if all(factor == 1.0 for factor in action.factors) and (
            (expected := self._expected(rule, action, rows)) is not None
        ):
            expected = base + expected
            scale = 1.0 + float(np.abs(expected).max())
            if not np.allclose(got, expected, rtol=0.0, atol=_NEAR * scale):
                far = float(np.abs(got - expected).max())
                self.fail(f"the model of {body.id} is {far:.3g} from the aggregate")
        self._bound(rule, action, rows, got - base)

    def _expected(self, rule: Any, action: Mix, rows: Vector) -> Vector | None:
        """Return the aggregate of rows by its formula; None where none is written here."""
        kind, found = kind_of("aggregators", rule), None
        f = getattr(rule, "byzantine", None) or 0
        if getattr(rule, "pre", ()):
            return None
        if kind == "mean" and rule.weights == "uniform":
            found = rows.mean(axis=0)
        elif kind == "mean" and rule.weights == "samples":
            weights = np.array([message.weight for message in action.received])
            found = weights @ rows / weights.sum()
        elif kind == "median":
            found = np.median(rows, axis=0)
        elif kind == "trimmed_mean":
            f = min(f, (len(rows) - 1) // 2)
            found = np.sort(rows, axis=0)[f : len(rows) - f].mean(axis=0)
        elif kind == "krum" and len(rows) >= 2 * f + 3:
            squares = np.square(rows[:, None] - rows[None]).sum(axis=2)
            near = [np.sort(np.delete(row, i)) for i, row in enumerate(squares)]
            scores = [float(row[: len(rows) - f - 2].sum()) for row in near]
            first, second, *_ = sorted(scores)
            is_clear = second - first > _NEAR * (1.0 + first)
            found = rows[int(np.argmin(scores))] if is_clear else None
        return found

    def _bound(self, rule: object, action: Mix, rows: Vector, got: Vector) -> None:
        """Check that few attackers do not take a robust aggregate far away."""
        f = getattr(rule, "byzantine", None)
        if not getattr(rule, "is_robust", False) or f is None:
            return
        honest = np.array([is_honest(self.world, message.sender) for message in action.received])
        bad = int((~honest).sum())
        if not bad or bad > f or len(rows) < 4 * f + 3:
            return
        size = float(np.abs(rows[honest]).max())
        if float(np.abs(got).max()) > _FAR * (size + 1e-6):
            self.fail(f"{bad} attackers of {len(rows)} moved the aggregate beyond all others")


class Committed(Check):
    """The model of a round never changes, however often it is sent."""

    says = "a model that was sent for a round never changes"

    def __init__(self, world: World) -> None:
        super().__init__(world)
        self._sent: dict[tuple[int, int], int] = {}

    @override
    def applies(self) -> bool:
        return not self.scenario.coordinator.standbys  # a round without a majority may be redone

    @override
    def sent(self, sender: int, to: Sequence[int], frame: Frame) -> None:
        if sender < 0 and frame.kind == MODEL:
            before = self._sent.setdefault((sender, frame.round), frame.crc32)
            if before != frame.crc32:
                self.fail(f"{sender} sent two models of round {frame.round}")


class Adopted(Check):
    """An agent that adopts a model has it."""

    says = "who adopts a model has its numbers"

    @override
    def applies(self) -> bool:
        return (
            is_plain(self.world)
            and self.world.assembly.mode.has_coordinator
            and not self.world.assembly.mode.pools
            and self.scenario.exchange.payload in ("parameters", "delta", "gradient")
        )

    @override
    def after(self, body: Body, action: Action) -> None:
        if isinstance(action, Adopt) and isinstance(body, Agent):
            own = self.vector(body.id)
            if not np.array_equal(own, action.message.payload[: len(own)]):
                self.fail(f"agent {body.id} adopted a model and has another")
