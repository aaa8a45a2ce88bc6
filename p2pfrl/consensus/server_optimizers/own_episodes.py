"""Server steps that episodes of the coordinator's own correct."""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar

import numpy as np
from pydantic import Field
from typing_extensions import override

from p2pfrl.consensus.server_optimizers.base import ServerOptimizer, State
from p2pfrl.core.needs import Need, Needs, OneOf
from p2pfrl.core.own_episodes import OwnEpisodes
from p2pfrl.core.parameters import Vector
from p2pfrl.core.rule import rule


@rule
class Scsg(ServerOptimizer):
    """x_n+1 = x_n - Adam(g_n(x_n) - omega g_n(x_0) + mu), for n < N, P(N = k) = (1 - q) q^(k-1).

    mu is the aggregate of the agents' gradients at x_0. g_n is the gradient of `episodes` = b new
    trajectories that the coordinator plays with x_n, and omega weighs a trajectory by the product
    of pi(x_0) / pi(x_n), at most 10. q = B / (B + b) with B = `batch`, so N is (B + b) / b on
    average. In the first step both gradients are one. The steps take no time of the simulation, and
    their environment steps are not counted. The environment is that of agent 0, with random numbers
    of its own.

    Attributes:
        lr: learning rate of Adam.
        episodes: b.
        batch: B, the trajectories behind the gradient of each agent.
        beta1: decay of the mean.
        beta2: decay of the mean of squares.

    Reference: Fan, Ma, Dai, Jing, Tan, Low, Fault-tolerant federated reinforcement learning with
        theoretical guarantee, NeurIPS 2021, arXiv 2110.14074, Algorithm 1 (FedPG-BR), with the
        number of steps and the optimizer of its code; after Lei, Jordan, Less than a single pass:
        stochastically controlled stochastic gradient, AISTATS 2017, arXiv 1609.03261.
    """

    needs: ClassVar[Needs] = (
        OneOf("exchange.payload", ("gradient",), "its own gradients are compared with the agents'"),
        Need.ONE_COORDINATOR,
        Need.ROUNDS,
        Need.EPISODES,
    )
    plays: ClassVar[bool] = True

    lr: float = Field(default=1e-3, gt=0)
    episodes: int = Field(default=4, ge=1)
    batch: int = Field(default=16, ge=1)
    beta1: float = Field(default=0.9, ge=0, lt=1)
    beta2: float = Field(default=0.999, ge=0, lt=1)

    @override
    def with_episodes(self, own: Callable[[int], OwnEpisodes]) -> ServerOptimizer:
        return _Playing(self, own(self.episodes))

    @override
    def init(self, model: Vector) -> State:
        """Return the means of Adam, and the numbers of its steps and of batches of episodes."""
        return np.zeros_like(model), np.zeros_like(model), np.zeros(2, model.dtype)

    @override
    def step(
        self, model: Vector, target: Vector, factor: float, state: State
    ) -> tuple[Vector, State]:
        """Return the model after the first step, which needs no episodes, and the state."""
        return self.along(model, factor * (model - target), state)

    def along(self, model: Vector, gradient: Vector, state: State) -> tuple[Vector, State]:
        """Return the model after a step of Adam along minus `gradient`, and the state."""
        mean, square, counts = state
        mean = self.beta1 * mean + (1.0 - self.beta1) * gradient
        square = self.beta2 * square + (1.0 - self.beta2) * np.square(gradient)
        steps, batches = float(counts[0]) + 1.0, float(counts[1])
        first, second = mean / (1.0 - self.beta1**steps), square / (1.0 - self.beta2**steps)
        moved = model - self.lr * first / (np.sqrt(second) + 1e-8)
        return moved.astype(model.dtype), (
            mean.astype(model.dtype),
            square.astype(model.dtype),
            np.array([steps, batches], model.dtype),
        )


class _Playing(ServerOptimizer):
    """The rule with the episodes of a run."""

    def __init__(self, rule: Scsg, own: OwnEpisodes) -> None:
        self._rule, self._own = rule, own

    @override
    def init(self, model: Vector) -> State:
        return self._rule.init(model)

    @override
    def step(
        self, model: Vector, target: Vector, factor: float, state: State
    ) -> tuple[Vector, State]:
        rule, own = self._rule, self._own
        mean = factor * (model - target)
        number = int(state[2][1])
        steps = int(own.generator(number).geometric(rule.episodes / (rule.batch + rule.episodes)))
        moved, state = rule.along(model, mean, state)
        for _ in range(1, steps):
            number += 1
            new, old = own.gradients(moved, model, number)
            moved, state = rule.along(moved, new - old + mean, state)
        first, second, (taken, _) = state
        return moved, (first, second, np.array([taken, number + 1], model.dtype))
