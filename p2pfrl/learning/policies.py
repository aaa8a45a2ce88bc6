"""Policies as distributions over actions, sampled by numpy and differentiated by torch.

A head's outputs are `(b, k, B)`, features first. Sums over k and means over B stay within a row;
the elementwise functions used here give the same bits at any position (torch's exp and log_softmax
do, sigmoid and softplus do not).
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import accumulate, pairwise
from typing import TYPE_CHECKING, Protocol, TypeVar

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

_FORBIDDEN = 1e9
"""Minus the logit of an action that the mask forbids: its probability is exactly 0 in float32."""
_BELOW_ONE = np.nextafter(np.float32(1.0), np.float32(0.0))
_HALF_LOG_2PI = 0.5 * math.log(2.0 * math.pi)
Numbers = TypeVar("Numbers", Vector, "torch.Tensor")


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

    def legal(self, head: Numbers, obs: Numbers) -> Numbers:
        """Return the head `(b, k, B)` for observations `(b, o, B)`, without forbidden actions.

        The other functions take a head that was restricted so.
        """

    def sample(self, head: Vector, log_std: Vector, noise: Vector) -> Vector:
        """Return actions `(b, width, m)`, given outputs `(b, k, m)`, log std `(b, k)` and noise."""

    def greedy(self, head: Vector) -> Vector:
        """Return the most likely actions `(b, width, m)`."""

    def to_environment(self, action: Vector) -> NDArray[np.generic]:
        """Return the environment's actions, as `Environment.step` takes them."""

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


def without_forbidden(values: Numbers, obs: Numbers) -> Numbers:
    """Return values of actions `(b, k, B)`; those that the mask forbids are -1e9.

    Args:
        values: logits or action values.
        obs: `(b, o, B)`; its last k numbers are the mask.
    """
    mask = obs[:, -values.shape[1] :]
    return values * mask + (mask - 1.0) * _FORBIDDEN


class _Discrete:
    """Discrete choices, drawn by one uniform number each.

    Attributes:
        choices: how many actions each choice has.

    Args:
        outputs: logits of all choices.
        width: number of choices.
        is_masked: whether observations end with a mask, of all choices one after the other.
    """

    has_log_std = False
    choices: tuple[int, ...]

    def __init__(self, outputs: int, width: int, *, is_masked: bool) -> None:
        self.outputs, self.width = outputs, width
        self.is_masked = is_masked

    def legal(self, head: Numbers, obs: Numbers) -> Numbers:
        """Return the head with a logit of -1e9 where the mask forbids an action.

        Huang, Ontañón, A closer look at invalid action masking in policy gradient algorithms,
        FLAIRS 2022, arXiv 2006.14171.
        """
        return without_forbidden(head, obs) if self.is_masked else head

    def noise(self, streams: Streams, steps: int, instances: int) -> Vector:
        """Return uniform numbers below 1, in float32 too, one for each choice."""
        uniform = streams.uniform(steps, self.width, instances)
        return np.minimum(uniform.astype(np.float32), _BELOW_ONE)


class Categorical(_Discrete):
    """Discrete actions: pi(a|s) = softmax(head)_a.

    Args:
        actions: how many there are.
        is_masked: whether observations end with a mask.
    """

    def __init__(self, actions: int, *, is_masked: bool = False) -> None:
        super().__init__(actions, 1, is_masked=is_masked)
        self.choices = (actions,)

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
        axis = 1
        if head.shape[2] > 1:  # numpy then adds long rows, not a few numbers at a time
            axis = 0
            head, other = (np.ascontiguousarray(own.transpose(1, 0, 2)) for own in (head, other))
        log_pi, log_other = _log_softmax(head, axis), _log_softmax(other, axis)
        kl: Vector = (np.exp(log_pi) * (log_pi - log_other)).sum(axis=axis)
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


