"""UCBVI of many agents: episodes of one common optimistic policy, and sums over them.

The next common policy is made from the sums.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from types import MappingProxyType
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field
from typing_extensions import override

from p2pfrl.core.errors import ScenarioError
from p2pfrl.core.parameters import Layout, Tensor, Vector
from p2pfrl.core.rng import Purpose, Streams
from p2pfrl.core.rule import rule
from p2pfrl.learning.environments.base import Array
from p2pfrl.learning.learners.base import (
    Batch,
    Evaluator,
    Exchange,
    Learner,
    Objective,
    Outcome,
    Stack,
    State,
    Task,
    Traits,
)
from p2pfrl.learning.learners.processes import Numbers, Processes, search

STATISTICS, NEWS = "statistics", "news"
_OF_NEWS = ("condition", "episodes", "heterogeneity", "confidence")


@rule
class UCBVI(Learner):
    """Play episodes of H steps by the greedy policy of the common Q(h, s, a), and send their sums.

    An agent sends when it has news. With payload "statistics", aggregator "optimistic" and gate
    "news" this is Fed-UCBVI. There is news where an episode went through (h, s, a) whose count has
    doubled since the last synchronization. While the count of all agents is below S_0 = 14 epsilon
    T H M + 182 M beta this is agent i's own count, n_i >= 2 n_i(then). After that agent i must
    guess: M (n_i - n_i(then)) + n >= 2 n. M is the number of agents, beta = log(6 S A H / delta) +
    log(6 e (2 T + 1)). At stage h > 0 of a synchronization nobody plays, and all send n_i and
    n_i-weighted r_i + P_i V, P_i V, P_i V^2.

    Rewards must lie in [0, 1]. The environment's time limit is not used; after an episode's end
    nothing is earned. Measures: `regret`, the sum over an agent's episodes of V*_i - V_i of the
    policy, exactly, from its start distribution; `synchronizations`, how many it took part in. In
    the record, objective is the mean value of the policy, and error is the mean of V*_i minus that;
    evaluation is exact too. With same_start = false nothing differs.

    Reference: Labbi et al., "Federated UCBVI: communication-efficient federated regret minimization
    with heterogeneous agents", AISTATS 2025, arXiv 2410.22908; one agent: Azar, Osband, Munos, ICML
    2017, arXiv 1703.05449.

    Attributes:
        horizon: H, steps of an episode.
        condition: whose count must have doubled: own, all (the guess), or one after the other
            (both).
        episodes: T, how many each agent is going to play, which S_0 depends on.
        heterogeneity: epsilon, how far apart two agents' transition probabilities are.
        confidence: delta.
    """

    of_offers: ClassVar[Mapping[str, tuple[str, ...]]] = MappingProxyType({NEWS: _OF_NEWS})

    horizon: int = Field(default=4, ge=1)
    condition: Literal["both", "own", "all"] = "both"
    episodes: int = Field(default=10_000, ge=1)
    heterogeneity: float = Field(default=0.0, ge=0, le=2)
    confidence: float = Field(default=0.05, gt=0, lt=1)

    @property
    @override
    def idle(self) -> tuple[str, ...]:
        """The start: all agents begin without counts."""
        return ("same_start",)

    @override
    def prepare(self, task: Task) -> UCBVIStack:
        """Bind the options to a task.

        Raises:
            ScenarioError: the environment has no tables, or rewards outside of [0, 1].
        """
        return UCBVIStack(self, task)

    def threshold(self, agents: int, pairs: int) -> float:
        """Return S_0 for these numbers of agents and of pairs of state and action."""
        own = {"own": np.inf, "all": 0.0}
        beta = np.log(6 * pairs * self.horizon / self.confidence) + np.log(
            6 * np.e * (2 * self.episodes + 1)
        )
        both = 14 * self.heterogeneity * self.episodes * self.horizon * agents + 182 * agents * beta
        return float(own.get(self.condition, both))


@dataclass(frozen=True)
class _Common:
    """The common model of b agents, as views: stage `(b,)`, q and n `(b, H, S, A)`."""

    stage: Array
    q: Array
    n: Array


@dataclass(frozen=True)
class _Seen:
    """The counts of b agents, as views, `(b, H, S, A, S)`, and sums of rewards `(b, H, S, A)`."""

    counts: Array
    rewards: Array
    sent: Array


def _numbers(state: State, name: str) -> Array:
    """Return a state array as it is: all of this learner are float64."""
    return np.asarray(state[name], dtype=np.float64)


class UCBVIStack(Stack, Evaluator, Exchange, Objective):
    """Episodes of a population."""

    error_is = "value lost against one's own best"

    def __init__(self, learner: UCBVI, task: Task) -> None:
        self.learner = learner
        self.task = task
        self.processes = Processes.of(task.simulator, "ucbvi")
        assert task.simulator is not None
        low, high = float(self.processes.reward.min()), float(self.processes.reward.max())
        if low < 0 or high > 1:
            raise ScenarioError(
                [
                    f"learner: 'ucbvi' needs rewards in [0, 1], here they reach from {low:g} to {high:g}: see what "
                    "environment.vary can set, as step_reward = 0"
                ]
            )
        if learner.lr != type(learner)().lr:
            raise ScenarioError(["learner.lr: 'ucbvi' takes no steps of any size: leave it out"])
        self._count = task.simulator.instances
        self._size: tuple[int, int, int] = (learner.horizon, *self.processes.reward.shape[1:])
        tensors = (
            Tensor("common.stage", (1,)),
            Tensor("common.q", self._size),
            Tensor("common.n", self._size),
        )
        self.traits = Traits(
            layout=Layout(tensors, "float64"),
            min_steps=0,
            fixed_steps=False,
            max_steps=self._count * learner.horizon,
            chunk=256,
            arrays=task.arrays,
            only_payload=STATISTICS,
        )
        self.evaluator = self.exchange = self.objective = self
        self._limit = learner.threshold(task.agents, self._size[1] * self._size[2])

    @override
    def start(self, agents: Sequence[int], *, same: bool) -> Vector:
        """Return Q = H everywhere, and no visits."""
        rows = self.layout.zeros(len(agents))
        self._common(rows).q[:] = self.learner.horizon
        return rows

    @override
    def init(self, agents: Sequence[int]) -> State:
        """Return the sums over the experience, all zero.

        They are: counts, sums of rewards, counts when sent, news, and tallies (regret,
        synchronizations, last stage).
        """
        b, (_, states, _) = len(agents), self._size
        return {
            "counts": np.zeros((b, *self._size, states)),
            "rewards": np.zeros((b, *self._size)),
            "sent": np.zeros((b, *self._size)),
            "tallies": np.zeros((b, 3)),
            NEWS: np.zeros((b, 1)),
        }

    def _common(self, rows: Vector) -> _Common:
        stage, q, n = self.layout.offsets
        size = self.layout.tensors[1].size
        shape = (len(rows), *self._size)
        return _Common(
            np.asarray(rows[:, stage], dtype=np.float64),
            np.asarray(rows[:, q : q + size], dtype=np.float64).reshape(shape),
            np.asarray(rows[:, n : n + size], dtype=np.float64).reshape(shape),
        )

    @override
    def update(self, batch: Batch) -> Outcome:
        """Play an episode per instance, at stage 0; the loss is V* minus the policy's value."""
        common, state = self._common(batch.parameters), batch.state
        agents = np.asarray(batch.agents, dtype=np.intp)
        seen = _Seen(*(_numbers(state, name) for name in ("counts", "rewards", "sent")))
        news, tallies = _numbers(state, NEWS), _numbers(state, "tallies")
        is_asked = common.stage > 0
        seen.sent[is_asked] = seen.counts[is_asked].sum(axis=-1)
        tallies[:, 1] += (common.stage == 1) & (tallies[:, 2] != 1)
        tallies[:, 2] = common.stage
        news[:, 0] = is_asked
        returns: list[list[float]] = [[] for _ in batch.agents]
        loss = self.best[agents] - self._values(agents, common.q.argmax(axis=-1))
        rows = np.flatnonzero(~is_asked)
        if len(rows):
            own, index = agents[rows].tolist(), [batch.index[i] for i in rows.tolist()]
            streams = Streams.of(self.task.seed, own, Purpose.EPISODE, index)
            is_new, earned = self._play(agents[rows], rows, common, streams, seen)
            news[rows, 0] = is_new
            tallies[rows, 0] += self._count * loss[rows]
            for i, total in zip(rows, earned.tolist(), strict=True):
                returns[i].extend(total)
        steps = np.where(is_asked, 0, self.learner.horizon * self._count).astype(np.int64)
        measures = {"regret": tallies[:, 0].copy(), "synchronizations": tallies[:, 1].copy()}
        return Outcome(batch.parameters, state, steps, loss, returns, measures)

    def _play(
        self, agents: Numbers, rows: Numbers, common: _Common, streams: Streams, seen: _Seen
    ) -> tuple[NDArray[np.bool_], Array]:
        """Play; return whether each agent has news `(k,)`, and its episodes' returns `(k, m)`."""
        processes, who, row = self.processes, agents[:, None], rows[:, None]
        starts = np.cumsum(processes.start[agents], axis=-1)
        starts[starts >= starts[..., -1:]] = 1.0
        here = search(starts[:, None, :], streams.uniform(self._count))
        alive, earned = np.ones(here.shape), np.zeros(here.shape)
        is_new = np.zeros(here.shape, dtype=np.bool_)
        best = common.q.argmax(axis=-1)
        for h in range(self.learner.horizon):
            action = best[row, h, here]
            place = (who, here, action)
            found = processes.after[
                (*place, search(processes.cumulative[place], streams.uniform(self._count)))
            ]
            reward = alive * (processes.action_reward[place] + processes.entry_reward[who, found])
            cell: tuple[Any, ...] = (row, h, here, action)
            np.add.at(seen.counts, (*cell, found), 1.0)
            np.add.at(seen.rewards, cell, reward)
            now, before, everyone = seen.counts[cell].sum(axis=-1), seen.sent[cell], common.n[cell]
            own = (everyone < self._limit) & (now >= 2 * before)
            guess = (everyone >= self._limit) & (self.task.agents * (now - before) >= everyone)
            is_new |= own | guess
            earned += reward
            alive = alive * processes.goes_on[who, found]
            here = found
        return np.asarray(is_new.any(axis=1)), earned

    @override
    def offer(self, name: str, agent: int, parameters: Vector, state: State) -> Vector:
        """Return whether there is news, `(1,)`; or the sums of the stage, `(4 S A,)`.

        The sums are n, n Q, n P V and n P V^2; zeros at stage 0.
        """
        if name == NEWS:
            return np.array(state[NEWS][0], dtype=np.float64)
        if name != STATISTICS:
            return super().offer(name, agent, parameters, state)
        common = self._common(parameters)
        h = int(common.stage[0]) - 1
        if h < 0:
            return np.zeros(4 * self._size[1] * self._size[2])
        counts = np.asarray(state["counts"][0, h], dtype=np.float64)
        values = (
            common.q[0, h + 1].max(axis=-1)
            if h + 1 < self.learner.horizon
            else np.zeros(self._size[1])
        )
        ahead, square = (counts * values).sum(axis=-1), (counts * np.square(values)).sum(axis=-1)
        sums = (counts.sum(axis=-1), np.asarray(state["rewards"][0, h]) + ahead, ahead, square)
        return np.concatenate([part.ravel() for part in sums])

    @override
    def offer_size(self, name: str) -> int | None:
        sizes = {NEWS: 1, STATISTICS: 4 * self._size[1] * self._size[2]}
        return sizes[name] if name in sizes else super().offer_size(name)

    def _values(self, agents: Numbers, best: Numbers) -> Array:
        """Return values `(b,)` of policies `(b, H, S)` from their agents' start distributions."""
        own, states = agents[:, None], np.arange(self._size[1])
        values = np.zeros((len(agents), self._size[1]))
        for h in range(self.learner.horizon - 1, -1, -1):
            place = (own, states, best[:, h])
            ahead = (self._kernel[place] * values[:, None, :]).sum(axis=-1)
            values = self.processes.reward[place] + ahead
        return np.asarray((self.processes.start[agents] * values).sum(axis=-1))

    @cached_property
    def _kernel(self) -> Array:
        """Transitions without those that end an episode, `(n, S, A, S)`."""
        return self.processes.transition * self.processes.goes_on[:, None, None, :]

    @cached_property
    def best(self) -> Array:
        """V*_i from the start distribution, `(n,)`, by backward induction."""
        values = np.zeros(self.processes.start.shape)
        for _ in range(self.learner.horizon):
            ahead = np.matmul(self._kernel, values[:, None, :, None])[..., 0]
            values = (self.processes.reward + ahead).max(axis=-1)
        return np.asarray((self.processes.start * values).sum(axis=-1))

    @override
    def evaluate(
        self, agents: Sequence[int], parameters: Vector, episodes: int, index: int
    ) -> NDArray[np.float64] | None:
        """Return the value `(b,)` of each row's policy: what its episodes earn on average."""
        return self._values(
            np.asarray(agents, dtype=np.intp), self._common(parameters).q.argmax(axis=-1)
        )

    @override
    def problem(self) -> dict[str, NDArray[np.generic]]:
        """Return V_star `(n,)` and start distributions `(n, S)`; P, R are the environment's."""
        return {"V_star": self.best, "start": self.processes.start}

    @override
    def error(self, parameters: Vector) -> tuple[float, float]:
        """Return (mean_i V_i of the mean table's policy, mean_i V*_i minus that)."""
        best = self._common(parameters).q.mean(axis=0).argmax(axis=-1)
        everyone = np.arange(len(self.processes))
        objective = float(
            self._values(everyone, np.broadcast_to(best, (len(everyone), *best.shape))).mean()
        )
        return objective, float(self.best.mean()) - objective
