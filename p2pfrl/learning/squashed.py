"""Actors with actions in [-1, 1]: a squashed Gaussian, and a deterministic one.

Arrays are features first, `(b, k, B)`. All functions are elementwise, but for sums over the few
coordinates of an action. The derivatives are written here, since they are short.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from p2pfrl.core.parameters import Vector

_LOWEST, _HIGHEST = -5.0, 2.0
_HALF_LOG_2PI = 0.5 * math.log(2.0 * math.pi)


@dataclass(frozen=True)
class Chosen:
    """Actions that an actor's outputs and noise gave.

    Attributes:
        action: `(b, a, B)` in [-1, 1].
        log_prob: `(b, B)` log pi(a|s); zeros where nothing depends on it.
    """

    action: Vector
    log_prob: Vector


class Method(Protocol):
    """What an actor's outputs mean, and what it maximizes.

    Noise is standard normal, `(b, a, B)`.

    Attributes:
        outputs: of the actor.
        temperature: weight of -log pi(a|s) beside the value; None: it is learned.
        entropy: what the mean of -log pi(a|s) should be, where the temperature is learned.
        has_target_actor: whether values of successors are those of the target actor's actions.
        policy_every: critics' steps to one step of the actor and of the targets.
    """

    outputs: int
    temperature: float | None
    entropy: float
    has_target_actor: bool
    policy_every: int

    def explore(self, head: Vector, noise: Vector) -> Vector:
        """Return actions `(b, a, B)` of training, in [-1, 1]."""

    def greedy(self, head: Vector) -> Vector:
        """Return actions `(b, a, B)` of evaluation, in [-1, 1]."""

    def follow(self, head: Vector, noise: Vector) -> Chosen:
        """Return the actions whose values count as the successors'."""

    def choose(self, head: Vector, noise: Vector) -> Chosen:
        """Return the actions that the actor's step improves."""

    def share(self, values: Vector) -> Vector:
        """Return what each critic's value `(b, 2, B)` counts in the actor's objective."""

    def slope(
        self, head: Vector, noise: Vector, action: Vector, ahead: Vector, alpha: Vector
    ) -> Vector:
        """Return the gradient of alpha log pi(a|s) - ahead a in the outputs, `(b, outputs, B)`.

        Args:
            head: the outputs.
            noise: that `choose` was given.
            action: that it returned.
            ahead: `(b, a, B)` the gradient of the value in the action, a constant.
            alpha: `(b, 1, 1)` temperatures.
        """


