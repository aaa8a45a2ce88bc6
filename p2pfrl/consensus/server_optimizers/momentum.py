"""Server optimizers that step along Delta = target - x, or along a momentum of it."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
from pydantic import Field
from typing_extensions import override

from p2pfrl.consensus.server_optimizers.base import ServerOptimizer, State
from p2pfrl.core.needs import Breaks, Need
from p2pfrl.core.parameters import Vector
from p2pfrl.core.rule import rule


@rule
class StalenessMix(ServerOptimizer):
    """FedAsync: x <- x + alpha s(tau) (target - x).

    Attributes:
        alpha: mixing weight of a fresh update.

    Reference: Xie, Koyejo, Gupta, OPT 2020, arXiv 1903.03934, equation 3.
    """

    breaks: ClassVar[Breaks] = (Need.STEPS, Need.TARGET)
    alpha: float = Field(default=0.6, gt=0, le=1)

    @override
    def step(
        self, model: Vector, target: Vector, factor: float, state: State
    ) -> tuple[Vector, State]:
        return model + self.alpha * factor * (target - model), state


@rule
class Sgd(ServerOptimizer):
    """x <- x + lr s Delta with Delta = target - x: server SGD.

    With parameters or deltas and lr in (0, 1) it is Reptile. With payload "gradient" Delta is minus
    the aggregated gradient, and this is distributed gradient descent.

    Attributes:
        lr: length of the step, in units of Delta.

    Reference: Reddi et al., ICLR 2021, arXiv 2003.00295 (server SGD); Nichol, Achiam, Schulman,
    2018,
        arXiv 1803.02999 (Reptile).
    """

    lr: float = Field(default=1.0, gt=0)

    @override
    def step(
        self, model: Vector, target: Vector, factor: float, state: State
    ) -> tuple[Vector, State]:
        return model + self.lr * factor * (target - model), state


@rule
class Momentum(ServerOptimizer):
    """v <- beta v + s Delta, x <- x + lr v with Delta = target - x and v = 0 at first: FedAvgM.

    A constant Delta finally moves x by lr Delta / (1 - beta) per step. The factor s of a stale
    target scales Delta; the paper has no stale targets.

    Attributes:
        lr: length of the step, in units of v.
        beta: decay of v.

    Reference: Hsu, Qi, Brown, Measuring the effects of non-identical data distribution for
    federated
        visual classification, 2019, arXiv 1909.06335.
    """

    lr: float = Field(default=1.0, gt=0)
    beta: float = Field(default=0.9, ge=0, lt=1)

    def init(self, model: Vector) -> State:
        """Return v = 0."""
        return (np.zeros_like(model),)

    @override
    def step(
        self, model: Vector, target: Vector, factor: float, state: State
    ) -> tuple[Vector, State]:
        velocity = self.beta * state[0] + factor * (target - model)
        return model + self.lr * velocity, (velocity,)


@rule
class NormalizedMomentum(ServerOptimizer):
    """d <- (1 - alpha s) d + alpha s Delta, x <- x + lr d / ||d||: the server of AFedPG.

    Delta = target - x. The factor s of a stale gradient, which `schedule.staleness` sets, makes
    alpha delay-adaptive; the paper requires this without a formula. If agents train at the
    look-ahead point of the same alpha (correction "lookahead"), the error d + grad J(x) shrinks by
    1 - alpha per fresh gradient on a quadratic.

    d is 0 at first. The norm compensates for its length, and so the first gradient, as noisy as any
    other, counts no more than the next. If ||d|| = 0 the model does not move.

    Attributes:
        lr: length of every step.
        alpha: weight of the newest Delta in d.

    Reference: Lan, Han, Hashemi, Aggarwal, Brinton, Asynchronous federated reinforcement learning
    with
        policy gradient updates, ICLR 2025, arXiv 2404.08003; synchronous and with one agent:
            Cutkosky,
        Mehta, Momentum improves normalized SGD, ICML 2020, arXiv 2002.03305.
    """

    lr: float = Field(default=0.05, gt=0)
    alpha: float = Field(default=0.2, gt=0, le=1)

    def init(self, model: Vector) -> State:
        """Return d = 0."""
        return (np.zeros_like(model),)

    @override
    def step(
        self, model: Vector, target: Vector, factor: float, state: State
    ) -> tuple[Vector, State]:
        weight = self.alpha * factor
        direction = (1.0 - weight) * state[0] + weight * (target - model)
        norm = float(np.linalg.norm(direction))
        moved = model + (self.lr / norm) * direction if norm > 0.0 else model.copy()
        return moved, (direction,)