class Categoricals(_Discrete):
    """Several discrete choices taken together, independent given the observation.

    pi(a|s) = prod_h softmax(head_h)_(a_h), head_h being the outputs of choice h.

    Args:
        heads: how many actions each choice has.
        is_masked: whether observations end with a mask, of all choices one after the other.
    """

    def __init__(self, heads: tuple[int, ...], *, is_masked: bool = False) -> None:
        super().__init__(sum(heads), len(heads), is_masked=is_masked)
        self.choices = heads
        self._parts = [Categorical(actions) for actions in heads]
        self._slices = [slice(*ends) for ends in pairwise(accumulate(heads, initial=0))]

    def sample(self, head: Vector, log_std: Vector, noise: Vector) -> Vector:
        """Return the action of each choice, as `Categorical` does."""
        chosen = [
            part.sample(head[:, rows], log_std, noise[:, h : h + 1])
            for h, (part, rows) in enumerate(self._each())
        ]
        return np.concatenate(chosen, axis=1)

    def greedy(self, head: Vector) -> Vector:
        """Return the argmax of each choice."""
        return np.concatenate([part.greedy(head[:, rows]) for part, rows in self._each()], axis=1)

    def to_environment(self, action: Vector) -> NDArray[np.generic]:
        """Return the actions as integers `(b, m, heads)`."""
        return np.ascontiguousarray(action.transpose(0, 2, 1)).astype(np.int64)

    def log_prob(
        self, head: torch.Tensor, log_std: torch.Tensor, action: torch.Tensor
    ) -> torch.Tensor:
        """Return the sum of the choices' log-probabilities."""
        terms = [
            part.log_prob(head[:, rows], log_std, action[:, h : h + 1])
            for h, (part, rows) in enumerate(self._each())
        ]
        return torch.stack(terms).sum(dim=0)

    def entropy(self, head: torch.Tensor, log_std: torch.Tensor) -> torch.Tensor:
        """Return the sum of the choices' entropies."""
        terms = [part.entropy(head[:, rows], log_std) for part, rows in self._each()]
        return torch.stack(terms).sum(dim=0)

    def divergence(
        self, head: Vector, log_std: Vector, other: Vector, other_log_std: Vector
    ) -> Vector:
        """Return the sum of the choices' divergences."""
        terms = [
            part.divergence(head[:, rows], log_std, other[:, rows], other_log_std)
            for part, rows in self._each()
        ]
        kl: Vector = np.add.reduce(terms)
        return kl

    def kl(
        self,
        head: torch.Tensor,
        log_std: torch.Tensor,
        other: torch.Tensor,
        other_log_std: torch.Tensor,
    ) -> torch.Tensor:
        """Return the sum of the choices' divergences."""
        terms = [
            part.kl(head[:, rows], log_std, other[:, rows], other_log_std)
            for part, rows in self._each()
        ]
        return torch.stack(terms).sum(dim=0)

    def curvature(self, head: Vector, log_std: Vector, change: Vector) -> Vector:
        """Return the change of each choice times its own Fisher information."""
        return np.concatenate(
            [
                part.curvature(head[:, rows], log_std, change[:, rows])
                for part, rows in self._each()
            ],
            axis=1,
        )

    def _each(self) -> Iterator[tuple[Categorical, slice]]:
        return zip(self._parts, self._slices, strict=True)


class Gaussian:
    """Continuous actions with distribution N(head, exp(2 log_std)) per coordinate.

    Actions are clipped to the bounds, where there are any, for the environment alone.

    Attributes:
        low, high: the bounds `(width,)`.
    """

    has_log_std = True

    def __init__(self, low: tuple[float, ...], high: tuple[float, ...]) -> None:
        self.outputs = self.width = len(low)
        self.low = np.array(low, dtype=np.float32)
        self.high = np.array(high, dtype=np.float32)

    def legal(self, head: Numbers, obs: Numbers) -> Numbers:
        """Return the head: every number is an action."""
        return head

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
            np.ascontiguousarray(action.transpose(0, 2, 1), dtype=np.float32), self.low, self.high
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
    if spec.heads:
        return Categoricals(spec.heads, is_masked=spec.is_masked)
    if spec.actions:
        return Categorical(spec.actions, is_masked=spec.is_masked)
    return Gaussian(spec.action_low, spec.action_high)


def _log_softmax(head: Vector, axis: int = 1) -> Vector:
    z = head.astype(np.float64)
    z -= z.max(axis=axis, keepdims=True)
    out: Vector = z - np.log(np.exp(z).sum(axis=axis, keepdims=True))
    return out
