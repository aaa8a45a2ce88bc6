"""Minibatch descent: optimizer steps from samples and a loss, for a batch of agents at once."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from p2pfrl.core.errors import ScenarioError
from p2pfrl.core.lazy import LazyModule
from p2pfrl.core.parameters import Vector, aligned_zeros
from p2pfrl.core.rng import Streams
from p2pfrl.learning.distillation import Distillation
from p2pfrl.learning.learners.base import State, Task
from p2pfrl.learning.lr_schedules import Constant, LRSchedule
from p2pfrl.learning.networks import Network
from p2pfrl.learning.normalization import Normalizer, RewardScale
from p2pfrl.learning.optimizers import Factors, Optimizer
from p2pfrl.learning.policies import Policy
from p2pfrl.learning.rollout import Rollout

if TYPE_CHECKING:
    import torch
else:
    torch = LazyModule("torch")


_HEAVIEST = 10.0
"""The most that an episode counts for a policy that did not act in it."""


@dataclass(frozen=True)
class Samples:
    """A minibatch of every agent, as torch sees it: B samples, features first.

    Attributes:
        head: `(b, k, B)` the actor's outputs now.
        log_std: `(b, k)` log standard deviations, `(b, 0)` for discrete actions.
        value: `(b, B)` the critic's output now; None where there is no critic.
        action: `(b, width, B)`.
        log_prob: `(b, B)` log pi(a|s) when the action was taken.
        advantage: `(b, B)`.
        target: `(b, B)` what the value should be.
    """

    head: torch.Tensor
    log_std: torch.Tensor
    value: torch.Tensor | None
    action: torch.Tensor
    log_prob: torch.Tensor
    advantage: torch.Tensor
    target: torch.Tensor


Targets = Callable[[Rollout], tuple[Vector, Vector]]
Loss = Callable[[Policy, Samples], "torch.Tensor"]


@dataclass(frozen=True)
class Formula:
    """L = E[-gain + value (V - R)^2 / 2 - entropy H], for engines that compute it themselves.

    Attributes:
        clip: gain = min(r A, clip(r, 1 - c, 1 + c) A) with r = pi / pi_old; None: gain = log pi A.
        value: weight of the value loss.
        entropy: weight of the entropy.
    """

    clip: float | None
    value: float
    entropy: float


@dataclass(frozen=True)
class Plan:
    """The use of a rollout by an update.

    Attributes:
        steps: of each instance per update.
        epochs: passes over the rollout.
        minibatches: per pass; with one, samples keep their order. Their sizes differ by one sample
            at most, and fewer samples than minibatches make one minibatch each.
        max_grad_norm: bound on the norm of an agent's gradient, 0 for none.
        norm_adv: normalize advantages per minibatch; one of a single sample stays as it is.
        targets: (advantages, value targets), `(b, steps, m)` each, of a rollout.
        loss: `(b,)` of a minibatch.
        episodes: stop an update's rollout after so many episodes; `steps` only bounds it then.
            Needs one instance.
        is_weighted: the loss itself weighs samples by pi / pi_old, so that it holds near the
            parameters of the rollout.
        lr_schedule: factor of the learning rate in an agent's updates.
        normalizer: scales observations; None: nothing does.
        reward_norm: scales rewards, before `targets`; None: nothing does.
        sequences: how many instances there are whose steps stay together and in order, because
            networks have a memory; 0: samples are shuffled.
        image: shape of the images that convolutions encode; None: there are none.
        actor_inputs: how many numbers, the first of an observation, the actor sees; 0: all.
        formula: what `loss` computes; None: only `loss` says it.
    """

    steps: int
    epochs: int
    minibatches: int
    max_grad_norm: float
    norm_adv: bool
    targets: Targets
    loss: Loss
    episodes: int | None = None
    is_weighted: bool = False
    lr_schedule: LRSchedule = field(default_factory=Constant)
    normalizer: Normalizer | None = None
    reward_norm: RewardScale | None = None
    image: tuple[int, ...] | None = None
    actor_inputs: int = 0
    sequences: int = 0
    formula: Formula | None = None


class Descent:
    """Takes the steps of a plan.

    Args:
        network: forward and backward passes.
        policy: what the network's head means.
        optimizer: of all parameters.
        plan: epochs, minibatches and loss.
        task: its correction bends every gradient; with `gradient_only` no step is taken.
        distillation: what else every gradient learns from.
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
        self.network = network
        self.policy = policy
        self.optimizer = optimizer
        self.plan = plan
        self._adjust = task.correction.adjust if task.correction.bends else None
        self._weight = task.correction.weight
        self._guided_by = task.correction.guided_by if self._weight else None
        self._distillation = distillation
        if task.gradient_only and plan.epochs * plan.minibatches != 1:
            raise ScenarioError(
                [
                    "exchange.payload: 'gradient' is that of one step; take 1 pass over 1 minibatch "
                    f"(got {plan.epochs} and {plan.minibatches})"
                ]
            )

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
        """Take the minibatch steps on `rows` and `state`, in place; return the mean loss `(b,)`.

        Args:
            rows: `(b, stride)` parameters, aligned.
            state: with the optimizer's arrays.
            packed: `(b, size, features)` samples as (obs, action, log prob, advantage, value
                target).
            streams: for the order of the samples.
            episodes: `(b, size)` which episode each sample is of, where the correction asks for
                gradients elsewhere.
            factors: `(b,)` of the learning rate; None: 1.
            layers: of the samples at `rows`, from the engine that gathered them; only the native
                engine keeps them, and uses them here.
        """
        plan, (b, size, _) = self.plan, packed.shape
        gradient = self.network.layout.zeros(b)
        step = self._bind(rows, gradient, state, factors)
        units = plan.sequences or size
        minibatches = min(plan.minibatches, units)
        total = np.zeros(b)
        guide = None
        if self._guided_by is not None:
            guide = self.network.layout.zeros(b)
            guide[:] = state[self._guided_by]
        for _ in range(plan.epochs):
            order = self._drawn(streams, size)
            for columns in self._minibatches(packed, order, minibatches):
                out = aligned_zeros((b, self.network.outputs, columns.shape[2]), rows.dtype)
                total += self._gradient(rows, columns, out, gradient, guide)
                if self._distillation is not None:
                    total += self._distillation.add(rows, state, gradient)
                if self._adjust is not None:
                    self._adjust(rows, gradient, state, partial(self._again, columns, episodes))
                    if plan.normalizer is not None:
                        gradient[:, plan.normalizer.columns] = 0.0
                    if self.network.fixed.size:
                        gradient[:, self.network.fixed] = 0.0
                self._clip(gradient)
                step()
        total /= plan.epochs * minibatches
        return total

    def _drawn(self, streams: Streams, size: int) -> NDArray[np.int64] | None:
        """Return the order of an epoch's samples `(b, size)`, None for one minibatch of all."""
        plan = self.plan
        if plan.minibatches <= 1:
            return None
        units = plan.sequences or size
        order = streams.permutation(units)
        if not plan.sequences:
            return order
        return in_order(order, size // units, min(plan.minibatches, units))

    def _bind(
        self, rows: Vector, gradient: Vector, state: State, factors: Factors | None
    ) -> Callable[[], None]:
        """Return a function that takes one step on these arrays."""
        return self.optimizer.bind(rows, gradient, state, factors)

    def _minibatches(
        self, packed: Vector, order: NDArray[np.int64] | None, count: int
    ) -> Iterator[Vector]:
        """Yield one epoch's minibatches `(b, features, B)`, every one contiguous."""
        b, size, features = packed.shape
        if order is not None:
            packed = packed[np.arange(b)[:, None], order]
        for first, last in pairwise(size * part // count for part in range(count + 1)):
            columns = aligned_zeros((b, features, last - first), packed.dtype)
            columns[:] = packed[:, first:last].transpose(0, 2, 1)
            # One advantage less its mean is 0: the actor would never learn.
            if self.plan.norm_adv and last - first > 1:
                advantage = columns[:, -2]
                advantage -= advantage.mean(axis=-1, keepdims=True)
                advantage /= advantage.std(axis=-1, keepdims=True) + np.float32(1e-8)
            yield columns

    def _gradient(
        self,
        rows: Vector,
        columns: Vector,
        out: Vector,
        gradient: Vector,
        guide: Vector | None = None,
    ) -> Vector:
        """Write the loss's gradient into `gradient`; return the loss `(b,)`.

        Autograd sees the network's outputs only.
        """
        k, w = self.policy.outputs, self.policy.width
        o = columns.shape[1] - w - 3
        x = columns[:, :o]
        shown = None if guide is None else self._head(guide, x)
        self.network.forward(rows, x, out)
        leaf = torch.from_numpy(out).requires_grad_()
        log_std = torch.from_numpy(self.network.log_std(rows).copy()).requires_grad_()
        data = torch.from_numpy(columns)
        samples = Samples(
            self.policy.legal(leaf[:, :k], data[:, :o]),
            log_std,
            leaf[:, k] if self.network.has_critic else None,
            data[:, o : o + w],
            data[:, o + w],
            data[:, o + w + 1],
            data[:, o + w + 2],
        )
        loss = self.plan.loss(self.policy, samples)
        if shown is not None:
            loss = loss + self._weight * self.policy.kl(*shown, samples.head, samples.log_std).mean(
                dim=1
            )
        loss.sum().backward()  # type: ignore[no-untyped-call]
        assert leaf.grad is not None
        self.network.backward(rows, x, leaf.grad.numpy(), gradient)
        if log_std.grad is not None:
            self.network.log_std(gradient)[:] = log_std.grad.numpy()
        result: Vector = loss.detach().numpy()
        return result

    def _head(self, rows: Vector, x: Vector) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the actor's outputs and log standard deviations at other parameters."""
        out = np.empty((len(rows), self.network.outputs, x.shape[2]), dtype=rows.dtype)
        self.network.forward(rows, x, out, self.network.chains[:1])
        head = self.policy.legal(out[:, : self.policy.outputs], x)
        return torch.from_numpy(head), torch.from_numpy(self.network.log_std(rows).copy())

    def _again(self, columns: Vector, episodes: NDArray[np.intp] | None, rows: Vector) -> Vector:
        """Return the gradient of the same samples at other parameters, a new array.

        Where the loss does not weigh samples itself, an episode counts by the product of pi /
        pi_old over its steps, at most `_HEAVIEST`: importance sampling, truncated as in Ionides, J.
        Comput. Graph. Stat. 17(2), 2008.
        """
        out = aligned_zeros((len(rows), self.network.outputs, columns.shape[2]), rows.dtype)
        if episodes is not None and not self.plan.is_weighted:
            columns = self._weighted(columns, episodes, rows, out)
        gradient = self.network.layout.zeros(len(rows))
        self._gradient(rows, columns, out, gradient)
        return gradient

    def _weighted(
        self, columns: Vector, episodes: NDArray[np.intp], rows: Vector, out: Vector
    ) -> Vector:
        """Return the samples with their advantages weighted for the policy of `rows`."""
        k, w = self.policy.outputs, self.policy.width
        o = columns.shape[1] - w - 3
        self.network.forward(rows, columns[:, :o], out)
        arrays = (
            np.ascontiguousarray(self.policy.legal(out[:, :k], columns[:, :o])),
            self.network.log_std(rows).copy(),
            columns[:, o : o + w],
        )
        with torch.no_grad():
            change = (
                self.policy.log_prob(*map(torch.from_numpy, arrays)).numpy() - columns[:, o + w]
            )
        weighted = columns.copy()
        for row, (ratio, episode) in enumerate(zip(change, episodes, strict=True)):
            total = np.bincount(episode, ratio)
            weighted[row, o + w + 1] *= np.exp(np.minimum(total, np.log(_HEAVIEST)))[episode]
        return weighted

    def _clip(self, gradient: Vector) -> None:
        """Scale rows to a norm of at most max_grad_norm, as torch.nn.utils.clip_grad_norm_."""
        if self.plan.max_grad_norm:
            norm = np.sqrt(np.matmul(gradient[:, None], gradient[:, :, None]))[:, 0]
            gradient *= np.minimum(
                self.plan.max_grad_norm / (norm + np.float32(1e-6)), np.float32(1.0)
            )


def in_order(order: NDArray[np.int64], steps: int, minibatches: int) -> NDArray[np.int64]:
    """Return the order of samples `(b, steps m)` whose minibatches have whole sequences.

    A minibatch has all steps of some instances, step by step.

    Args:
        order: `(b, m)` of the instances.
        steps: of each.
        minibatches: how many; it divides m.
    """
    b, m = order.shape
    parts = order.reshape(b, minibatches, 1, m // minibatches)
    samples: NDArray[np.int64] = (parts + m * np.arange(steps)[:, None]).reshape(b, -1)
    return samples
