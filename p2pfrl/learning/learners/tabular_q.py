"""Tabular Q-learning, with counts of visits, for plain and for importance averaging."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Annotated

import numpy as np
from numpy.typing import NDArray
from pydantic import Field
from typing_extensions import override

from p2pfrl.core.options import Rule
from p2pfrl.core.parameters import Layout, Tensor, Vector
from p2pfrl.core.rng import Purpose, Streams, generator
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
from p2pfrl.learning.learners.behaviors import RULES, Behavior, Generative
from p2pfrl.learning.learners.processes import Numbers, Processes, running_sums, search
from p2pfrl.learning.rollout import Act, Kept, best_actions, play

VISITS = "visits"


@rule
class TabularQ(Learner):
    """Q(s,a) <- (1 - lr) Q(s,a) + lr (r + gamma max_a' Q(s',a')), in float64, from Q = 0.

    A terminal s' has no future.

    With same_start = false every agent starts at uniform numbers of its own. `visits` counts, per
    (s, a), the updates since the last exchange; payload "table" sends it along. The optimum is Q*
    of the mean process, whose transitions and rewards are the means over agents, without time
    limit: where agents are alike it is everyone's. `problem.safetensors` has it as `optimum`, every
    agent's own as Q_star. In the record, objective is the largest |Q - Q*| over (s, a), of the mean
    table.

    References: Watkins, Dayan, "Q-learning", Machine Learning 8, 1992; averaged over agents
    Khodadadian, Sharma, Joshi, Maguluri, ICML 2022, arXiv 2206.10185; Woo, Joshi, Chi, "The
    blessing of heterogeneity in federated Q-learning", ICML 2023, arXiv 2305.10697.

    Attributes:
        gamma: discount.
        steps: local steps of one update. A generative step updates the whole table by the mean over
            instances of one sample each; a step of a policy updates (s, a) of one instance after
            the other.
        behavior: where samples come from: generative, uniform, epsilon_greedy or given.
        lr: step size.
    """

    gamma: float = Field(default=0.95, ge=0, lt=1)
    steps: int = Field(default=1, ge=1)
    behavior: Annotated[Behavior, Rule("behaviors", lambda: RULES, "generative")] = Field(
        default_factory=Generative
    )
    lr: float = Field(default=0.1, ge=0, le=1)

    @override
    def prepare(self, task: Task) -> TabularQStack:
        """Bind the options to a task.

        Raises:
            ScenarioError: the environment has no tables, or other actions than the behavior.
        """
        return TabularQStack(self, task)


class TabularQStack(Stack, Evaluator, Exchange, Objective):
    """Q-learning of a population."""

    def __init__(self, learner: TabularQ, task: Task) -> None:
        self.learner = learner
        self.task = task
        self.processes = Processes.of(task.simulator, "tabular_q")
        assert task.simulator is not None
        self.simulator = task.simulator
        self.shape = self.processes.reward.shape[1:]
        learner.behavior.check(self.shape[1])
        layout = Layout((Tensor("q", self.shape),), "float64")
        pairs = layout.size if learner.behavior.is_generative else 1
        self.traits = Traits(
            layout=layout,
            min_steps=learner.steps * self.simulator.instances * pairs,
            chunk=256,
            arrays=(*task.arrays, VISITS),
            gives_returns=not learner.behavior.is_generative,
        )
        self.evaluator = self.exchange = self.objective = self

    @override
    def start(self, agents: Sequence[int], *, same: bool) -> Vector:
        """Return zeros `(b, stride)`, or every agent's own uniform numbers."""
        rows = self.layout.zeros(len(agents))
        if not same:
            for row, agent in zip(rows, agents, strict=True):
                row[: self.layout.size] = generator(self.task.seed, agent, Purpose.START).random(
                    self.layout.size
                )
        return rows

    @override
    def init(self, agents: Sequence[int]) -> State:
        """Return the environments, one row each; none for a generative simulator."""
        return {} if self.learner.behavior.is_generative else self.simulator.init(agents)

    @override
    def offer_size(self, name: str) -> int | None:
        return self.layout.size if name == VISITS else super().offer_size(name)

    @override
    def update(self, batch: Batch) -> Outcome:
        """Take `steps` steps; the loss is the mean squared difference between target and table."""
        q = self._tables(batch.parameters)
        visits = self._tables(np.asarray(batch.state[VISITS]))
        return (self._sweep if self.learner.behavior.is_generative else self._walk)(
            batch, q, visits
        )

    def _tables(self, rows: Vector) -> Vector:
        """Return the view `(b, S, A)` of rows `(b, stride)`."""
        return rows[:, : self.layout.size].reshape(len(rows), *self.shape)

    def _sweep(self, batch: Batch, q: Vector, visits: Vector) -> Outcome:
        """Update whole tables, from one sample of every (s, a) per instance."""
        learner, processes, m = self.learner, self.processes, self.simulator.instances
        rows = np.asarray(batch.agents, dtype=np.intp)[:, None, None, None]
        states, actions = np.arange(self.shape[0])[:, None], np.arange(self.shape[1])
        cumulative, after = (
            processes.cumulative[rows, states, actions],
            processes.after[rows, states, actions],
        )
        earned, goes_on = (
            processes.action_reward[rows, states, actions],
            processes.goes_on[rows, states],
        )
        streams = Streams.of(self.task.seed, batch.agents, Purpose.SAMPLES, batch.index)
        own, loss = np.arange(len(q))[:, None, None, None], np.zeros(len(q))
        for _ in range(learner.steps):
            place = search(cumulative, streams.uniform(m, *self.shape))
            found = np.take_along_axis(
                np.broadcast_to(after, (*place.shape, after.shape[-1])), place[..., None], -1
            )
            found = found[..., 0]
            reward = earned + goes_on * processes.entry_reward[rows, found]
            future = q.max(axis=-1)[own, found] * processes.goes_on[rows, found]
            apart = (reward + learner.gamma * future).sum(axis=1) / m - q
            q += learner.lr * apart
            loss += np.square(apart).reshape(len(q), -1).sum(axis=1) / self.layout.size
        visits += learner.steps
        return self._outcome(batch, batch.state, loss, [()] * len(q), {})

    def _walk(self, batch: Batch, q: Vector, visits: Vector) -> Outcome:
        """Follow the behavior in every instance, and update the visited (s, a)."""
        learner, simulator = self.learner, self.simulator
        world = {
            name: values for name, values in batch.state.items() if name not in self.traits.arrays
        }
        simulator.begin(batch.agents, batch.index)
        streams = Streams.of(self.task.seed, batch.agents, Purpose.BEHAVIOR, batch.index)
        own, loss = np.arange(len(q)), np.zeros(len(q))
        here: Numbers = np.argmax(simulator.observe(batch.agents, world), axis=-1)
        returns: list[list[float]] = [[] for _ in batch.agents]
        measures = {name: np.zeros(len(q)) for name in simulator.spec.measures}
        for _ in range(learner.steps):
            chances = learner.behavior.policy(
                q[own[:, None], here].astype(np.float64), batch.agents
            )
            action = search(running_sums(chances), streams.uniform(simulator.instances))
            step = simulator.step(world, action)
            found = np.argmax(step.next_obs, axis=-1)
            for j in range(simulator.instances):
                future = np.where(step.terminated[:, j], 0.0, q[own, found[:, j]].max(axis=-1))
                place = (own, here[:, j], action[:, j])
                apart = step.reward[:, j] + learner.gamma * future - q[place]
                q[place] += learner.lr * apart
                visits[place] += 1.0
                loss += np.square(apart) / simulator.instances
            for i, j in zip(*np.nonzero(step.finished), strict=True):
                returns[i].append(float(step.returns[i, j]))
            for name, total in measures.items():
                total += step.measures[name].sum(axis=1) / (simulator.instances * learner.steps)
            here = np.argmax(step.obs, axis=-1)
        return self._outcome(batch, {**batch.state, **world}, loss, returns, measures)

    def _outcome(
        self,
        batch: Batch,
        state: State,
        loss: Array,
        returns: Sequence[Sequence[float]],
        measures: dict[str, Array],
    ) -> Outcome:
        steps = np.full(len(loss), self.traits.min_steps, dtype=np.int64)
        return Outcome(batch.parameters, state, steps, loss / self.learner.steps, returns, measures)

    @override
    def evaluate(
        self, agents: Sequence[int], parameters: Vector, episodes: int, index: int
    ) -> NDArray[np.float64] | None:
        """Return the mean return `(b,)` of each table's best actions, the first of equals."""
        if self.task.evaluator is None:
            return None

        def acting(kept: Kept) -> Act:
            nonlocal parameters
            own = parameters = parameters[kept]
            return lambda obs: self.act(agents, own, obs)

        return play(self.task.evaluator, acting, agents=agents, episodes=episodes, index=index)

    @override
    def act(
        self, agents: Sequence[int], parameters: Vector, obs: NDArray[np.float32]
    ) -> NDArray[np.generic]:
        return best_actions(self._tables(parameters), obs)

    @cached_property
    def optimum(self) -> Array:
        """Q* of the mean process, `(S, A)`."""
        values: Array = self.processes.mean().optimal(self.learner.gamma)[0]
        return values

    @override
    def problem(self) -> dict[str, NDArray[np.generic]]:
        """Return Q_star `(n, S, A)`, optimum `(S, A)`; P and R are the environment's."""
        return {"Q_star": self.processes.optimal(self.learner.gamma), "optimum": self.optimum}

    @override
    def error(self, parameters: Vector) -> tuple[float, float]:
        """Return (largest |Q - Q*| of the mean table, RMS over agents of ||Q_i - Q*||)."""
        apart = self._tables(parameters) - self.optimum
        distance = np.square(apart).sum(axis=(1, 2)).mean()
        return float(np.abs(apart.mean(axis=0)).max()), float(np.sqrt(distance))
