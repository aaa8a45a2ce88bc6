"""Policy gradients of tabular softmax policies, plain and natural, exact or from trajectories."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cached_property, partial
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray
from pydantic import Field
from typing_extensions import override

from p2pfrl.core.errors import ScenarioError
from p2pfrl.core.parameters import Layout, Tensor, Vector
from p2pfrl.core.rng import Purpose, Streams, generator
from p2pfrl.core.rule import rule
from p2pfrl.core.softmax import log_softmax, natural
from p2pfrl.learning.environments.base import Array
from p2pfrl.learning.learners.base import (
    Batch,
    Exchange,
    Learner,
    Objective,
    Outcome,
    Stack,
    State,
    Task,
    Traits,
)
from p2pfrl.learning.learners.joint import Games, together
from p2pfrl.learning.learners.processes import Numbers, Processes
from p2pfrl.learning.learners.softmax import (
    Exact,
    Paths,
    Sampled,
    Slope,
    SoftmaxPolicies,
    Sought,
    best_values,
    walk,
)

FISHER, FISHER_POLICY = "fisher", "fisher_policy"
_VISITS = "visits"
_PLAYED = "played"


@rule
class SoftmaxPG(Learner):
    """theta <- theta + lr grad J(theta), in float64, of pi(a|s) ~ exp(theta(s, a)).

    The first logits are given.

    J is the discounted return from the start distribution, without time limit, plus `entropy` times
    the discounted entropy of the policy. Exact: grad J(s, a) = d(s) pi(a|s) A(s, a) / (1 - gamma),
    from the tables; else the mean over environment.instances trajectories of GPOMDP. In the record,
    objective is the mean over agents of their J at the mean logits, and error what it falls short
    of the mean of every agent's own greatest J, which no common policy may reach where agents
    differ. With same_start = false agents add normal numbers of their own to the first logits.
    `problem.safetensors` has J_star `(n,)`.

    Agents that share a world with tables take the gradient against the policies that the others had
    at the start of the update; where it is not exact, from trajectories that all members of a world
    make together, one gradient an update. They also keep their average policy, the part `played`,
    which never travels. Then objective is the mean of J over agents, and error the exploitability
    of the average policies: the sum over the members of a world of what each could gain alone; the
    measure `gain` is that of each agent's policy before its update.

    References: Sutton, McAllester, Singh, Mansour, NeurIPS 1999; exact and tabular Agarwal, Kakade,
    Lee, Mahajan, "On the theory of policy gradient methods", JMLR 22, 2021, arXiv 1908.00261;
    averaged over unlike agents, with local steps, entropy and a bound (FedPG, RS-FedPG, b-RS-FedPG)
    Labbi et al., AISTATS 2026, arXiv 2505.23459.

    Attributes:
        gamma: discount.
        steps: gradient steps of one update.
        exact: take the gradient itself; one gradient counts as one environment step.
        horizon: steps of a trajectory, where it is not exact.
        entropy: lambda, the weight of -log pi(a|s) beside every reward.
        bound: logits are clipped to [-bound, bound] after every step; 0: they are not.
        logits: the first logits, one per action, the same in every state; zeros when left out.
        lr: step size.
    """

    is_natural: ClassVar[bool] = False
    gamma: float = Field(default=0.95, ge=0, lt=1)
    steps: int = Field(default=1, ge=1)
    exact: bool = True
    horizon: int = Field(default=100, ge=1)
    entropy: float = Field(default=0.0, ge=0)
    bound: float = Field(default=0.0, ge=0)
    logits: tuple[float, ...] = ()
    lr: float = Field(default=1.0, ge=0)

    @property
    @override
    def idle(self) -> tuple[str, ...]:
        """What concerns trajectories alone, where there are none."""
        return ("horizon", "damping")[: 1 + self.is_natural] if self.exact else ()

    @override
    def prepare(self, task: Task) -> SoftmaxStack:
        """Bind the options to a task.

        Raises:
            ScenarioError: the environment has no tables or other actions than `logits`; several
                steps of one gradient.
        """
        is_shared = task.simulator is not None and task.simulator.spec.members > 1
        name = "npg" if self.is_natural else "softmax_pg"
        return (
            GameStack(self, task)
            if is_shared
            else SoftmaxStack(self, task, Processes.of(task.simulator, name))
        )

    def direction(self, slope: Slope, policy: Array) -> Array:
        """Return the direction of a step: the gradient."""
        return slope.gradient


@rule
class NPG(SoftmaxPG):
    """theta <- theta + lr F(theta)^+ grad J(theta): natural policy gradient of tabular policies.

    F is the Fisher information of the policy.

    Exact: theta(s, a) += lr A(s, a) / (1 - gamma), so pi is multiplied by exp(lr A / (1 - gamma))
    and normalized, and from uniform policies J* - J_T <= log |A| / (lr T) + 1 / ((1 - gamma)^2 T)
    after T steps. In a matrix game with gamma = 0 these are exponential weights, as in Freund,
    Schapire, "Adaptive game playing using multiplicative weights", Games and Economic Behavior 29,
    1999: averages approach an equilibrium of a zero-sum game. From trajectories F is estimated too,
    and damped. With payload "gradient" agents send F_i^+ grad J_i, whose mean is not (sum F_i)^+
    sum grad J_i where agents differ; learner "softmax_pg" with payload "fisher" gives that.

    References: Kakade, "A natural policy gradient", NeurIPS 2001; Agarwal, Kakade, Lee, Mahajan,
    JMLR 22, 2021, arXiv 1908.00261, theorem 16.

    Attributes:
        damping: added to the diagonal of F, where it is estimated.
    """

    is_natural: ClassVar[bool] = True
    damping: float = Field(default=1e-3, gt=0)

    @override
    def direction(self, slope: Slope, policy: Array) -> Array:
        """Return F^+ grad J."""
        if slope.advantage is not None:
            return slope.advantage / (1.0 - self.gamma)
        return natural(slope.gradient, slope.visits, policy, self.damping)


_Field = Callable[[Array], Slope]


class SoftmaxStack(Stack, SoftmaxPolicies, Exchange, Objective):
    """Softmax policies of a population.

    Args:
        learner: options.
        task: with a simulator.
        processes: of all agents; of every agent among others, where it shares a world with them.
        personal: what every agent keeps beside its logits.
    """

    error_is = "value lost against one's own best"

    def __init__(
        self,
        learner: SoftmaxPG,
        task: Task,
        processes: Processes,
        personal: tuple[Tensor, ...] = (),
    ) -> None:
        self.learner = learner
        self.task = task
        self.processes = processes
        assert task.simulator is not None
        self._count = task.simulator.instances
        self.shape = self.processes.reward.shape[1:]
        if learner.logits and len(learner.logits) != self.shape[1]:
            raise ScenarioError(
                [f"learner.logits: expected {self.shape[1]} numbers, got {list(learner.logits)}"]
            )
        if task.gradient_only and learner.steps != 1:
            raise ScenarioError(
                [
                    f"learner.steps: must be 1 with exchange.payload = 'gradient', got {learner.steps}"
                ]
            )
        self.sought = Sought(learner.gamma, learner.entropy)
        self.evaluator = self.exchange = self.objective = self
        self.traits = Traits(
            layout=Layout((Tensor("actor", self.shape), *personal), "float64"),
            personal=tuple(tensor.part for tensor in personal),
            min_steps=learner.steps * (1 if learner.exact else self._count),
            fixed_steps=learner.exact,
            max_steps=learner.steps * self._count * learner.horizon,
            chunk=256,
            arrays=task.arrays,
            rate=0.0 if learner.bound else learner.lr * learner.steps,
            takes_corrections=True,
            gives_gradients=True,
            gives_returns=not learner.exact,
        )

    @override
    def start(self, agents: Sequence[int], *, same: bool) -> Vector:
        """Return the first logits `(b, stride)`, or those plus every agent's own normal numbers."""
        rows = self.layout.zeros(len(agents))
        tables = self._tables(rows)
        tables += np.array(self.learner.logits or 0.0)
        if not same:
            for table, agent in zip(tables, agents, strict=True):
                table += generator(self.task.seed, agent, Purpose.START).standard_normal(self.shape)
        return rows

    @override
    def init(self, agents: Sequence[int]) -> State:
        """Return how often the last gradient visited each state, `(b, S)`: zeros at first."""
        return {_VISITS: np.zeros((len(agents), self.shape[0]))}

    @override
    def offer_size(self, name: str) -> int | None:
        """Return how many numbers a gradient and the frequencies of states have.

        Raises:
            ScenarioError: another name, or the gradient is a natural one already.
        """
        if name not in (FISHER, FISHER_POLICY):
            return super().offer_size(name)
        if self.learner.is_natural:
            raise ScenarioError(
                [
                    f"exchange.payload: with {name!r} the coordinator takes the natural step: use learner "
                    "kind = 'softmax_pg', which gives plain gradients"
                ]
            )
        policy = self.layout.size if name == FISHER_POLICY else 0
        return int(self.layout.size + self.shape[0] + policy)

    @override
    def offer(self, name: str, agent: int, parameters: Vector, state: State) -> Vector:
        """Return the last update's gradient of -J, how often it visited each state, and the policy.

        An update that gives its gradient takes no step, so the policy is still the gradient's.
        """
        if name not in (FISHER, FISHER_POLICY):
            return super().offer(name, agent, parameters, state)
        gradient = np.asarray(state["gradient"])[0, : self.layout.size]
        found = [gradient, np.asarray(state[_VISITS])[0]]
        if name == FISHER_POLICY:
            found.append(np.exp(log_softmax(self._tables(parameters)))[0].ravel())
        return np.concatenate(found)

    @override
    def _tables(self, rows: Vector) -> Array:
        """Return the view `(b, S, A)` of the logits in rows `(b, stride)`."""
        logits = rows[:, : self.shape[0] * self.shape[1]]
        return np.asarray(logits.reshape(len(rows), *self.shape), dtype=np.float64)

    @override
    def update(self, batch: Batch) -> Outcome:
        """Take `steps` steps; the loss is the mean of -J, exact or estimated, before each."""
        learner, task, theta = self.learner, self.task, self._tables(batch.parameters)
        processes, agents = self._faced(batch)
        streams = (
            None
            if learner.exact
            else Streams.of(task.seed, batch.agents, Purpose.TRAJECTORIES, batch.index)
        )
        loss, taken = np.zeros(len(theta)), np.zeros(len(theta), dtype=np.int64)
        returns: list[list[float]] = [[] for _ in batch.agents]
        rows = np.zeros_like(batch.parameters)
        for _ in range(learner.steps):
            if streams is None:
                taken += 1
                field: _Field = Exact(processes, agents, self.sought)
            else:
                paths = self._walk(batch, theta, streams)
                taken += paths.is_alive.sum(axis=(1, 2)).astype(np.int64)
                for own, total in zip(returns, paths.reward.sum(axis=-1).tolist(), strict=True):
                    own.extend(total)
                field = Sampled(paths, self.sought)
            slope = field(theta)
            loss -= slope.value
            np.asarray(batch.state[_VISITS])[:] = slope.visits
            self._tables(rows)[:] = -learner.direction(slope, np.exp(log_softmax(theta)))
            if task.correction.bends:
                task.correction.adjust(
                    batch.parameters, rows, batch.state, partial(self._again, field)
                )
            if task.gradient_only:
                np.asarray(batch.state["gradient"])[:] = rows
                continue
            theta -= learner.lr * self._tables(rows)
            if learner.bound:
                np.clip(theta, -learner.bound, learner.bound, out=theta)
        return Outcome(batch.parameters, batch.state, taken, loss / learner.steps, returns)

    def _faced(self, batch: Batch) -> tuple[Processes, Numbers]:
        """Return processes, and which of them each agent of the batch is in."""
        return self.processes, np.asarray(batch.agents, dtype=np.intp)

    def _walk(self, batch: Batch, theta: Array, streams: Streams) -> Paths:
        """Return trajectories of the policies with these logits."""
        agents = np.asarray(batch.agents, dtype=np.intp)
        return walk(self.processes, agents, theta, streams, self._count, self.learner.horizon)

    def _again(self, field: _Field, rows: Vector) -> Vector:
        """Return the directions `(b, stride)` at other rows, on the same samples."""
        out, theta = np.zeros_like(rows), self._tables(rows)
        self._tables(out)[:] = -self.learner.direction(field(theta), np.exp(log_softmax(theta)))
        return out

    @cached_property
    def best(self) -> Array:
        """The greatest J of every agent, `(n,)`."""
        return best_values(self.processes, self.sought)

    @override
    def problem(self) -> dict[str, NDArray[np.generic]]:
        """Return J_star `(n,)` and start distributions `(n, S)`; P, R are the environment's."""
        return {"J_star": self.best, "start": self.processes.start}

    @override
    def error(self, parameters: Vector) -> tuple[float, float] | None:
        """Return (mean_i J_i at the mean logits, mean_i J*_i minus that)."""
        mean = self._tables(parameters).mean(axis=0)
        exact = Exact(self.processes, np.arange(len(self.processes)), self.sought)
        objective = float(exact(np.broadcast_to(mean, self.processes.reward.shape)).value.mean())
        return objective, float(self.best.mean()) - objective


