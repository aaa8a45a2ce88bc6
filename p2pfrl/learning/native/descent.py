"""Minibatch descent by the native engine, in place of numpy and torch."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from typing_extensions import override

from p2pfrl.core.parameters import Vector
from p2pfrl.core.rng import Streams
from p2pfrl.learning.descent import Descent, Plan
from p2pfrl.learning.distillation import Distillation
from p2pfrl.learning.learners.base import State, Task
from p2pfrl.learning.native.choice import lacking, missing, net_of, refusal
from p2pfrl.learning.native.library import Engine, Head, Layers, library
from p2pfrl.learning.native.optimizers import NativeOptimizer
from p2pfrl.learning.networks import LOG_STD, Network
from p2pfrl.learning.optimizers import Factors, Optimizer
from p2pfrl.learning.policies import Categorical, Categoricals, Gaussian, Policy


class NativeDescent(Descent):
    """Takes the steps of a plan in C; what they compute is what `Descent` says.

    Where a correction bends gradients, its Python runs between the gradient and the step. What
    guides and distillation add to the loss is left to autograd.

    Attributes:
        engine: for this network, policy, loss and optimizer.

    Args:
        network: forward and backward passes.
        policy: what the network's head means.
        optimizer: of all parameters.
        plan: epochs, minibatches and the formula of the loss.
        task: its correction bends every gradient; with `gradient_only` no step is taken.
        distillation: what else every gradient learns from.

    Raises:
        ScenarioError: the engine has no code for one of them, or there is no engine here.
    """

    def __init__(
        self,
        network: Network,
        policy: Policy,
        optimizer: Optimizer,
        plan: Plan,
        task: Task,
        distillation: Distillation | None = None,
    ) -> None:
        super().__init__(network, policy, optimizer, plan, task, distillation)
        parts = (network, policy, optimizer, plan, task, distillation)
        what = lacking(*parts)
        why = missing() if what is None else None
        if what is not None or why is not None:
            raise refusal(what, why)
        assert plan.formula is not None
        found = library()
        head = head_of(network, policy)
        self._steps = NativeOptimizer(optimizer, plan.max_grad_norm)
        self.engine = Engine(found, net_of(network), head, plan.formula, self._steps.rule)
        network.layers = Layers(found, net_of(network))

    @property
    def takes_layers(self) -> bool:
        """Whether it takes the first step on all samples as they come, with layers from acting."""
        return self._is_alone and self.plan.minibatches == 1

    @property
    def _is_alone(self) -> bool:
        """Whether nothing but the loss and the optimizer decides about a step."""
        others = (self._adjust, self._distillation, self._guided_by)
        return all(other is None for other in others)

    @override
    def learn(
        self,
        rows: Vector,
        state: State,
        packed: Vector,
        streams: Streams,
        episodes: NDArray[np.intp] | None = None,
        factors: Factors | None = None,
        layers: Vector | None = None,
    ) -> NDArray[np.float64]:
        if not self._is_alone:
            return super().learn(rows, state, packed, streams, episodes, factors)
        plan, (b, size, _) = self.plan, packed.shape
        return self.engine.learn(
            rows,
            self._steps.held(state),
            self._steps.rates(b, factors),
            self._scaled(rows, packed),
            streams if plan.minibatches > 1 else None,
            layers,
            epochs=plan.epochs,
            minibatches=min(plan.minibatches, size),
            normalized=plan.norm_adv,
        )

    @override
    def _gradient(
        self,
        rows: Vector,
        columns: Vector,
        out: Vector,
        gradient: Vector,
        guide: Vector | None = None,
    ) -> Vector:
        if guide is not None:
            return super()._gradient(rows, columns, out, gradient, guide)
        samples = np.ascontiguousarray(columns.transpose(0, 2, 1))
        loss: Vector = self.engine.gradient(rows, self._scaled(rows, samples), gradient)
        return loss

    @override
    def _bind(
        self, rows: Vector, gradient: Vector, state: State, factors: Factors | None
    ) -> Callable[[], None]:
        return self._steps.bind(rows, gradient, state, factors)

    @override
    def _clip(self, gradient: Vector) -> None:
        """Leave it to the step."""

    def _scaled(self, rows: Vector, samples: Vector) -> Vector:
        """Return samples `(b, B, features)` whose observations are as the network sees them."""
        normalizer, o = self.network.normalizer, samples.shape[2] - self.policy.width - 3
        if normalizer is None:
            return samples
        scaled = samples.copy()
        obs = samples[:, :, :o].transpose(0, 2, 1)
        scaled[:, :, :o] = normalizer.scaled(rows, obs).transpose(0, 2, 1)
        return scaled


def head_of(network: Network, policy: Policy) -> Head:
    """Return what the actor's outputs mean."""
    if isinstance(policy, Gaussian):
        return Head(policy.outputs, (), log_std=network.place(LOG_STD))
    assert isinstance(policy, (Categorical, Categoricals))
    return Head(policy.outputs, policy.choices, policy.is_masked)
