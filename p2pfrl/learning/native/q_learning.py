"""Gradient steps of Q-learning by the native engine, from transitions to parameters in one call."""

from __future__ import annotations

from p2pfrl.core.parameters import Vector
from p2pfrl.learning.learners.base import State
from p2pfrl.learning.native.choice import net_of
from p2pfrl.learning.native.library import QLearning, Target, library
from p2pfrl.learning.native.optimizers import NativeOptimizer
from p2pfrl.learning.networks import Network
from p2pfrl.learning.optimizers import Factors


class NativeQ:
    """Takes gradient steps; what they compute is what `DQN` says, with the same bits.

    Args:
        network: Q, which sees observations as they are.
        optimizer: clips gradients, too.
        target: of the TD errors.
    """

    def __init__(self, network: Network, optimizer: NativeOptimizer, target: Target) -> None:
        assert network.normalizer is None
        self._optimizer = optimizer
        self._engine = QLearning(library(), net_of(network), optimizer.rule, target)

    def gradient(self, rows: Vector, ahead: Vector, sample: Vector, gradient: Vector) -> Vector:
        """Write the gradient of the mean Huber loss; return the TD errors `(b, B)`.

        Args:
            rows: `(b, stride)` parameters of Q.
            ahead: `(b, stride)` those of the target networks.
            sample: `(b, B, 2 o + 3)` transitions.
            gradient: `(b, stride)`; weights and biases are overwritten, the rest is left.
        """
        return self._engine.gradient(rows, ahead, sample, gradient)

    def step(
        self, rows: Vector, ahead: Vector, sample: Vector, state: State, rates: Factors | None
    ) -> Vector:
        """Take a step on that gradient, in place; return the TD errors `(b, B)`.

        Args:
            rows: `(b, stride)` parameters of Q.
            ahead: `(b, stride)` those of the target networks.
            sample: `(b, B, 2 o + 3)` transitions.
            state: with the moments.
            rates: `(b,)` factors of the learning rate.
        """
        held, own = self._optimizer.held(state), self._optimizer.rates(len(rows), rates)
        return self._engine.step(rows, ahead, sample, held, own)
