"""TD(0): the value of a policy as a linear function of features.

It is learned from samples or from the mean field.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cached_property, partial
from typing import Annotated, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field
from typing_extensions import override

from p2pfrl.core.errors import ScenarioError
from p2pfrl.core.options import Rule
from p2pfrl.core.parameters import Layout, Tensor, Vector
from p2pfrl.core.rng import Purpose, Streams, generator
from p2pfrl.core.rule import rule
from p2pfrl.learning.environments.base import Array, ArraySimulator
from p2pfrl.learning.learners.base import (
    Batch,
    Learner,
    Objective,
    Outcome,
    Stack,
    State,
    Task,
    Traits,
)
from p2pfrl.learning.learners.processes import Numbers, Processes, running_sums, search
from p2pfrl.learning.learners.target_policies import RULES, TargetPolicy, Uniform

_BLOCK = 2**16  # samples that are drawn at once, all agents together


@rule
class TD(Learner):
    """theta <- theta + lr (r + gamma phi(s')' theta - phi(s)' theta) phi(s): TD(0) of a policy.

    The policy is fixed, and numbers are float64. In means theta <- theta - lr (A_i theta - b_i)
    with A_i = E phi(s) (phi(s) - gamma phi(s'))' and b_i = E r phi(s), s from the stationary
    distribution of agent i's chain; phi(s') = 0 where the episode ended. The chain starts anew
    after an episode's end and knows no time limit.
    Features are uniform numbers from (seed, "features"), rows scaled to sum 1, the same for all
    agents; theta starts at 0, or with same_start = false at N(0, I). The optimum is that of the
    mean problem, (sum A_i)^-1 sum b_i, the one of least norm where there are several (more features
    than states, states that are never visited); `problem.safetensors` has A_bar, b_bar, every
    agent's own theta_star, optimum, features, the policy and the stationary distributions.

    References: Sutton, "Learning to predict by the methods of temporal differences", Machine
    Learning 3, 1988; averaged over agents (FedLSA) Mangold et al., NeurIPS 2024, arXiv 2402.04114,
    Algorithm 1; Khodadadian, Sharma, Joshi, Maguluri, "Federated reinforcement learning: linear
    speedup under Markovian sampling", ICML 2022, arXiv 2206.10185.

    Attributes:
        features: numbers per state; 0: the states themselves, one-hot (tabular TD).
        gamma: discount.
        steps: TD steps of one update, each on the mean of one sample per instance.
        samples: stationary: independent (s, a, s') from the stationary distribution; trajectory:
            one chain per instance, from update to update.
        exact: take A_i theta - b_i itself in place of samples.
        policy: the policy that is evaluated: uniform, table, baseline or saved.
        lr: step size.
    """

    features: int = Field(default=8, ge=0)
    gamma: float = Field(default=0.95, ge=0, lt=1)
    steps: int = Field(default=10, ge=1)
    samples: Literal["stationary", "trajectory"] = "stationary"
    exact: bool = False
    policy: Annotated[TargetPolicy, Rule("target_policies", lambda: RULES, "uniform")] = Field(
        default_factory=Uniform
    )
    lr: float = Field(default=0.1, ge=0)

    @override
    def prepare(self, task: Task) -> TDStack:
        """Bind the options to a task.

        Raises:
            ScenarioError: the environment has no tables.
        """
        return TDStack(self, task)


class TDStack(Stack, Objective):
    """Policy evaluation of a population."""

    def __init__(self, learner: TD, task: Task) -> None:
        self.learner = learner
        self.task = task
        self.processes = Processes.of(task.simulator, "td")
        assert isinstance(task.simulator, ArraySimulator)
        self.policy = learner.policy.chances(task.simulator)
        self._instances = task.simulator.instances
        self._width = learner.features or task.simulator.spec.states
        self.traits = Traits(
            layout=Layout((Tensor("theta", (self._width,)),), "float64"),
            min_steps=learner.steps * (1 if learner.exact else self._instances),
            chunk=4096,
            arrays=task.arrays,
            rate=0.0 if task.gradient_only else learner.lr * learner.steps,
            takes_corrections=True,
            gives_gradients=True,
            gives_returns=False,
        )
        self.objective = self
        if task.gradient_only and learner.steps != 1:
            raise ScenarioError(
                [
                    f"learner.steps: must be 1 with exchange.payload = 'gradient', got {learner.steps}"
                ]
            )
        if learner.exact and learner.samples == "trajectory":
            raise ScenarioError(
                ["learner.samples: with exact = true nothing is sampled; leave it out"]
            )

    @cached_property
    def features(self) -> Array:
        """Phi `(S, p)`."""
        states = self.processes.reward.shape[1]
        if not self.learner.features:
            return np.eye(states)
        drawn = generator(self.task.seed, Purpose.FEATURES).random((states, self._width))
        scaled: Array = drawn / drawn.sum(axis=1, keepdims=True)
        return scaled

    @cached_property
    def stationary(self) -> Array:
        """How often every agent is in each state, `(n, S)`."""
        return self.processes.stationary(self.policy)

    @cached_property
    def system(self) -> tuple[Array, Array]:
        """(A_i `(n, p, p)`, b_i `(n, p)`)."""
        processes, phi = self.processes, self.features
        moves = (
            np.matmul(self.policy[:, :, None, :], processes.transition)[:, :, 0]
            * processes.goes_on[:, None, :]
        )
        rewards = (self.policy * processes.reward).sum(axis=-1)
        weighted = phi.T[None] * self.stationary[:, None, :]
        return (
            np.matmul(weighted, phi[None] - self.learner.gamma * np.matmul(moves, phi)),
            np.matmul(weighted, rewards[..., None])[..., 0],
        )

    @cached_property
    def optimum(self) -> Array:
        """(sum A_i)^-1 sum b_i, `(p,)`."""
        A, b = self.system
        return _solved(A.mean(axis=0), b.mean(axis=0))

    @override
    def start(self, agents: Sequence[int], *, same: bool) -> Vector:
        """Return zeros `(b, stride)`, or every agent's own normal numbers."""
        rows = self.layout.zeros(len(agents))
        if not same:
            for row, agent in zip(rows, agents, strict=True):
                row[: self._width] = generator(
                    self.task.seed, agent, Purpose.START
                ).standard_normal(self._width)
        return rows

    @override
    def init(self, agents: Sequence[int]) -> State:
        """Return the chains' states `(b, m)`, from the start distribution, for trajectories."""
        if self.learner.samples == "stationary" or self.learner.exact:
            return {}
        noise = Streams.of(self.task.seed, agents, Purpose.CHAIN_START).uniform(self._instances)
        sums = np.cumsum(self.processes.start[np.asarray(agents, dtype=np.intp)], axis=-1)
        return {"chain": search(_closed(sums)[:, None, :], noise)}

    @override
    def update(self, batch: Batch) -> Outcome:
        """Take `steps` steps; the loss is the mean squared TD error of their samples.

        With `exact` it is the mean of |A theta - b|^2.
        """
        learner, task, theta = self.learner, self.task, batch.parameters[:, : self._width]
        loss, rows = np.zeros(len(batch.agents)), None
        if task.correction.bends:
            rows = np.zeros_like(batch.parameters)
        for field in self._fields(batch):
            gradient, value = field(theta)
            loss += value
            if rows is not None:
                rows[:, : self._width] = gradient
                task.correction.adjust(
                    batch.parameters, rows, batch.state, partial(self._again, field)
                )
                gradient = rows[:, : self._width].astype(np.float64)
            if task.gradient_only:
                np.asarray(batch.state["gradient"])[:, : self._width] = gradient
            else:
                theta -= learner.lr * gradient
        steps = np.full(len(loss), self.traits.min_steps, dtype=np.int64)
        return Outcome(batch.parameters, batch.state, steps, loss / learner.steps, [()] * len(loss))

    def _again(self, field: _Field, rows: Vector) -> Vector:
        """Return the gradients `(b, stride)` at other rows, on the same samples."""
        out = np.zeros_like(rows)
        out[:, : self._width] = field(rows[:, : self._width])[0]
        return out

    def _fields(self, batch: Batch) -> Iterator[_Field]:
        """Yield the gradient as a function of theta, `steps` times."""
        agents = np.asarray(batch.agents, dtype=np.intp)
        if self.learner.exact:
            A, b = self.system
            for _ in range(self.learner.steps):
                yield _Mean(A[agents], b[agents])
            return
        phi, gamma = self.features, self.learner.gamma
        goes_on = self.processes.goes_on[agents]
        place = np.arange(len(agents))[:, None, None]
        for before, after, reward in self._samples(batch, agents):
            now = phi[before]
            step = now - gamma * goes_on[place, after][..., None] * phi[after]
            for k in range(before.shape[1]):
                yield _Sampled(now[:, k], step[:, k], reward[:, k])

    def _samples(self, batch: Batch, agents: Numbers) -> Iterator[tuple[Numbers, Numbers, Array]]:
        """Yield blocks of (s, s', reward), `(b, steps of the block, m)` each."""
        learner, processes, m = self.learner, self.processes, self._instances
        streams = Streams.of(self.task.seed, batch.agents, Purpose.SAMPLES, batch.index)
        block, numbers = (
            max(1, _BLOCK // (len(agents) * m)),
            2 if learner.samples == "stationary" else 3,
        )
        rows = agents[:, None, None]
        for first in range(0, learner.steps, block):
            noise = streams.uniform(min(block, learner.steps - first), m, numbers)
            if learner.samples == "stationary":
                pair = search(self._pairs[rows], noise[..., 0])
                before, action = np.divmod(pair, self.policy.shape[2])
                place = (rows, before, action)
                after = processes.after[
                    (*place, search(processes.cumulative[place], noise[..., 1]))
                ]
            else:
                before, action, after = self._walk(agents, np.asarray(batch.state["chain"]), noise)
                place = (rows, before, action)
            yield (
                before,
                after,
                processes.action_reward[place] + processes.entry_reward[rows, after],
            )

    @cached_property
    def _pairs(self) -> Array:
        """Running sums of the stationary probabilities of (s, a), `(n, S A)`."""
        pairs = self.stationary[..., None] * self.policy
        return _closed(np.cumsum(pairs.reshape(len(pairs), -1), axis=-1))

    def _walk(
        self, agents: Numbers, state: NDArray[np.generic], noise: Array
    ) -> tuple[Numbers, Numbers, Numbers]:
        """Return (s, a, s') of consecutive steps, `(b, steps, m)`; `state` moves on, in place."""
        processes, actions = self.processes, self.policy.shape[2]
        rows = agents[:, None]
        starts = _closed(np.cumsum(processes.start[agents], axis=-1))[:, None, :]
        before = np.empty(noise.shape[:-1], dtype=np.intp)
        action, after = np.empty_like(before), np.empty_like(before)
        chosen = np.minimum((noise[..., 0] * actions).astype(np.intp), actions - 1)
        chances = running_sums(np.broadcast_to(self.policy, processes.reward.shape)[agents])
        own = np.arange(len(agents))[:, None]
        for k in range(noise.shape[1]):
            here = np.asarray(state, dtype=np.intp)
            if not self.learner.policy.is_uniform:
                chosen[:, k] = search(chances[own, here], noise[:, k, :, 0])
            place = (rows, here, chosen[:, k])
            found = processes.after[
                (*place, search(processes.cumulative[place], noise[:, k, :, 1]))
            ]
            before[:, k], action[:, k], after[:, k] = here, chosen[:, k], found
            ended = processes.goes_on[rows, found] == 0.0
            state[:] = np.where(ended, search(starts, noise[:, k, :, 2]), found)
        return before, action, after

    @override
    def problem_bytes(self) -> tuple[int, int]:
        p, states = self._width, self.features.shape[0]
        own = 8 * (p * p + 2 * p + states)
        return own, own

    @override
    def problem(self) -> dict[str, NDArray[np.generic]]:
        """Return A_bar `(n, p, p)`, b_bar, theta_star `(n, p)`, optimum, and what they follow from.

        That is the features, the policy `(1 or n, S, A)` and the stationary distributions.
        """
        A, b = self.system
        return {
            "A_bar": A,
            "b_bar": b,
            "theta_star": _solved(A, b),
            "optimum": self.optimum,
            "features": self.features,
            "policy": self.policy,
            "stationary": self.stationary,
        }

    @override
    def linear(self) -> tuple[Array, Array] | None:
        return self.system

    @override
    def error(self, parameters: Vector) -> tuple[float, float]:
        """Return (|mean_i (A_i theta - b_i)| at the mean, RMS distance to the optimum)."""
        A, b = self.system
        theta = parameters[:, : self._width]
        residual = A.mean(axis=0) @ theta.mean(axis=0) - b.mean(axis=0)
        distance = np.square(theta - self.optimum).sum(axis=1).mean()
        return float(np.sqrt(residual @ residual)), float(np.sqrt(distance))


class _Mean:
    """A theta - b."""

    def __init__(self, A: Array, b: Array) -> None:
        self._A = A
        self._b = b

    def __call__(self, theta: Vector) -> tuple[Array, Array]:
        gradient = np.matmul(self._A, theta[:, :, None])[:, :, 0] - self._b
        return gradient, np.square(gradient).sum(axis=1)


class _Sampled:
    """The mean over samples of -(r + gamma phi(s')' theta - phi(s)' theta) phi(s)."""

    def __init__(self, now: Array, step: Array, reward: Array) -> None:
        self._now = now
        self._step = step
        self._reward = reward

    def __call__(self, theta: Vector) -> tuple[Array, Array]:
        surprise = (self._step * theta[:, None, :]).sum(axis=-1) - self._reward
        gradient = (surprise[..., None] * self._now).sum(axis=1) / surprise.shape[1]
        return gradient, np.square(surprise).mean(axis=1)


_Field = _Mean | _Sampled


def _solved(A: Array, b: Array) -> Array:
    """Return the smallest x `(..., p)` with A x = b.

    Where A is singular, TD from 0 moves only in the range of A.
    """
    return np.asarray(np.matmul(np.linalg.pinv(A, rcond=1e-12), b[..., None])[..., 0])


def _closed(sums: Array) -> Array:
    """Return running sums that are exactly 1 from the last possible outcome on."""
    total = sums[..., -1:]
    return np.where(sums >= total, 1.0, sums / total)
