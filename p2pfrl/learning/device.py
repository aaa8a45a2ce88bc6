"""Minibatch descent on a device of torch, such as a GPU: all agents of a batch at once.

Samples and parameters go to the device once per update, and parameters and moments come back.
Networks, loss, gradient and step are computed there, and no tensor in between is made elsewhere.
Acting and environments stay on the processor. Losses are those of `Descent`.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import TYPE_CHECKING, cast

import numpy as np
from numpy.typing import NDArray
from typing_extensions import override

from p2pfrl.core.errors import ScenarioError
from p2pfrl.core.lazy import LazyModule
from p2pfrl.core.parameters import Vector
from p2pfrl.core.rng import Streams
from p2pfrl.learning.descent import Descent, Plan, Samples
from p2pfrl.learning.distillation import Distillation
from p2pfrl.learning.learners.base import State, Task
from p2pfrl.learning.networks import ACTIVATIONS, Network
from p2pfrl.learning.optimizers import SGD, Adam, Factors, Optimizer
from p2pfrl.learning.policies import Policy

if TYPE_CHECKING:
    import torch

    _Views = tuple[torch.Tensor, torch.Tensor]
else:
    torch = LazyModule("torch")


class DeviceDescent(Descent):
    """Takes the steps of a plan on a device; what they compute is what `Descent` says.

    The result of an agent depends on the batch in its last bits, where the device's products of
    matrices do.

    Args:
        network: dense layers.
        policy: what the network's head means.
        optimizer: Adam or SGD.
        plan: epochs, minibatches and loss.
        task: without a correction of gradients.
        distillation: None.
        device: of torch, by name.

    Raises:
        ScenarioError: there is no code for one of them.
    """

    def __init__(
        self,
        network: Network,
        policy: Policy,
        optimizer: Optimizer,
        plan: Plan,
        task: Task,
        distillation: Distillation | None = None,
        *,
        device: str,
    ) -> None:
        super().__init__(network, policy, optimizer, plan, task, distillation)
        if (what := _lacking(network, optimizer, plan, task, distillation)) is not None:
            raise ScenarioError([f"compute.device: {device!r} has no code for {what}; use 'cpu'"])
        self._device = torch.device(device)

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
        plan, (b, size, _) = self.plan, packed.shape
        theta, samples = self._there(rows), self._there(packed)
        names = (*self.optimizer.moments, *self.optimizer.counts)
        own = {name: self._there(state[name]) for name in names}
        rates = self._there(np.ones(b) if factors is None else factors).to(theta.dtype)
        step = self._step(own, rates[:, None])
        agents = torch.arange(b, device=self._device)[:, None]
        units = plan.sequences or size
        minibatches = min(plan.minibatches, units)
        total = torch.zeros(b, device=self._device)
        for _ in range(plan.epochs):
            drawn = self._drawn(streams, size)
            order = None if drawn is None else self._there(drawn)
            edges = (size * part // minibatches for part in range(minibatches + 1))
            for first, last in pairwise(edges):
                place = slice(first, last)
                chosen = samples[:, place] if order is None else samples[agents, order[:, place]]
                loss, gradient = self._slope(theta, chosen.transpose(1, 2).contiguous())
                total += loss
                self._bound(gradient)
                step(theta, gradient)
        rows[:] = self._back(theta)
        for name, values in own.items():
            state[name][:] = self._back(values)
        return self._back(total).astype(np.float64) / (plan.epochs * minibatches)

    def _there(self, values: NDArray[np.generic]) -> torch.Tensor:
        """Return an array on the device."""
        return torch.from_numpy(np.ascontiguousarray(values)).to(self._device, copy=True)

    def _back(self, values: torch.Tensor) -> Vector:
        """Return what is on the device as an array."""
        found: Vector = values.cpu().numpy()
        return found

    def _slope(
        self, theta: torch.Tensor, columns: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return loss `(b,)` and gradient `(b, stride)` of a minibatch `(b, features, B)`."""
        k, w = self.policy.outputs, self.policy.width
        o, size = columns.shape[1] - w - 3, columns.shape[2]
        advantage = columns[:, o + w + 1]
        if self.plan.norm_adv and size > 1:
            mean = advantage.mean(dim=1, keepdim=True)
            spread = advantage.std(dim=1, keepdim=True, correction=0)
            advantage = (advantage - mean) / (spread + 1e-8)
        leaf = theta.detach().requires_grad_()
        out = self._forward(leaf, columns[:, :o])
        found = Samples(
            self.policy.legal(out[:, :k], columns[:, :o]),
            cast("torch.Tensor", self.network.log_std(cast("Vector", leaf))),
            out[:, k] if self.network.has_critic else None,
            columns[:, o : o + w],
            columns[:, o + w],
            advantage,
            columns[:, o + w + 2],
        )
        loss = self.plan.loss(self.policy, found)
        (gradient,) = torch.autograd.grad(loss.sum(), leaf)
        return loss.detach(), gradient

    def _forward(self, rows: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
        """Return the outputs `(b, outputs, B)` of all chains."""
        is_relu, found = self.network.activation == ACTIVATIONS["relu"], list[torch.Tensor]()
        for chain in self.network.chains:
            h = x[:, : chain.layers[0].inputs]
            for depth, layer in enumerate(chain.layers):
                weight, bias = cast("_Views", layer.views(cast("Vector", rows)))
                h = torch.baddbmm(bias, weight, h)
                if depth < len(chain.layers) - 1:
                    h = torch.relu(h) if is_relu else torch.tanh(h)
            found.append(h)
        return torch.cat(found, dim=1)

    def _bound(self, gradient: torch.Tensor) -> None:
        """Scale rows to a norm of at most max_grad_norm, in place."""
        if self.plan.max_grad_norm:
            norm = gradient.norm(dim=1, keepdim=True)
            gradient *= (self.plan.max_grad_norm / (norm + 1e-6)).clamp(max=1.0)

    def _step(
        self, own: dict[str, torch.Tensor], rates: torch.Tensor
    ) -> Callable[[torch.Tensor, torch.Tensor], None]:
        """Return a function (parameters, gradient) that takes one step in place.

        Args:
            own: the optimizer's arrays on the device.
            rates: `(b, 1)` factors of the learning rate.
        """
        rule = self.optimizer
        if isinstance(rule, SGD):
            lr = rates * rule.lr

            def descend(theta: torch.Tensor, gradient: torch.Tensor) -> None:
                theta -= lr * gradient

            return descend
        assert isinstance(rule, Adam)
        m, v, counts = (own[name] for name in (*rule.moments, *rule.counts))
        (b1, b2), eps, lr = rule.betas, rule.eps, rates * rule.lr

        def adam(theta: torch.Tensor, gradient: torch.Tensor) -> None:
            counts.add_(1)
            m.lerp_(gradient, 1 - b1)
            v.mul_(b2).addcmul_(gradient, gradient, value=1 - b2)
            first = 1 - torch.pow(b1, counts)[:, None]
            second = 1 - torch.pow(b2, counts)[:, None]
            theta -= lr / first * m / ((v / second).sqrt() + eps)

        return adam


def available(device: str) -> str:
    """Return the device, if torch has it here.

    Raises:
        ScenarioError: it has not.
    """
    if device == "cuda" and not torch.cuda.is_available():
        reason = "torch sees no GPU here; use 'cpu' or 'auto', or install torch with CUDA"
        raise ScenarioError([f"compute.device: 'cuda' cannot be used: {reason}"])
    return device


def _lacking(
    network: Network,
    optimizer: Optimizer,
    plan: Plan,
    task: Task,
    distillation: Distillation | None,
) -> str | None:
    """Return for what there is no code, in words; None: there is for all that is needed."""
    if type(network) is not Network or network.encodes:
        return "networks other than dense layers"
    if not isinstance(optimizer, Adam | SGD):
        return f"optimizer {type(optimizer).__name__.lower()}"
    if task.correction.bends or task.correction.guided_by is not None:
        return "corrections of gradients"
    if distillation is not None or plan.normalizer is not None or plan.reward_norm is not None:
        return "distillation and normalization"
    return None
