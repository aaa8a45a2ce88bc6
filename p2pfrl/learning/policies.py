"""Policies as distributions over actions, sampled by numpy and differentiated by torch.

A head's outputs are `(b, k, B)`, features first. Sums over k and means over B stay within a row;
the elementwise functions used here give the same bits at any position (torch's exp and log_softmax
do, sigmoid and softplus do not).
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Protocol

import numpy as np
from numpy.typing import NDArray

from p2pfrl.core.lazy import LazyModule
from p2pfrl.core.parameters import Vector
from p2pfrl.core.rng import Streams
from p2pfrl.learning.environments.base import Spec

if TYPE_CHECKING:
    import torch
else:
    torch = LazyModule("torch")

_BELOW_ONE = np.nextafter(np.float32(1.0), np.float32(0.0))
_HALF_LOG_2PI = 0.5 * math.log(2.0 * math.pi)


class Policy(Protocol):
    """A family of distributions over actions.

    Attributes:
        outputs: numbers k that the actor's head gives.
        width: numbers that store one action.
        has_log_std: whether the actor has log standard deviations beside its head.
    """

    outputs: int
    width: int
    has_log_std: bool

    def noise(self, streams: Streams, steps: int, instances: int) -> Vector:
        """Return the random numbers of a rollout, `(b, steps, width, instances)`."""

    def sample(self, head: Vector, log_std: Vector, noise: Vector) -> Vector:
        """Return actions `(b, width, m)`, given outputs `(b, k, m)`, log std `(b, k)` and noise."""

    def greedy(self, head: Vector) -> Vector:
        """Return the most likely actions `(b, width, m)`."""

    def to_environment(self, action: Vector) -> NDArray[np.generic]:
        """Return the environment's actions: `(b, m)` integers or `(b, m, a)` in bounds."""

    def log_prob(
        self, head: torch.Tensor, log_std: torch.Tensor, action: torch.Tensor
    ) -> torch.Tensor:
        """Return log pi(a|s) `(b, B)` of `action` `(b, width, B)`."""

    def entropy(self, head: torch.Tensor, log_std: torch.Tensor) -> torch.Tensor:
        """Return the entropy `(b, B)`."""

    def divergence(
        self, head: Vector, log_std: Vector, other: Vector, other_log_std: Vector
    ) -> Vector:
        """Return KL(pi || other) `(b, B)`, in float64."""

    def kl(
        self,
        head: torch.Tensor,
        log_std: torch.Tensor,
        other: torch.Tensor,
        other_log_std: torch.Tensor,
    ) -> torch.Tensor:
        """Return KL(pi || other) `(b, B)`, to be differentiated."""

    def curvature(self, head: Vector, log_std: Vector, change: Vector) -> Vector:
        """Return the Fisher information of each sample's head times its change, `(b, k, B)`."""


class Categorical:
    """Discrete actions: pi(a|s) = softmax(head)_a."""

    width = 1
    has_log_std = False

    def __init__(self, actions: int) -> None:
        self.outputs = actions

    def noise(self, streams: Streams, steps: int, instances: int) -> Vector:
        """Return uniform numbers below 1, in float32 too."""
        return np.minimum(streams.uniform(steps, 1, instances).astype(np.float32), _BELOW_ONE)

    def sample(self, head: Vector, log_std: Vector, noise: Vector) -> Vector:
        """Return the number of actions with a cumulated probability up to the uniform number."""
        weights = np.exp(head - head.max(axis=1, keepdims=True))
        cumulated = np.add.accumulate(weights, axis=1)
        action = (cumulated[:, :-1] <= noise * cumulated[:, -1:]).sum(axis=1, keepdims=True)
        result: Vector = action.astype(head.dtype)
        return result

    def greedy(self, head: Vector) -> Vector:
        """Return the argmax, the first where several are equal."""
        action: Vector = head.argmax(axis=1, keepdims=True).astype(head.dtype)
        return action

    def to_environment(self, action: Vector) -> NDArray[np.generic]:
        """Return the actions as integers `(b, m)`."""
        return action[:, 0].astype(np.int64)

    def log_prob(
        self, head: torch.Tensor, log_std: torch.Tensor, action: torch.Tensor
    ) -> torch.Tensor:
        """Return the entry of log softmax that belongs to the action."""
        return torch.log_softmax(head, dim=1).gather(1, action.long()).squeeze(1)

    def entropy(self, head: torch.Tensor, log_std: torch.Tensor) -> torch.Tensor:
        """Return -sum_a pi log pi."""
        log_pi = torch.log_softmax(head, dim=1)
        return -(log_pi.exp() * log_pi).sum(dim=1)

    def divergence(
        self, head: Vector, log_std: Vector, other: Vector, other_log_std: Vector
    ) -> Vector:
        """Return sum_a pi (log pi - log other)."""
        log_pi, log_other = _log_softmax(head), _log_softmax(other)
        kl: Vector = (np.exp(log_pi) * (log_pi - log_other)).sum(axis=1)
        return kl

    def kl(
        self,
        head: torch.Tensor,
        log_std: torch.Tensor,
        other: torch.Tensor,
        other_log_std: torch.Tensor,
    ) -> torch.Tensor:
        """Return sum_a pi (log pi - log other)."""
        log_pi, log_other = torch.log_softmax(head, dim=1), torch.log_softmax(other, dim=1)
        return (log_pi.exp() * (log_pi - log_other)).sum(dim=1)

    def curvature(self, head: Vector, log_std: Vector, change: Vector) -> Vector:
        """Return (diag pi - pi pi') times the change."""
        pi = np.exp(_log_softmax(head)).astype(head.dtype)
        out: Vector = pi * (change - (pi * change).sum(axis=1, keepdims=True))
        return out


