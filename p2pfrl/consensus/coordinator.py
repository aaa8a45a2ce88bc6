"""The coordinator: an agent of the same world that holds a model instead of training one."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Protocol

import numpy as np
from pydantic import Field

from p2pfrl.consensus.aggregators import Aggregator
from p2pfrl.core.parameters import Vector
from p2pfrl.core.rng import generator
from p2pfrl.core.rule import rule
from p2pfrl.core.types import COORDINATOR, SKIP, Action, Mix, Port, Send
from p2pfrl.core.wire import Encoder
from p2pfrl.exchange.payloads import Payload


class ServerOptimizer(ABC):
    """x <- x + step (target - x)."""

    @abstractmethod
    def step(self, model: Vector, target: Vector, factor: float) -> Vector:
        """Return the next model, a new vector. `factor` <= 1 is the weight of a stale target."""


@rule
class Replace(ServerOptimizer):
    """x <- x + s (target - x): the target itself where nothing is stale. FedAvg, McMahan et al., AISTATS 2017."""

    def step(self, model: Vector, target: Vector, factor: float) -> Vector:
        """Return target, or the point between."""
        return target if factor == 1.0 else model + factor * (target - model)


@rule
class StalenessMix(ServerOptimizer):
    """x <- x + alpha s(tau) (target - x). FedAsync, Xie, Koyejo, Gupta, OPT 2020, arXiv 1903.03934, equation 3."""

    alpha: float = Field(default=0.6, gt=0, le=1)

    def step(self, model: Vector, target: Vector, factor: float) -> Vector:
        """Return the point alpha s of the way."""
        return model + self.alpha * factor * (target - model)


SERVER_OPTIMIZERS: dict[str, type[ServerOptimizer]] = {"replace": Replace, "staleness_mix": StalenessMix}


class Participation(ABC):
    """Who is asked to train in a round."""

    @abstractmethod
    def choose(self, seed: int, round: int, present: Sequence[int]) -> Sequence[int]:
        """Return at least one of `present`, ascending."""


@rule
class All(Participation):
    """Everyone who is present."""

    def choose(self, seed: int, round: int, present: Sequence[int]) -> Sequence[int]:
        """Return `present`."""
        return present


@rule
class UniformParticipation(Participation):
    """max(fraction x present, 1) of those present, each set equally probable. McMahan et al., AISTATS 2017."""

    fraction: float = Field(default=0.5, gt=0, le=1)

    def choose(self, seed: int, round: int, present: Sequence[int]) -> Sequence[int]:
        """Return a random subset, drawn from (seed, round)."""
        count = max(1, round_half_up(self.fraction * len(present)))
        drawn = generator(seed, "participation", round).choice(len(present), size=count, replace=False)
        return [present[i] for i in sorted(drawn.tolist())]


def round_half_up(x: float) -> int:
    """Return the nearest integer, halves up."""
    return int(x + 0.5)


PARTICIPATION: dict[str, type[Participation]] = {"all": All, "uniform": UniformParticipation}


class Witness(Protocol):
    """Whoever writes the record. Nothing flows back from it."""

    def excused(self, round: int, participants: Sequence[int]) -> None:
        """Model `round` goes out to `participants` only: nobody else ends the round before."""

    def applied(self, agent: int, tau: int) -> None:
        """An update of `agent`, of staleness `tau`, was applied."""


class Coordinator:
    """Carries out what a coordinator's schedule decides: aggregate, step, send the model.

    Args:
        model: the first model, `(k,)`.
        payload, aggregator, optimizer: the rules.
        encoder: makes its frames.
        parts: names of the parts in the model.
        port: its world.
        witness: writes the record.
    """

    def __init__(
        self,
        model: Vector,
        *,
        payload: Payload,
        aggregator: Aggregator,
        optimizer: ServerOptimizer,
        encoder: Encoder,
        parts: tuple[str, ...],
        port: Port,
        witness: Witness,
    ) -> None:
        self.model = model
        self._payload = payload
        self._aggregator = aggregator
        self._optimizer = optimizer
        self._encoder = encoder
        self._parts = parts
        self._port = port
        self._witness = witness

    def perform(self, action: Action) -> None:
        """Carry out `Send` and `Mix`."""
        if isinstance(action, Mix):
            self._aggregate(action)
        elif isinstance(action, Send):
            assert action.kind != SKIP, f"agent {COORDINATOR} always has something to say"
            model = np.array(self.model)
            frame = self._encoder.encode(model, kind=action.kind, round=action.round, parts=self._parts)
            self._witness.excused(action.round, action.to)
            self._port.send(action.to, frame)

    def _aggregate(self, action: Mix) -> None:
        if action.received:
            aggregate = self._aggregator.aggregate(
                [m.payload for m in action.received], [m.weight for m in action.received]
            )
            target = self._payload.target(self.model, aggregate)
            factor = sum(action.factors) / len(action.factors)
            self.model = self._optimizer.step(self.model, target, factor)
            for message, tau in zip(action.received, action.staleness, strict=True):
                self._witness.applied(message.sender, tau)
