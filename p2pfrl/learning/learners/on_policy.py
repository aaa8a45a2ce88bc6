"""What learners on fresh experience share: roll out, estimate, take minibatch steps; only loss and targets differ."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from p2pfrl.core.errors import ScenarioError
from p2pfrl.core.lazy import LazyModule
from p2pfrl.core.parameters import Vector, aligned_zeros
from p2pfrl.core.rng import Streams, generator
from p2pfrl.learning.environments.base import Simulator
from p2pfrl.learning.learners.base import Batch, Outcome, Stack, State, Task
from p2pfrl.learning.networks import Network
from p2pfrl.learning.optimizers import Optimizer
from p2pfrl.learning.policies import Policy, policy_of
from p2pfrl.learning.rollout import Rollout, collect

if TYPE_CHECKING:
    import torch
else:
    torch = LazyModule("torch")


@dataclass(frozen=True)
class Samples:
    """A minibatch of every agent, as torch sees it: B samples, features first.

    Attributes:
        head: `(b, k, B)` the actor's outputs now.
        log_std: `(b, k)` log standard deviations, `(b, 0)` for discrete actions.
        value: `(b, B)` the critic's output now.
        action: `(b, width, B)`.
        log_prob: `(b, B)` log pi(a|s) when the action was taken.
        advantage: `(b, B)`.
        target: `(b, B)` what the value should be.
    """

    head: torch.Tensor
    log_std: torch.Tensor
    value: torch.Tensor
    action: torch.Tensor
    log_prob: torch.Tensor
    advantage: torch.Tensor
    target: torch.Tensor


Targets = Callable[[Rollout], tuple[Vector, Vector]]
Loss = Callable[[Policy, Samples], "torch.Tensor"]


@dataclass(frozen=True)
class Plan:
    """How an update uses its rollout.

    Attributes:
        steps: of each instance per update.
        epochs: passes over the rollout.
        minibatches: per pass; with one, samples keep their order.
        max_grad_norm: bound on the norm of an agent's gradient, 0 for none.
        norm_adv: normalize advantages per minibatch.
        targets: (advantages, value targets), `(b, steps, m)` each, of a rollout.
        loss: `(b,)` of a minibatch.
    """

    steps: int
    epochs: int
    minibatches: int
    max_grad_norm: float
    norm_adv: bool
    targets: Targets
    loss: Loss


class OnPolicyStack(Stack):
    """A learner on fresh experience, bound to a task.

    Args:
        task: with a simulator.
        build: makes the network from (inputs, policy outputs, has log std).
        optimizer: of all parameters.
        plan: how an update uses its rollout.
    """

    chunk = 64

    def __init__(
        self, task: Task, build: Callable[[int, int, bool], Network], optimizer: Optimizer, plan: Plan
    ) -> None:
        if task.simulator is None:
            raise ScenarioError(["learner: this kind needs an environment; only quadratic has none"])
        self.simulator: Simulator = task.simulator
        self.task = task
        self.plan = plan
        self.optimizer = optimizer
        self.policy = policy_of(task.simulator.spec)
        self.network = build(task.simulator.spec.observation, self.policy.outputs, self.policy.has_log_std)
        self.layout = self.network.layout
        self.moments, self.counts = optimizer.moments, optimizer.counts
        self.min_steps = plan.steps * task.simulator.instances
        if self.min_steps % plan.minibatches:
            raise ScenarioError(
                [
                    f"learner.num_minibatches: must divide steps x instances = {self.min_steps}, got {plan.minibatches}",
                ]
            )

    def start(self, agents: Sequence[int], *, same: bool) -> Vector:
        """Return start parameters `(b, stride)`."""
        rows = self.layout.zeros(len(agents))
        if same:
            rows[:] = self.network.start(generator(self.task.seed, "start"))
            return rows
        for row, agent in zip(rows, agents, strict=True):
            row[:] = self.network.start(generator(self.task.seed, agent, "start"))
        return rows

    def init(self, agents: Sequence[int]) -> State:
        """Return the optimizer's moments and the environments, one row each. From here on torch has one thread."""
        torch.set_num_threads(1)
        return self.optimizer.init(self.layout, len(agents)) | self.simulator.init(agents)

    def update(self, batch: Batch) -> Outcome:
        """Roll out, then take epochs x minibatches optimizer steps."""
        rows, state = batch.parameters, batch.state
        own = (*self.moments, *self.counts)
        environment = {name: values for name, values in state.items() if name not in own}
        rollout = collect(
            self.network,
            self.policy,
            self.simulator,
            rows,
            environment,
            seed=self.task.seed,
            agents=batch.agents,
            index=batch.index,
            steps=self.plan.steps,
        )
        loss = self._learn(rows, {name: state[name] for name in own}, rollout, batch.agents, batch.index)
        steps = np.full(len(rows), self.min_steps, dtype=np.int64)
        return Outcome(rows, {**state, **environment}, steps, loss, rollout.returns, rollout.measures)

    def _learn(
        self, rows: Vector, moments: State, rollout: Rollout, agents: Sequence[int], index: Sequence[int]
    ) -> Vector:
        """Take the minibatch steps on `rows` and `moments` in place; return the mean loss `(b,)`."""
        plan, b = self.plan, len(rows)
        packed, size = self._pack(rows, rollout), rollout.obs.shape[2]
        gradient = self.layout.zeros(b)
        step = self.optimizer.bind(rows, gradient, moments)
        streams = Streams.of(self.task.seed, agents, "minibatch", index)
        out = aligned_zeros((b, self.network.outputs, size // plan.minibatches), rows.dtype)
        total = np.zeros(b)
        for _ in range(plan.epochs):
            order = streams.permutation(size) if plan.minibatches > 1 else None
            for columns in self._minibatches(packed, order):
                total += self._gradient(rows, columns, out, gradient)
                self._clip(gradient)
                step()
        return total / (plan.epochs * plan.minibatches)

    def _pack(self, rows: Vector, rollout: Rollout) -> Vector:
        """Return `(b, steps m, features)` rows of (obs, action, log prob, advantage, target), to be gathered together."""
        k = self.policy.outputs
        with torch.no_grad():
            arrays = (rollout.out[:, :k], self.network.log_std(rows), rollout.action)
            log_prob = self.policy.log_prob(*map(torch.from_numpy, arrays)).numpy()
        b, _, size = rollout.obs.shape
        columns = [rollout.obs, rollout.action, log_prob[:, None]]
        columns += [target.reshape(b, 1, size) for target in self.plan.targets(rollout)]
        packed = np.concatenate(columns, axis=1).transpose(0, 2, 1)
        return np.ascontiguousarray(packed, dtype=rows.dtype)

    def _minibatches(self, packed: Vector, order: np.ndarray[tuple[int, ...], np.dtype[np.int64]] | None) -> Vector:
        """Return one epoch's minibatches `(minibatches, b, features, B)`, every one contiguous."""
        b, size, features = packed.shape
        if order is not None:
            packed = packed[np.arange(b)[:, None], order]
        parts = packed.reshape(b, self.plan.minibatches, size // self.plan.minibatches, features)
        columns = aligned_zeros((parts.shape[1], b, features, parts.shape[2]), packed.dtype)
        columns[:] = parts.transpose(1, 0, 3, 2)
        if self.plan.norm_adv:
            advantage = columns[:, :, -2]
            advantage -= advantage.mean(axis=-1, keepdims=True)
            advantage /= advantage.std(axis=-1, keepdims=True) + np.float32(1e-8)
        return columns

    def _gradient(self, rows: Vector, columns: Vector, out: Vector, gradient: Vector) -> Vector:
        """Write the loss's gradient into `gradient`; return the loss `(b,)`. Autograd sees the outputs only."""
        o, k, w = self.simulator.spec.observation, self.policy.outputs, self.policy.width
        x = columns[:, :o]
        self.network.forward(rows, x, out)
        leaf = torch.from_numpy(out).requires_grad_()
        log_std = torch.from_numpy(self.network.log_std(rows).copy()).requires_grad_()
        data = torch.from_numpy(columns)
        samples = Samples(
            leaf[:, :k],
            log_std,
            leaf[:, k],
            data[:, o : o + w],
            data[:, o + w],
            data[:, o + w + 1],
            data[:, o + w + 2],
        )
        loss = self.plan.loss(self.policy, samples)
        loss.sum().backward()  # type: ignore[no-untyped-call]
        assert leaf.grad is not None
        self.network.backward(rows, x, leaf.grad.numpy(), gradient)
        if log_std.grad is not None:
            self.network.log_std(gradient)[:] = log_std.grad.numpy()
        result: Vector = loss.detach().numpy()
        return result

    def _clip(self, gradient: Vector) -> None:
        """Scale every row to a norm of at most max_grad_norm, as torch.nn.utils.clip_grad_norm_ does."""
        if self.plan.max_grad_norm:
            norm = np.sqrt(np.matmul(gradient[:, None], gradient[:, :, None]))[:, 0]
            gradient *= np.minimum(self.plan.max_grad_norm / (norm + np.float32(1e-6)), np.float32(1.0))


def build_network(
    hidden: Sequence[int], activation: str, shared_trunk: bool, inputs: int, policy: int, log_std: bool
) -> Network:
    """Return the network that a learner's options and an environment's sizes ask for."""
    return Network(inputs, policy, hidden=hidden, activation=activation, shared_trunk=shared_trunk, log_std=log_std)
