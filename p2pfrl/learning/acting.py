"""Acting for learning: rollouts, and the samples that updates learn from."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from p2pfrl.core.lazy import LazyModule
from p2pfrl.core.parameters import Vector
from p2pfrl.learning.environments.base import Simulator
from p2pfrl.learning.environments.base import State as SimulatorState
from p2pfrl.learning.networks import Network
from p2pfrl.learning.policies import Policy
from p2pfrl.learning.rollout import Rollout, collect, explained_variance

if TYPE_CHECKING:
    import torch
else:
    torch = LazyModule("torch")

Targets = Callable[[Rollout], tuple[Vector, Vector]]
"""Rollout -> advantages and value targets, `(b, steps, m)` each."""


class Acting:
    """Gathers samples with numpy and torch.

    Attributes:
        network: of every agent.
        policy: what its outputs mean.
        simulator: the environments.
        targets: of a rollout.

    Args:
        network: of every agent.
        policy: what its outputs mean.
        simulator: the environments.
        targets: of a rollout.
    """

    def __init__(
        self, network: Network, policy: Policy, simulator: Simulator, targets: Targets
    ) -> None:
        self.network, self.policy = network, policy
        self.simulator, self.targets = simulator, targets

    def collect(
        self,
        rows: Vector,
        state: SimulatorState,
        *,
        seed: int,
        agents: Sequence[int],
        index: Sequence[int],
        steps: int,
        episodes: int | None = None,
    ) -> Rollout:
        """Act for `steps` steps with the policies in `rows`; see `rollout.collect`."""
        return collect(
            self.network,
            self.policy,
            self.simulator,
            rows,
            state,
            seed=seed,
            agents=agents,
            index=index,
            steps=steps,
            episodes=episodes,
        )

    def pack(self, rows: Vector, rollout: Rollout) -> Vector:
        """Return samples `(b, steps m, features)`: obs, action, log prob, advantage, target."""
        k = self.policy.outputs
        with torch.no_grad():
            head = self.policy.legal(rollout.out[:, :k], rollout.obs)
            arrays = (head, self.network.log_std(rows), rollout.action)
            log_prob = self.policy.log_prob(*map(torch.from_numpy, arrays)).numpy()
        b, _, size = rollout.obs.shape
        columns = [rollout.obs, rollout.action, log_prob[:, None]]
        columns += [target.reshape(b, 1, size) for target in self.targets(rollout)]
        packed = np.concatenate(columns, axis=1).transpose(0, 2, 1)
        return np.ascontiguousarray(packed, dtype=rows.dtype)

    def accuracy(self, rollout: Rollout, packed: Vector) -> NDArray[np.float64]:
        """Return how much of the variance of value targets the critic explains, `(b,)`."""
        target = packed[:, :, -1].astype(np.float64)
        return explained_variance(rollout.value.reshape(target.shape), target)
