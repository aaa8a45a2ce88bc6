"""Natural gradients of networks: products with the Fisher information, conjugate gradients."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from typing_extensions import override

from p2pfrl.core.parameters import Vector, aligned_zeros
from p2pfrl.learning.descent import Descent, Plan
from p2pfrl.learning.learners.base import Task
from p2pfrl.learning.networks import Activation, Chain, Network
from p2pfrl.learning.optimizers import Optimizer
from p2pfrl.learning.policies import Policy

_TINY = 1e-12
_ATTEMPTS = 20


class Linearized:
    """The first derivative of a chain of layers around the parameters of b agents, from both sides.

    Args:
        chain: of layers.
        activation: of the hidden layers.
        rows: `(b, stride)` parameters.
        x: `(b, in, B)` inputs.
    """

    def __init__(self, chain: Chain, activation: Activation, rows: Vector, x: Vector) -> None:
        self._layers = chain.layers
        self._rows = rows
        self._inputs = [x]
        self._slopes: list[Vector] = []
        for layer in chain.layers[:-1]:
            weight, bias = layer.views(rows)
            h = aligned_zeros((len(rows), layer.outputs, x.shape[2]), rows.dtype)
            np.matmul(weight, self._inputs[-1], out=h)
            h += bias
            activation.function(h)
            slope = aligned_zeros(h.shape, rows.dtype)
            slope[:] = h
            activation.derivative(slope)
            self._inputs.append(h)
            self._slopes.append(slope)

    def push(self, change: Vector) -> Vector:
        """Return the outputs' change `(b, outputs, B)` for a parameters' change `(b, stride)`."""
        moved: Vector | None = None
        for depth, layer in enumerate(self._layers):
            weight, bias = layer.views(change)
            out = np.matmul(weight, self._inputs[depth]) + bias
            if moved is not None:
                out += np.matmul(layer.views(self._rows)[0], moved)
            moved = out if depth == len(self._layers) - 1 else out * self._slopes[depth]
        assert moved is not None
        return moved

    def pull(self, outputs: Vector, into: Vector) -> None:
        """Write the derivative of sum(outputs' . chain's outputs) into `into` `(b, stride)`."""
        delta, ones = outputs, np.ones((outputs.shape[2], 1), dtype=outputs.dtype)
        for depth in range(len(self._layers) - 1, -1, -1):
            layer = self._layers[depth]
            weight, bias = layer.views(into)
            np.matmul(delta, self._inputs[depth].transpose(0, 2, 1), out=weight)
            np.matmul(delta, ones, out=bias)
            if depth:
                delta = (
                    np.matmul(layer.views(self._rows)[0].transpose(0, 2, 1), delta)
                    * self._slopes[depth - 1]
                )


@dataclass(frozen=True)
class Trust:
    """Limits on a natural step.

    Attributes:
        damping: added to the diagonal of the Fisher information.
        iterations: of conjugate gradients.
        max_kl: bound on KL(old || new) of the policies, mean over samples; 0 for none.
        lr: the step size that the bound reckons with.
    """

    damping: float
    iterations: int
    max_kl: float
    lr: float


class NaturalDescent(Descent):
    """A descent whose gradients are natural: w with (F + damping) w = g.

    The actor's and the critic's gradients are solved for apart. F is the mean over samples of J' M
    J, J the derivative of a network's outputs by its parameters. M is the Fisher information of the
    policy given its head (with independent log standard deviations beside it). For the value M is
    1, that of a normal distribution around it, so that the critic takes Gauss-Newton steps.

    Args:
        network: actor and critic, apart.
        policy: what the actor's head means.
        optimizer: of all parameters.
        plan: epochs, minibatches and loss.
        task: its correction changes every natural gradient.
        trust: how far a step goes.
        activation: of the network's hidden layers.
    """

    def __init__(
        self,
        network: Network,
        policy: Policy,
        optimizer: Optimizer,
        plan: Plan,
        task: Task,
        *,
        trust: Trust,
        activation: Activation,
    ) -> None:
        super().__init__(network, policy, optimizer, plan, task)
        self.trust = trust
        self.activation = activation

    @override
    def _gradient(
        self,
        rows: Vector,
        columns: Vector,
        out: Vector,
        gradient: Vector,
        guide: Vector | None = None,
    ) -> Vector:
        """Write the natural gradient of the loss into `gradient`; return the loss `(b,)`."""
        loss = super()._gradient(rows, columns, out, gradient, guide)
        o = columns.shape[1] - self.policy.width - 3
        head = self.policy.legal(out[:, : self.policy.outputs], columns[:, :o])
        head = np.ascontiguousarray(head)
        fisher = Fisher(self, rows, columns[:, :o], head)
        total = np.zeros_like(gradient)
        for part in fisher.parts:
            own = np.where(fisher.mask(part), gradient, np.zeros((), dtype=gradient.dtype))
            total += self._bounded(fisher, part, solve(fisher, part, own, self.trust))
        gradient[:] = total
        return loss

    def _bounded(self, fisher: Fisher, part: str, direction: Vector) -> Vector:
        """Shorten the actor's direction to the trust region, or to zero if no step is within it."""
        trust = self.trust
        if part != "actor" or not trust.max_kl:
            return direction
        curvature = 0.5 * trust.lr**2 * dots(direction, fisher.times(part, direction))
        scale = np.sqrt(trust.max_kl / np.maximum(curvature, trust.max_kl))
        for _ in range(_ATTEMPTS):
            shortened = np.asarray(direction * scale.astype(direction.dtype)[:, None])
            apart = fisher.divergence(trust.lr * shortened)
            is_far = ~(apart <= trust.max_kl)
            if not is_far.any():
                return shortened
            scale[is_far] *= np.minimum(0.9, np.sqrt(0.9 * trust.max_kl / apart[is_far]))
        return np.where(is_far[:, None], np.zeros((), direction.dtype), shortened)


