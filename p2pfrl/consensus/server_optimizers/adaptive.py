"""Adaptive server optimizers (FedOpt), with a step size per coordinate.

With Delta = target - x, m = 0 and v = tau^2 at first, and no bias correction:

    m <- beta1 m + (1 - beta1) Delta,  v as each rule defines,  x <- x + lr m / (sqrt(v) + tau)

A stale target counts as s Delta; the paper has no stale targets.

Reference: Reddi, Charles, Zaheer, Garrett, Rush, Konecny, Kumar, McMahan, Adaptive federated
optimization, ICLR 2021, arXiv 2003.00295, Algorithm 2.
"""

from __future__ import annotations

from abc import abstractmethod

import numpy as np
from pydantic import Field
from typing_extensions import override

from p2pfrl.consensus.server_optimizers.base import ServerOptimizer, State
from p2pfrl.core.parameters import Vector
from p2pfrl.core.rule import rule


@rule
class Adaptive(ServerOptimizer):
    """Base of the three adaptive optimizers."""

    lr: float = Field(default=0.1, gt=0)
    beta1: float = Field(default=0.9, ge=0, lt=1)
    tau: float = Field(default=1e-3, gt=0)

    def init(self, model: Vector) -> State:
        """Return m = 0 and v = tau^2."""
        return np.zeros_like(model), np.full_like(model, self.tau**2)

    def step(
        self, model: Vector, target: Vector, factor: float, state: State
    ) -> tuple[Vector, State]:
        """Return the next model, m and v."""
        delta = factor * (target - model)
        mean = self.beta1 * state[0] + (1.0 - self.beta1) * delta
        square = self._square(state[1], np.square(delta))
        return model + self.lr * mean / (np.sqrt(square) + self.tau), (mean, square)

    @abstractmethod
    def _square(self, v: Vector, square: Vector) -> Vector:
        """Return the next v, given Delta^2."""


@rule
class Adam(Adaptive):
    """FedAdam: v <- beta2 v + (1 - beta2) Delta^2. Reddi et al., ICLR 2021, arXiv 2003.00295.

    With beta1 = 0 it is RMSProp with statistics that all agents share, as in A3C (Mnih et al., ICML
    2016, arXiv 1602.01783), except for sqrt(v) + tau instead of sqrt(v + epsilon).

    Attributes:
        lr: learning rate; a constant Delta finally moves every coordinate by lr per step.
        beta1: decay of m.
        beta2: decay of v.
        tau: keeps the step small if v is small.
    """

    beta2: float = Field(default=0.99, ge=0, lt=1)

    @override
    def _square(self, v: Vector, square: Vector) -> Vector:
        return self.beta2 * v + (1.0 - self.beta2) * square


@rule
class Yogi(Adaptive):
    """FedYogi: v <- v - (1 - beta2) Delta^2 sign(v - Delta^2).

    Reddi et al., ICLR 2021, arXiv 2003.00295.

    Attributes:
        lr: learning rate; a constant Delta finally moves every coordinate by lr per step.
        beta1: decay of m.
        beta2: 1 - beta2 is the rate at which v moves.
        tau: keeps the step small if v is small.
    """

    lr: float = Field(default=0.01, gt=0)
    beta2: float = Field(default=0.99, ge=0, lt=1)

    @override
    def _square(self, v: Vector, square: Vector) -> Vector:
        return v - (1.0 - self.beta2) * square * np.sign(v - square)


@rule
class Adagrad(Adaptive):
    """FedAdagrad: v <- v + Delta^2. Reddi et al., ICLR 2021, arXiv 2003.00295.

    Attributes:
        lr: learning rate; a constant Delta moves every coordinate by lr / sqrt(t) at step t.
        beta1: decay of m.
        tau: keeps the step small if v is small.
    """

    beta1: float = Field(default=0.0, ge=0, lt=1)

    @override
    def _square(self, v: Vector, square: Vector) -> Vector:
        return v + square