class GameStack(SoftmaxStack):
    """Softmax policies of agents that share worlds given by tables.

    An update takes the policies of the other members as they are at its start. Beside its logits an
    agent keeps `played`, the sum of its policies at the start of its updates, which never travels:
    divided by their number it is the average policy.
    """

    error_is = "exploitability of the average policies"

    def __init__(self, learner: SoftmaxPG, task: Task) -> None:
        self.games = Games.of(task.simulator, "npg" if learner.is_natural else "softmax_pg")
        if not learner.exact and learner.steps != 1:
            reason = "must be 1 with exact = false where agents share a world, whose trajectories"
            fix = f"{reason} all of them make together; got {learner.steps}"
            raise ScenarioError([f"learner.steps: {fix}"])
        assert task.simulator is not None
        worlds, k, states, _ = self.games.reward.shape
        choices = task.simulator.spec.actions
        uniform = np.full((worlds, k, states, choices), 1.0 / choices)
        against = self.games.against(uniform)
        super().__init__(learner, task, against, (Tensor(_PLAYED, (states, choices)),))
        if (
            not learner.exact and np.ptp(self.games.goes_on) == 0.0
        ):  # episodes end at once, or never
            taken = self._count * (learner.horizon if self.games.goes_on.all() else 1)
            self.traits = replace(self.traits, min_steps=taken, fixed_steps=True, max_steps=taken)

    @override
    def init(self, agents: Sequence[int]) -> State:
        """Return how often states were visited, and the worlds, in which nobody takes a step."""
        assert self.task.simulator is not None
        return super().init(agents) | self.task.simulator.init(agents)

    @override
    def offer_size(self, name: str) -> int | None:
        return Exchange.offer_size(self, name)

    @override
    def update(self, batch: Batch) -> Outcome:
        """Take `steps` steps; the measure gain is what the agent could have gained alone before.

        Its sum over the members of a world is the exploitability of their policies.
        """
        policies, games = self._policies(batch.parameters), self._of(batch)
        gain = games.gains(policies, self.learner.gamma).reshape(-1)
        outcome = super().update(batch)
        self._sums(outcome.parameters)[:] += policies.reshape(-1, *self.shape)
        return replace(outcome, measures={"gain": gain})

    @override
    def _faced(self, batch: Batch) -> tuple[Processes, Numbers]:
        against = self._of(batch).against(self._policies(batch.parameters))
        return against, np.arange(len(batch.agents))

    @override
    def _walk(self, batch: Batch, theta: Array, streams: Streams) -> Paths:
        """Return trajectories of all members of each world together."""
        return together(self._of(batch), theta, streams, self._count, self.learner.horizon)

    def _of(self, batch: Batch) -> Games:
        """Return the worlds of a batch."""
        k = self.games.members
        return self.games.part([agent // k for agent in batch.agents[::k]])

    def _policies(self, rows: Vector) -> Array:
        """Return the policies `(G, k, S, A)` of rows `(G k, stride)`."""
        policies = np.exp(log_softmax(self._tables(rows)))
        return policies.reshape(-1, self.games.members, *self.shape)

    def _sums(self, rows: Vector) -> Array:
        """Return the view `(b, S, A)` of the sums of policies in rows `(b, stride)`."""
        first = self.layout.offsets[1]
        played = rows[:, first : first + self.shape[0] * self.shape[1]]
        return np.asarray(played.reshape(len(rows), *self.shape), dtype=np.float64)

    def averages(self, rows: Vector) -> Array:
        """Return the average policies `(b, S, A)` of rows; of an agent without any, its policy."""
        sums, policies = self._sums(rows), np.exp(log_softmax(self._tables(rows)))
        total = sums.sum(axis=-1, keepdims=True)
        return np.where(total > 0.0, sums / np.maximum(total, 1.0), policies)

    @override
    def problem(self) -> dict[str, NDArray[np.generic]]:
        """Return nothing more than the environment's P and R."""
        return {}

    @override
    def error(self, parameters: Vector) -> tuple[float, float] | None:
        """Return (mean_i J_i of the policies, exploitability of their averages, mean over worlds).

        None without all agents.
        """
        if len(parameters) != self.games.agents:
            return None
        gamma, k = self.learner.gamma, self.games.members
        objective = float(self.games.values(self._policies(parameters), gamma).mean())
        averages = self.averages(parameters).reshape(-1, k, *self.shape)
        return objective, float(self.games.gains(averages, gamma).sum(axis=1).mean())
