"""Minibatch descent by the native engine, in place of numpy and torch."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from typing_extensions import override

from p2pfrl.core.errors import ScenarioError
from p2pfrl.core.parameters import Vector
from p2pfrl.core.rng import Streams
from p2pfrl.learning.descent import Descent, Plan
from p2pfrl.learning.distillation import Distillation
from p2pfrl.learning.learners.base import State, Task
from p2pfrl.learning.native.choice import lacking
from p2pfrl.learning.native.compiler import EngineError
from p2pfrl.learning.native.library import Engine, Head, Moments, Net, Rule, library
from p2pfrl.learning.networks import ACTIVATIONS, Network
from p2pfrl.learning.optimizers import SGD, Adam, Factors, Keep, Optimizer, RMSprop
from p2pfrl.learning.policies import Categorical, Categoricals, Gaussian, Policy


class NativeDescent(Descent):
    """Takes the steps of a plan in C; what they compute is what `Descent` says.

    Where a correction bends gradients, its Python runs between the gradient and the step.

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
        if (what := lacking(network, policy, optimizer, plan, task, distillation)) is not None:
            reason = f"'native' has no code for {what}; choose 'torch'"
            raise ScenarioError([f"compute.engine: {reason}"])
        assert plan.formula is not None
        try:
            found = library()
        except EngineError as error:
            reason = (
                f"'native' cannot be used here: {error}; install gcc or clang, or choose 'torch'"
            )
            raise ScenarioError([f"compute.engine: {reason}"]) from error
        head = head_of(network, policy)
        self.engine = Engine(found, net_of(network), head, plan.formula, self._rule())
        self._base = getattr(optimizer, "lr", 0.0)

    def _rule(self) -> Rule:
        optimizer, most = self.optimizer, self.plan.max_grad_norm
        if isinstance(optimizer, Adam):
            return Rule("adam", optimizer.eps, optimizer.betas, most)
        if isinstance(optimizer, RMSprop):
            return Rule("rmsprop", optimizer.eps, (0.0, optimizer.decay), most)
        return Rule("sgd" if isinstance(optimizer, SGD) else "keep", max_norm=most)

    @override
    def learn(
        self,
        rows: Vector,
        state: State,
        packed: Vector,
        streams: Streams,
        episodes: NDArray[np.intp] | None = None,
        factors: Factors | None = None,
    ) -> NDArray[np.float64]:
        if self._adjust is not None:
            return super().learn(rows, state, packed, streams, episodes, factors)
        plan, (b, size, _) = self.plan, packed.shape
        order = None
        if plan.minibatches > 1:
            order = np.stack([streams.permutation(size) for _ in range(plan.epochs)])
        return self.engine.learn(
            rows,
            self._moments(state),
            self._rates(b, factors),
            self._scaled(rows, packed),
            order,
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
        samples = np.ascontiguousarray(columns.transpose(0, 2, 1))
        loss: Vector = self.engine.gradient(rows, self._scaled(rows, samples), gradient)
        return loss

    @override
    def _bind(
        self, rows: Vector, gradient: Vector, state: State, factors: Factors | None
    ) -> Callable[[], None]:
        moments, rates = self._moments(state), self._rates(len(rows), factors)
        return lambda: self.engine.step(rows, moments, rates, gradient)

    @override
    def _clip(self, gradient: Vector) -> None:
        """Leave it to the step."""

    def _moments(self, state: State) -> Moments:
        def one(name: str) -> Vector:
            found: Vector = state[name]  # type: ignore[assignment]
            return found

        if isinstance(self.optimizer, Keep):
            return Moments(first=one("gradient"))
        names = self.optimizer.moments
        return Moments(
            first=one(names[0]) if len(names) > 1 else None,
            second=one(names[-1]) if names else None,
            counts=one(self.optimizer.counts[0]) if self.optimizer.counts else None,
        )

    def _rates(self, rows: int, factors: Factors | None) -> NDArray[np.float32]:
        factors = np.ones(rows) if factors is None else factors
        return (self._base * factors).astype(np.float32)

    def _scaled(self, rows: Vector, samples: Vector) -> Vector:
        """Return samples `(b, B, features)` whose observations are as the network sees them."""
        normalizer, o = self.network.normalizer, samples.shape[2] - self.policy.width - 3
        if normalizer is None:
            return samples
        scaled = samples.copy()
        obs = samples[:, :, :o].transpose(0, 2, 1)
        scaled[:, :, :o] = normalizer.scaled(rows, obs).transpose(0, 2, 1)
        return scaled


def net_of(network: Network) -> Net:
    """Return the sizes and places of a network's layers."""
    return Net(
        network.layout.stride,
        network.inputs,
        relu=network.activation == ACTIVATIONS["relu"],
        has_critic=network.has_critic,
        chains=[
            [(layer.weight, layer.bias, layer.inputs, layer.outputs) for layer in chain.layers]
            for chain in network.chains
        ],
    )


def head_of(network: Network, policy: Policy) -> Head:
    """Return what the actor's outputs mean."""
    if isinstance(policy, Gaussian):
        return Head(policy.outputs, (), log_std=network.place("actor.log_std"))
    assert isinstance(policy, (Categorical, Categoricals))
    return Head(policy.outputs, policy.choices, policy.is_masked)