class Fisher:
    """The Fisher information of b agents' actors and critics, as an operator on vectors.

    It is computed on the agents' samples.

    Attributes:
        parts: "actor" and, where there is one, "critic".

    Args:
        descent: its network, policy and activation.
        rows: `(b, stride)` parameters.
        x: `(b, in, B)` observations.
        head: `(b, k, B)` the actor's outputs there.
    """

    def __init__(self, descent: NaturalDescent, rows: Vector, x: Vector, head: Vector) -> None:
        self._network: Network = descent.network
        self._policy = descent.policy
        self._log_std = self._network.log_std(rows).copy()
        self._head = head
        self._rows = rows
        self._x = x
        self._samples = x.shape[2]
        self.parts: Sequence[str] = self._network.layout.parts
        self._chains = {
            part: Linearized(chain, descent.activation, rows, x)
            for part, chain in zip(self.parts, self._network.chains, strict=True)
        }

    def divergence(self, step: Vector) -> Vector:
        """Return KL(old || new) `(b,)` of the policies after the step, mean over samples."""
        moved = self._network.layout.zeros(len(step))
        np.subtract(self._rows, step, out=moved)
        out = np.empty((len(step), self._network.outputs, self._samples), dtype=step.dtype)
        self._network.forward(moved, self._x, out, self._network.chains[:1])
        head = self._policy.legal(out[:, : self._policy.outputs], self._x)
        log_std = self._network.log_std(moved)
        return np.asarray(
            self._policy.divergence(self._head, self._log_std, head, log_std).mean(axis=1)
        )

    def mask(self, part: str) -> NDArray[np.bool_]:
        """Return the mask `(stride,)` of the places of the part."""
        out = np.zeros(self._network.layout.stride, dtype=np.bool_)
        for _, place in self._network.layout.slices((part,)):
            out[place] = True
        return out

    def times(self, part: str, change: Vector) -> Vector:
        """Return F v `(b, stride)` of a change v of one part."""
        chain, out = self._chains[part], np.zeros_like(change)
        moved = chain.push(change)
        if part == "actor":
            moved = self._policy.curvature(self._head, self._log_std, moved)
        chain.pull(moved / np.asarray(self._samples, dtype=moved.dtype), out)
        if part == "actor" and self._policy.has_log_std:
            self._network.log_std(out)[:] = 2.0 * self._network.log_std(change)
        return out


def solve(fisher: Fisher, part: str, gradient: Vector, trust: Trust) -> Vector:
    """Return w with (F + damping) w = g, by rows, after some conjugate gradient steps from 0.

    Hestenes, Stiefel, "Methods of conjugate gradients for solving linear systems", Journal of
    Research of the National Bureau of Standards 49, 1952.
    """
    w, residual, direction = np.zeros_like(gradient), gradient.copy(), gradient.copy()
    square = dots(residual, residual)
    for _ in range(trust.iterations):
        ahead = (
            fisher.times(part, direction) + np.asarray(trust.damping, gradient.dtype) * direction
        )
        curvature = dots(direction, ahead)
        is_open = (square > _TINY) & (curvature > 0)
        alpha = np.where(is_open, square / np.where(is_open, curvature, 1.0), 0.0).astype(
            gradient.dtype
        )[:, None]
        w += alpha * direction
        residual -= alpha * ahead
        after = dots(residual, residual)
        beta = np.where(is_open, after / np.where(is_open, square, 1.0), 0.0).astype(
            gradient.dtype
        )[:, None]
        direction = residual + beta * direction
        square = after
    return w


def dots(a: Vector, b: Vector) -> Vector:
    """Return the inner products of rows, `(b,)`, in float64."""
    products = np.matmul(a[:, None].astype(np.float64), b[:, :, None].astype(np.float64))
    return np.asarray(products[:, 0, 0])