class Squashed:
    """a = tanh(u), u = mean + std N; the actor's outputs are means and, squashed, log std.

    log std = -5 + 3.5 (tanh(x) + 1) of the output x. log pi(a|s) = sum_j (log N(u_j) - log(1 -
    a_j^2)). Haarnoja et al., arXiv 1801.01290, appendix C.

    Args:
        actions: coordinates of an action.
        temperature: weight of -log pi(a|s); None: it is learned.
        entropy: what the mean of -log pi(a|s) should be.
    """

    has_target_actor, policy_every = False, 1

    def __init__(self, actions: int, temperature: float | None, entropy: float) -> None:
        self.outputs = 2 * actions
        self.temperature, self.entropy = temperature, entropy
        self._actions = actions

    def explore(self, head: Vector, noise: Vector) -> Vector:
        """Return actions drawn from the policy."""
        mean, _, std = self._parts(head)
        action: Vector = np.tanh(mean + std * noise)
        return action

    def greedy(self, head: Vector) -> Vector:
        """Return tanh(mean)."""
        action: Vector = np.tanh(head[:, : self._actions])
        return action

    def follow(self, head: Vector, noise: Vector) -> Chosen:
        """Return actions drawn from the policy, with their log probabilities."""
        return self.choose(head, noise)

    def choose(self, head: Vector, noise: Vector) -> Chosen:
        """Return actions drawn from the policy, with their log probabilities.

        log(1 - tanh(u)^2) = 2 (log 2 - u - log(1 + exp(-2 u))), which is exact for large u too.
        """
        mean, log_std, std = self._parts(head)
        u = mean + std * noise
        size = np.abs(u)
        squash = 2.0 * (np.float32(math.log(2.0)) - size - np.log1p(np.exp(-2.0 * size)))
        each = -0.5 * np.square(noise) - log_std - np.float32(_HALF_LOG_2PI) - squash
        return Chosen(np.tanh(u), each.sum(axis=1))

    def share(self, values: Vector) -> Vector:
        """Return 1 for the smaller value, 0 for the other."""
        is_first = values[:, 0] <= values[:, 1]
        return np.stack([is_first, ~is_first], axis=1).astype(values.dtype)

    def slope(
        self, head: Vector, noise: Vector, action: Vector, ahead: Vector, alpha: Vector
    ) -> Vector:
        """Return alpha d log pi - ahead da, in the outputs.

        d log pi / d mean = 2 a; d log pi / d log std = -1 + 2 a std N.
        """
        _, _, std = self._parts(head)
        spread = std * noise
        through = alpha * 2.0 * action - ahead * (1.0 - np.square(action))
        squashed = np.tanh(head[:, self._actions :])
        inner = np.float32(0.5 * (_HIGHEST - _LOWEST)) * (1.0 - np.square(squashed))
        out: Vector = np.concatenate([through, (through * spread - alpha) * inner], axis=1)
        return out

    def _parts(self, head: Vector) -> tuple[Vector, Vector, Vector]:
        """Return mean, log standard deviation and standard deviation."""
        half = np.float32(0.5 * (_HIGHEST - _LOWEST))
        log_std = np.float32(_LOWEST) + half * (np.tanh(head[:, self._actions :]) + 1.0)
        return head[:, : self._actions], log_std, np.exp(log_std)


class Bounded:
    """a = tanh(outputs), with noise in training.

    Args:
        actions: coordinates of an action.
        policy_every: critics' steps to one step of the actor and of the targets.
        exploration_noise: standard deviation of the noise on actions of training.
        policy_noise: standard deviation of the noise on the target actor's actions.
        noise_clip: bound on that noise.
    """

    has_target_actor, entropy = True, 0.0
    temperature: float | None = 0.0

    def __init__(
        self,
        actions: int,
        *,
        policy_every: int,
        exploration_noise: float,
        policy_noise: float,
        noise_clip: float,
    ) -> None:
        self.outputs, self.policy_every = actions, policy_every
        self._exploration = np.float32(exploration_noise)
        self._smoothing, self._bound = np.float32(policy_noise), np.float32(noise_clip)

    def explore(self, head: Vector, noise: Vector) -> Vector:
        """Return clip(tanh(outputs) + exploration_noise N, -1, 1)."""
        action: Vector = np.clip(np.tanh(head) + self._exploration * noise, -1.0, 1.0)
        return action

    def greedy(self, head: Vector) -> Vector:
        """Return tanh(outputs)."""
        action: Vector = np.tanh(head)
        return action

    def follow(self, head: Vector, noise: Vector) -> Chosen:
        """Return clip(tanh(outputs) + clip(policy_noise N), -1, 1)."""
        around = np.clip(self._smoothing * noise, -self._bound, self._bound)
        return self._chosen(np.clip(np.tanh(head) + around, -1.0, 1.0))

    def choose(self, head: Vector, noise: Vector) -> Chosen:
        """Return tanh(outputs)."""
        return self._chosen(np.tanh(head))

    def share(self, values: Vector) -> Vector:
        """Return 1 for the first critic, 0 for the second."""
        share = np.zeros_like(values)
        share[:, 0] = 1.0
        return share

    def slope(
        self, head: Vector, noise: Vector, action: Vector, ahead: Vector, alpha: Vector
    ) -> Vector:
        """Return -ahead (1 - a^2)."""
        out: Vector = -ahead * (1.0 - np.square(action))
        return out

    def _chosen(self, action: Vector) -> Chosen:
        return Chosen(action, np.zeros((len(action), action.shape[2]), dtype=action.dtype))
