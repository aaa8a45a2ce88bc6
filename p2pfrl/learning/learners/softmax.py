"""Tabular softmax policies: their values, exactly or from trajectories."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from typing_extensions import override

from p2pfrl.core.parameters import Vector
from p2pfrl.core.rng import Purpose, Streams
from p2pfrl.core.softmax import log_softmax
from p2pfrl.learning.environments.base import Array
from p2pfrl.learning.learners.base import Evaluator, State, Task
from p2pfrl.learning.learners.processes import Numbers, Processes, running_sums, search
from p2pfrl.learning.rollout import Act, Kept, best_actions, play

HEAVIEST = 10.0
"""The most that a trajectory counts for a policy that did not act in it."""


@dataclass(frozen=True)
class Sought:
    """The objective E sum_t gamma^t (r_t - entropy log pi(a_t|s_t)) from the start distribution."""

    gamma: float
    entropy: float


@dataclass(frozen=True)
class Slope:
    """The gradient of the values of b agents' policies in their logits.

    Attributes:
        value: `(b,)` of the policies.
        gradient: `(b, S, A)` of it.
        visits: `(b, S)` discounted frequencies of the states, (1 - gamma) sum_t gamma^t P(s_t = s).
        advantage: `(b, S, A)`, where it is known.
    """

    value: Array
    gradient: Array
    visits: Array
    advantage: Array | None = None


class Exact:
    """The slope from the tables: grad(s, a) = d(s) pi(a|s) A(s, a) / (1 - gamma).

    Sutton, McAllester, Singh, Mansour, "Policy gradient methods for reinforcement learning with
    function approximation", NeurIPS 1999; with entropy Mei, Xiao, Szepesvari, Schuurmans, ICML
    2020, arXiv 2005.06392.
    """

    def __init__(self, processes: Processes, agents: Numbers, sought: Sought) -> None:
        self._kernel = processes.transition[agents] * processes.goes_on[agents][:, None, None, :]
        self._reward = processes.reward[agents]
        self._start = processes.start[agents]
        self._sought = sought

    def __call__(self, logits: Array) -> Slope:
        """Return the slope at logits `(b, S, A)`."""
        gamma, entropy = self._sought.gamma, self._sought.entropy
        log_pi = log_softmax(logits)
        pi = np.exp(log_pi)
        reward = self._reward - entropy * log_pi
        chain = np.matmul(pi[:, :, None, :], self._kernel)[:, :, 0]
        system = np.eye(chain.shape[-1]) - gamma * chain
        values = np.linalg.solve(system, (pi * reward).sum(axis=-1)[..., None])[..., 0]
        visits = (1.0 - gamma) * np.linalg.solve(system.transpose(0, 2, 1), self._start[..., None])[
            ..., 0
        ]
        action_values = reward + gamma * np.matmul(self._kernel, values[:, None, :, None])[..., 0]
        advantage = action_values - values[..., None]
        gradient = visits[..., None] * pi * advantage / (1.0 - gamma)
        return Slope((self._start * values).sum(axis=-1), gradient, visits, advantage)


@dataclass(frozen=True)
class Paths:
    """Trajectories of b agents, B each, of T steps; rewards after the end of an episode are 0.

    Attributes:
        state, action: `(b, B, T)`.
        reward: `(b, B, T)`.
        is_alive: `(b, B, T)` whether the episode had not ended before this step.
        log_pi: `(b, S, A)` of the policies that acted.
    """

    state: Numbers
    action: Numbers
    reward: Array
    is_alive: Array
    log_pi: Array


class SoftmaxPolicies(Evaluator):
    """Evaluates softmax policies over tables of logits.

    Attributes:
        task: with the environments of evaluation.
    """

    is_greedy = False
    task: Task

    @abstractmethod
    def _tables(self, rows: Vector) -> Array:
        """Return the view `(b, S, A)` of the logits in rows `(b, stride)`."""

    @override
    def evaluate(
        self, agents: Sequence[int], parameters: Vector, episodes: int, index: int
    ) -> NDArray[np.float64] | None:
        """Return the mean return `(b,)` of actions drawn from each policy.

        The best policy may be stochastic.
        """
        if self.task.evaluator is None:
            return None
        sums = running_sums(np.exp(log_softmax(self._tables(parameters))))
        streams = Streams.of(self.task.seed, agents, Purpose.EVALUATION_POLICY, index)

        def acting(kept: Kept) -> Act:
            nonlocal sums, streams
            sums, streams = sums[kept], streams.of_rows(kept)
            table, drawn, own = sums, streams, np.arange(len(sums))[:, None]

            def act(obs: NDArray[np.float32]) -> NDArray[np.generic]:
                return search(table[own, np.argmax(obs, axis=-1)], drawn.uniform(obs.shape[1]))

            return act

        return play(self.task.evaluator, acting, agents=agents, episodes=episodes, index=index)

    @override
    def act(
        self, agents: Sequence[int], parameters: Vector, obs: NDArray[np.float32]
    ) -> NDArray[np.generic]:
        """Return the most likely action of each state."""
        return best_actions(self._tables(parameters), obs)

    @override
    def divergence(self, agents: Sequence[int], parameters: Vector, state: State) -> float:
        """Return the mean over agents and states of KL(pi_i || pi_mean)."""
        tables = self._tables(parameters)
        log_pi, log_mean = log_softmax(tables), log_softmax(tables.mean(axis=0))
        return float((np.exp(log_pi) * (log_pi - log_mean)).sum(axis=-1).mean())


def walk(
    processes: Processes, agents: Numbers, logits: Array, streams: Streams, count: int, horizon: int
) -> Paths:
    """Return `count` trajectories of `horizon` steps of every agent from its start distribution."""
    log_pi = log_softmax(logits)
    sums = running_sums(np.exp(log_pi))
    starts = running_sums(processes.start[agents])
    shape = (len(agents), count, horizon)
    state, action = np.empty(shape, dtype=np.intp), np.empty(shape, dtype=np.intp)
    reward, is_alive = np.zeros(shape), np.zeros(shape)
    rows, own = agents[:, None], np.arange(len(agents))[:, None]
    here = search(starts[:, None, :], streams.uniform(count))
    alive = np.ones(shape[:2])
    for t in range(horizon):
        noise = streams.uniform(count, 2)
        chosen = search(sums[own, here], noise[..., 0])
        place = (rows, here, chosen)
        found = processes.after[(*place, search(processes.cumulative[place], noise[..., 1]))]
        state[..., t], action[..., t], is_alive[..., t] = here, chosen, alive
        reward[..., t] = alive * (
            processes.action_reward[place] + processes.entry_reward[rows, found]
        )
        alive = alive * processes.goes_on[rows, found]
        here = found
    return Paths(state, action, reward, is_alive, log_pi)


class Sampled:
    """The slope from trajectories, the mean over trajectories of GPOMDP's estimate.

    That is sum_t gamma^t grad log pi(a_t|s_t) sum_(h>=t) gamma^(h-t) r_h. Baxter, Bartlett,
    "Infinite-horizon policy-gradient estimation", JAIR 15, 2001. At other logits than those that
    acted a trajectory counts by the product of pi / pi_acted over its steps, at most `HEAVIEST`.
    """

    def __init__(self, paths: Paths, sought: Sought) -> None:
        self._paths = paths
        self._sought = sought

    def __call__(self, logits: Array) -> Slope:
        """Return the slope at logits `(b, S, A)`."""
        paths, gamma, log_pi = self._paths, self._sought.gamma, log_softmax(logits)
        own = np.arange(len(logits))[:, None, None]
        place = (own, paths.state, paths.action)
        change = (paths.is_alive * (log_pi[place] - paths.log_pi[place])).sum(axis=-1)
        weight = np.exp(np.minimum(change, np.log(HEAVIEST)))[..., None] / paths.state.shape[1]
        earned = paths.reward - self._sought.entropy * paths.is_alive * log_pi[place]
        discount = gamma ** np.arange(paths.state.shape[2]) * paths.is_alive
        ahead = np.cumsum((discount * earned)[..., ::-1], axis=-1)[
            ..., ::-1
        ]  # gamma^t times the return from t on
        pulls = np.zeros_like(log_pi)
        np.add.at(pulls, place, weight * ahead * paths.is_alive)
        visits = np.zeros(log_pi.shape[:2])
        np.add.at(visits, place[:2], (1.0 - gamma) * weight * discount)
        gradient = pulls - pulls.sum(axis=-1, keepdims=True) * np.exp(log_pi)
        return Slope((weight[..., 0] * ahead[..., 0]).sum(axis=-1), gradient, visits)


def best_values(processes: Processes, sought: Sought) -> Array:
    """Return every agent's greatest value from its start, `(n,)`: with entropy, the soft one."""
    if not sought.entropy:
        return np.asarray(
            (processes.start * processes.optimal(sought.gamma).max(axis=-1)).sum(axis=-1)
        )
    kernel = processes.transition * processes.goes_on[:, None, None, :]
    values, apart = np.zeros(processes.start.shape), np.inf
    while apart > 1e-14 * max(1.0, float(np.abs(values).max())):
        q = (
            processes.reward + sought.gamma * np.matmul(kernel, values[:, None, :, None])[..., 0]
        ) / sought.entropy
        most = q.max(axis=-1)
        after = sought.entropy * (most + np.log(np.exp(q - most[..., None]).sum(axis=-1)))
        apart, values = float(np.abs(after - values).max()), after
    return np.asarray((processes.start * values).sum(axis=-1))