class Gaussian:
    """Continuous actions with distribution N(head, exp(2 log_std)) per coordinate.

    Actions are clipped to the bounds for the environment alone.
    """

    has_log_std = True

    def __init__(self, low: tuple[float, ...], high: tuple[float, ...]) -> None:
        self.outputs = self.width = len(low)
        self._low = np.array(low, dtype=np.float32)
        self._high = np.array(high, dtype=np.float32)

    def noise(self, streams: Streams, steps: int, instances: int) -> Vector:
        """Return standard normal numbers `(b, steps, width, instances)`."""
        return streams.normal(steps, self.width, instances).astype(np.float32)

    def sample(self, head: Vector, log_std: Vector, noise: Vector) -> Vector:
        """Return mean + std * noise."""
        action: Vector = head + np.exp(log_std)[:, :, None] * noise
        return action

    def greedy(self, head: Vector) -> Vector:
        """Return the mean."""
        return head.copy()

    def to_environment(self, action: Vector) -> NDArray[np.generic]:
        """Return the action clipped to the bounds, the coordinate last."""
        return np.clip(
            np.ascontiguousarray(action.transpose(0, 2, 1), dtype=np.float32), self._low, self._high
        )

    def log_prob(
        self, head: torch.Tensor, log_std: torch.Tensor, action: torch.Tensor
    ) -> torch.Tensor:
        """Return -sum_j (z_j^2 / 2 + log std + log(2 pi) / 2), z = (a - mean) / std."""
        z = (action - head) * torch.exp(-log_std)[:, :, None]
        return -(0.5 * z.square() + (log_std + _HALF_LOG_2PI)[:, :, None]).sum(dim=1)

    def entropy(self, head: torch.Tensor, log_std: torch.Tensor) -> torch.Tensor:
        """Return sum_j (log std + log(2 pi e) / 2), the same for every sample."""
        entropy = (log_std + (_HALF_LOG_2PI + 0.5)).sum(dim=1, keepdim=True)
        return entropy.expand(-1, head.shape[2])

    def divergence(
        self, head: Vector, log_std: Vector, other: Vector, other_log_std: Vector
    ) -> Vector:
        """Return sum_j (log(s'/s) + (s^2 + (mean - mean')^2) / (2 s'^2) - 1/2)."""
        mean, mean_other = head.astype(np.float64), other.astype(np.float64)
        log_s, log_o = (
            log_std.astype(np.float64)[:, :, None],
            other_log_std.astype(np.float64)[:, :, None],
        )
        spread = (np.exp(2.0 * log_s) + np.square(mean - mean_other)) * np.exp(-2.0 * log_o)
        kl: Vector = (log_o - log_s + 0.5 * spread - 0.5).sum(axis=1)
        return kl

    def kl(
        self,
        head: torch.Tensor,
        log_std: torch.Tensor,
        other: torch.Tensor,
        other_log_std: torch.Tensor,
    ) -> torch.Tensor:
        """Return sum_j (log(s'/s) + (s^2 + (mean - mean')^2) / (2 s'^2) - 1/2)."""
        log_s, log_o = log_std[:, :, None], other_log_std[:, :, None]
        spread = ((2.0 * log_s).exp() + (head - other).square()) * (-2.0 * log_o).exp()
        return (log_o - log_s + 0.5 * spread - 0.5).sum(dim=1)

    def curvature(self, head: Vector, log_std: Vector, change: Vector) -> Vector:
        """Return the change over the variances."""
        out: Vector = change * np.exp(-2.0 * log_std)[:, :, None]
        return out


def policy_of(spec: Spec) -> Policy:
    """Return the policy that an environment's actions call for."""
    return (
        Categorical(spec.actions) if spec.actions else Gaussian(spec.action_low, spec.action_high)
    )


def _log_softmax(head: Vector) -> Vector:
    z = head.astype(np.float64)
    z -= z.max(axis=1, keepdims=True)
    out: Vector = z - np.log(np.exp(z).sum(axis=1, keepdims=True))
    return out
