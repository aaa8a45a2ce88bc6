"""DQN: Q-learning with a network, a replay buffer and a target network."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field
from typing_extensions import override

from p2pfrl.core.errors import ScenarioError
from p2pfrl.core.lazy import LazyModule
from p2pfrl.core.options import Slot
from p2pfrl.core.parameters import Vector, aligned_zeros
from p2pfrl.core.rng import Purpose, Streams
from p2pfrl.core.rule import rule
from p2pfrl.core.types import TRANSITIONS
from p2pfrl.learning.distillation import TARGET, Distillation
from p2pfrl.learning.environments.base import Spec, Step
from p2pfrl.learning.environments.random_actions import chosen
from p2pfrl.learning.learners.base import (
    Batch,
    Exchange,
    Outcome,
    Stack,
    State,
    Task,
    Traits,
    start_rows,
)
from p2pfrl.learning.learners.distill import LOGITS, Distill, check_payload
from p2pfrl.learning.learners.episodes import rollout_steps
from p2pfrl.learning.learners.evaluation import Greedy
from p2pfrl.learning.learners.networked import Encoded
from p2pfrl.learning.learners.own_networks import own_network, refuse_layers
from p2pfrl.learning.learners.targets import AfterMixing, met
from p2pfrl.learning.lr_schedules import factors
from p2pfrl.learning.native.choice import native_layers
from p2pfrl.learning.native.library import Target
from p2pfrl.learning.native.q_learning import NativeQ
from p2pfrl.learning.networks import Network
from p2pfrl.learning.normalization import RETURNS, SPREAD, personal_parts, take_in
from p2pfrl.learning.optimizers import OPTIMIZERS, Factors
from p2pfrl.learning.policies import Categorical
from p2pfrl.learning.replay_buffer import FILLED, ROWS, SEEN, ReplayBuffer, counts
from p2pfrl.learning.rollout import Measures, note_returns

if TYPE_CHECKING:
    import torch
else:
    torch = LazyModule("torch")


@rule
class Share:
    """What payload "transitions" sends of an agent's experience.

    Attributes:
        count: transitions per exchange, of those of the last local update.
        select: the newest; or td_error, those with the largest |TD error|.
    """

    count: int = Field(default=32, ge=1)
    select: Literal["newest", "td_error"] = "newest"


@rule
class DQN(Encoded):
    """L = E[huber(Q(s,a) - y)], y = r + gamma (1 - terminated) max_a' Q_target(s',a').

    The loss is on transitions of a replay buffer.

    With `double` the target's action is that of Q: y = r + gamma (1 - terminated) Q_target(s',
    argmax_a' Q(s',a')). Where the time limit cut an episode the successor still has a value. The
    agent acts epsilon-greedily. Its part of the parameters is `actor`. An update takes `steps`
    steps of every instance, or whole `episodes`, and one gradient step after every `train_every`
    steps once the buffer holds `learn_start` transitions; the target network and the buffer stay
    with the agent.

    References: Mnih, Kavukcuoglu, Silver et al., "Human-level control through deep reinforcement
    learning", Nature 518, 2015; van Hasselt, Guez, Silver, "Deep reinforcement learning with double
    Q-learning", AAAI 2016, arXiv 1509.06461. Differs: Adam with eps 1e-5 by default, no stacked
    frames, gradients bounded by their norm; and `after_mixing`, since others' parameters would
    otherwise be measured against a target that knows nothing of them.

    Attributes:
        steps: of each instance per update; not with `episodes`.
        episodes: whole episodes per update; needs environment.instances = 1 and an environment with
            a time limit.
        gamma: discount.
        train_every: steps of each instance between gradient steps; divides `steps`, and goes on
            counting from one update of whole episodes to the next.
        batch_size: transitions of one gradient step, drawn uniformly with replacement.
        capacity: transitions that the buffer keeps: 4 (2 o + 3) bytes each for observations of o
            numbers.
        learn_start: transitions in the buffer before the first gradient step.
        epsilon_start: probability of a uniformly random action at first.
        epsilon_end: that probability in the end.
        epsilon_steps: environment steps of the agent over which it falls, linearly.
        target_every: gradient steps between copies of Q to the target network.
        double: the target's action is the online network's.
        after_mixing: what becomes of the target network once the exchange has changed Q: sync
            copies Q, shift moves it as far as Q was moved, keep leaves it.
        max_grad_norm: bound on the norm of an agent's gradient; 0 for none.
        optimizer: adam, rmsprop or sgd.
        reward_scale: multiplies rewards while learning (reported returns are not scaled); the Huber
            loss is quadratic up to a TD error of 1, so scale them such that most errors are below.
        hidden: sizes of the hidden layers.
        activation: of the hidden layers.
        policy: a network of one's own in place of the hidden layers, "module:Class" of a
            `torch.nn.Module` (learning/modules.py), whose outputs are values of actions. It is run
            agent by agent.
        stacked: run such a network for 16 agents at a time, by `torch.func.vmap`. It is tried
            first, and refused where an agent's numbers depend on those beside it.
        share: with payload "transitions", what is sent.
        distill: with payload "logits", how one learns from what comes back.
    """

    of_mixing: ClassVar[tuple[str, ...]] = ("after_mixing", "statistics")

    lr: float = Field(default=5e-4, ge=0)
    steps: int = Field(default=64, ge=1)
    episodes: int | None = Field(default=None, ge=1)
    gamma: float = Field(default=0.99, ge=0, le=1)
    train_every: int = Field(default=2, ge=1)
    batch_size: int = Field(default=64, ge=1)
    capacity: int = Field(default=10_000, ge=1)
    learn_start: int = Field(default=500, ge=1)
    epsilon_start: float = Field(default=1.0, ge=0, le=1)
    epsilon_end: float = Field(default=0.05, ge=0, le=1)
    epsilon_steps: int = Field(default=5_000, ge=1)
    target_every: int = Field(default=100, ge=1)
    double: bool = True
    after_mixing: AfterMixing = "shift"
    max_grad_norm: float = Field(default=10.0, ge=0)
    optimizer: Literal["adam", "rmsprop", "sgd"] = "adam"
    reward_scale: float = Field(default=0.1, gt=0)
    hidden: tuple[int, ...] = (64, 64)
    activation: Literal["tanh", "relu"] = "relu"
    policy: str = ""
    stacked: bool = False
    share: Annotated[Share, Slot(Share)] = Field(default_factory=Share)
    distill: Annotated[Distill, Slot(Distill)] = Field(default_factory=Distill)

    @override
    def prepare(self, task: Task) -> Stack:
        """Bind the options to a task.

        Raises:
            ScenarioError: it has no environment, continuous actions, or options that exclude each
                other.
        """
        return DQNStack(self, self.seen(task))


def _network(learner: DQN, task: Task, spec: Spec) -> Network:
    """Return Q: layers, or a network of the user's own."""
    normalizer = learner.normalizer(task)
    if learner.policy:
        refuse_layers(learner)
        kind = own_network(stacked=learner.stacked)
        return kind(learner.policy, False, spec.observation, spec.actions, normalizer=normalizer)
    return Network(
        spec.observation,
        spec.actions,
        hidden=learner.hidden,
        activation=learner.activation,
        critic=False,
        normalizer=normalizer,
        image=learner.image(task),
    )


_AHEAD, _AFTER, _STEPS, _TAKEN = "dqn_target", "dqn_after", "dqn_steps", "dqn_taken"
"""State arrays: the target network, Q after the last update, the gradient steps, and, where updates
are of whole episodes, the environment steps of all updates and of the last one.

Their shapes are `(b, stride)`, `(b, stride)`, `(b,)` and `(b, 2)`.
"""


class DQNStack(Stack, Exchange):
    """DQN bound to a task.

    Args:
        learner: its options.
        task: with a simulator of discrete actions.
    """

    def __init__(self, learner: DQN, task: Task) -> None:
        if task.simulator is None:
            raise ScenarioError(["learner: dqn needs an environment"])
        spec = task.simulator.spec
        if not spec.actions:
            got = f"several at once, {list(spec.heads)}" if spec.heads else "continuous ones"
            raise ScenarioError(
                [
                    f"learner: dqn needs one discrete action, and the environment takes {got}; "
                    "ppo, a2c and reinforce learn these"
                ]
            )
        self.learner, self.task, self.simulator = learner, task, task.simulator
        self._steps = rollout_steps(task, learner.steps, learner.episodes)
        self._check(learner, task.simulator.instances)
        self.policy = Categorical(spec.actions, is_masked=spec.is_masked)
        self.network = _network(learner, task, spec)
        self.reward_norm = learner.reward_norm(learner.gamma)
        self.optimizer = OPTIMIZERS[learner.optimizer](learner.lr)
        native = native_layers(self.network, self.optimizer, task, learner.max_grad_norm)
        self._native: NativeQ | None = None
        if native is not None:
            self.optimizer = native
            if self.network.normalizer is None:
                target = Target(learner.double, spec.is_masked, learner.reward_scale, learner.gamma)
                self._native = NativeQ(self.network, native, target)
        self._clips = learner.max_grad_norm > 0 and native is None
        self.traits = Traits(
            layout=self.network.layout,
            min_steps=learner.episodes or learner.steps * task.simulator.instances,
            fixed_steps=learner.episodes is None,
            max_steps=self._steps * task.simulator.instances,
            chunk=32 if learner.episodes is None and learner.encoder == "none" else 1,
            moments=self.optimizer.moments,
            squares=self.optimizer.squares,
            counts=self.optimizer.counts,
            arrays=task.arrays,
            takes_corrections=True,
            personal=personal_parts(self.network.normalizer),
            acts_as_started=False,
            engine="torch" if native is None else "native",
        )
        self.replay = ReplayBuffer(spec.observation, spec.actions, learner.capacity)
        self.evaluator = Greedy(self.network, self.policy, task.evaluator)
        self.exchange, self.distillation = self, None
        if task.offer == LOGITS:
            self.exchange = self.distillation = Distillation(
                learner.distill, self.network, task.simulator, task.seed
            )

    def _check(self, learner: DQN, instances: int) -> None:
        check_payload(self.task, "share", learner.share, Share(), TRANSITIONS)
        check_payload(self.task, "distill", learner.distill, Distill(), LOGITS)
        if learner.episodes is None and learner.steps % learner.train_every:
            reason = f"must divide steps = {learner.steps}; got {learner.train_every}"
            raise ScenarioError([f"learner.train_every: {reason}"])
        if learner.capacity < max(self._steps * instances, learner.learn_start):
            most = "steps x instances" if learner.episodes is None else "episodes x time limit"
            raise ScenarioError(
                [
                    f"learner.capacity: must hold learn_start and an update ({most} = {self._steps * instances}); "
                    f"got {learner.capacity}"
                ]
            )
        if learner.episodes is not None:
            return
        if self.task.offer == TRANSITIONS and learner.share.count > learner.steps * instances:
            raise ScenarioError(
                [
                    f"learner.share.count: an update has steps x instances = {learner.steps * instances} transitions"
                ]
            )

    @override
    def start(self, agents: Sequence[int], *, same: bool) -> Vector:
        draw = self.network.start
        return start_rows(self.layout, draw, self.task.seed, agents, same=same)

    @override
    def init(self, agents: Sequence[int]) -> State:
        """Return moments, target networks, empty buffers and environments.

        Torch has one thread from here on.
        """
        torch.set_num_threads(1)
        b = len(agents)
        own: State = {
            _AHEAD: self.layout.zeros(b),
            _AFTER: self.layout.zeros(b),
            _STEPS: np.zeros(b, dtype=np.int64),
        }
        if self.learner.episodes is not None:
            own[_TAKEN] = np.zeros((b, 2), dtype=np.int64)
        targets = {} if self.distillation is None else self.distillation.init(b)
        if self.reward_norm is not None:
            own |= self.reward_norm.init(b, self.simulator.instances)
        return (
            self.optimizer_state(b)
            | own
            | targets
            | self.replay.init(b)
            | self.simulator.init(agents)
        )

    def optimizer_state(self, rows: int) -> State:
        """Return the optimizer's moments and step counts before the first step."""
        return self.optimizer.init(self.layout, rows)

    @override
    def update(self, batch: Batch) -> Outcome:
        """Act and learn in turn; the loss is the mean over gradient steps, 0 without any."""
        learner, simulator, m = self.learner, self.simulator, self.simulator.instances
        rows, state, b = batch.parameters, dict(batch.state), len(batch.agents)
        self._meet(rows, state)
        kept = (
            *self.traits.moments,
            *self.traits.counts,
            *self.traits.arrays,
            _AHEAD,
            _AFTER,
            _STEPS,
            _TAKEN,
            ROWS,
            FILLED,
            SEEN,
            TARGET,
            RETURNS,
            SPREAD,
        )
        world = {name: values for name, values in state.items() if name not in kept}
        chances = Streams.of(self.task.seed, batch.agents, Purpose.ACTION, batch.index).uniform(
            self._steps, 2, m
        )
        draws = Streams.of(self.task.seed, batch.agents, Purpose.REPLAY, batch.index)
        before, begun = np.asarray(batch.index, dtype=np.int64)[:, None] * self.traits.min_steps, 0
        if learner.episodes is not None:
            assert b == 1, "others would stop elsewhere"
            before = state[_TAKEN][:, :1].astype(np.int64)
            begun = int(before[0, 0])
        returns: list[list[float]] = [[] for _ in batch.agents]
        measures = Measures(b, simulator.spec.measures, simulator.spec.counters)
        loss = np.zeros((2, b))
        rates = factors(learner.lr_schedule, batch.index)
        simulator.begin(batch.agents, batch.index)
        current = simulator.observe(batch.agents, world)
        seen: list[NDArray[np.float32]] = []
        earned: list[Step] = []
        for t in range(self._steps):
            action = self._act(rows, current, chances[:, t], before + t * m)
            step = simulator.step(world, action)
            self.replay.add(state, current, action, step)
            seen.append(current)
            earned.append(step)
            note_returns(step, returns)
            measures.add(step)
            if (begun + t + 1) % learner.train_every == 0:
                self._learn(rows, state, draws.uniform(learner.batch_size), loss, rates)
            current = step.obs
            if learner.episodes is not None and len(returns[0]) >= learner.episodes:
                break
        take_in(self.network.normalizer, self.reward_norm, rows, state, seen, earned)
        state[_AFTER][:], state[SEEN][:] = rows, state[FILLED]
        mean = np.divide(loss[0], loss[1], out=np.zeros(b), where=loss[1] > 0)
        taken = np.full(b, (t + 1) * m, dtype=np.int64)
        if learner.episodes is not None:
            state[_TAKEN] = np.concatenate([before + taken[:, None], taken[:, None]], axis=1)
        return Outcome(rows, state | world, taken, mean, returns, measures.means())

    def _meet(self, rows: Vector, state: State) -> None:
        """Move the target networks as the exchange moved Q; at the very first they are Q."""
        ahead = self.layout.zeros(len(rows))
        ahead[:] = state[_AHEAD]
        state[_AHEAD] = ahead
        after: Vector = state[_AFTER]  # type: ignore[assignment]
        met(self.learner.after_mixing, rows, ahead, after, state[SEEN] == 0)
        if self.network.normalizer is not None:
            self.network.normalizer.follow(ahead, rows)

    def _act(
        self, rows: Vector, obs: NDArray[np.float32], chances: Vector, taken: NDArray[np.int64]
    ) -> Vector:
        """Return epsilon-greedy actions `(b, m)`.

        Args:
            rows: parameters.
            obs: `(b, m, o)`.
            chances: uniform numbers `(b, 2, m)`.
            taken: `(b, 1)` environment steps so far.
        """
        learner = self.learner
        share = np.minimum(taken / learner.epsilon_steps, 1.0)
        epsilon = learner.epsilon_start + (learner.epsilon_end - learner.epsilon_start) * share
        x = obs.transpose(0, 2, 1)
        best = self.policy.legal(self._values(rows, x), x).argmax(axis=1)
        anything = (chances[:, 1] * self.policy.outputs).astype(np.int64)
        if mask := self.simulator.spec.mask:
            anything = chosen(obs[..., -mask:], chances[:, 1])
        action: Vector = np.where(chances[:, 0] < epsilon, anything, best)
        return action

    def _values(self, rows: Vector, x: Vector) -> Vector:
        """Return Q `(b, actions, B)` of observations `(b, o, B)`."""
        out = aligned_zeros((len(rows), self.network.outputs, x.shape[2]), rows.dtype)
        self.network.forward(rows, np.ascontiguousarray(x), out)
        return out

    def _learn(
        self,
        rows: Vector,
        state: State,
        uniform: NDArray[np.float64],
        loss: Vector,
        rates: Factors | None,
    ) -> None:
        """Take a gradient step, in place, with each agent whose buffer is full enough.

        Args:
            rows: parameters.
            state: with the buffers.
            uniform: `(b, batch_size)` uniform numbers, which choose transitions.
            loss: `(2, b)` the sum of the losses, and their number.
            rates: `(b,)` factors of the learning rate.
        """
        ready = np.flatnonzero(counts(state) >= self.learner.learn_start)
        if len(ready) == 0:
            return
        sample = self.replay.sample(state, ready, uniform[ready])
        if self.reward_norm is not None:
            own_spread = {SPREAD: state[SPREAD][ready]}
            sample[..., -2] = self.reward_norm.scaled(own_spread, sample[..., -2])
        rates = None if rates is None else rates[ready]
        own = {name: values for name, values in state.items() if name != ROWS}
        if len(ready) == len(rows):
            loss[0] += self._step(rows, own, sample, rates)
        else:
            part = aligned_zeros((len(ready), rows.shape[1]), rows.dtype)
            part[:] = rows[ready]
            picked = {name: self._pick(values, ready) for name, values in own.items()}
            loss[0][ready] += self._step(part, picked, sample, rates)
            rows[ready] = part
            for name, values in picked.items():
                state[name][ready] = values
        loss[1][ready] += 1.0

    def _pick(self, values: NDArray[np.generic], ready: NDArray[np.intp]) -> NDArray[np.generic]:
        """Return the rows `ready`, copied to where kernels want them."""
        if values.ndim != 2 or values.shape[1] != self.layout.stride:
            return values[ready]
        copied = self.layout.zeros(len(ready))
        copied[:] = values[ready]
        return copied

    def _step(
        self, rows: Vector, state: State, sample: Vector, rates: Factors | None = None
    ) -> Vector:
        """Take one gradient step on `sample` `(b, B, width)`; return the loss `(b,)`."""
        ahead: Vector = state[_AHEAD]  # type: ignore[assignment]
        is_bent = self.distillation is not None or self.task.correction.bends
        if self._native is not None and not is_bent:
            loss = _huber(self._native.step(rows, ahead, sample, state, rates))
        else:
            loss = self._descend(rows, state, sample, rates)
        steps: NDArray[np.int64] = state[_STEPS]  # type: ignore[assignment]
        steps += 1
        is_due = steps % self.learner.target_every == 0
        ahead[is_due] = rows[is_due]
        return loss

    def _descend(self, rows: Vector, state: State, sample: Vector, rates: Factors | None) -> Vector:
        """Take a step on the gradient and what distillation and correction make of it."""
        gradient = self.layout.zeros(len(rows))
        ahead: Vector = state[_AHEAD]  # type: ignore[assignment]
        loss = self._gradient(sample, ahead, rows, gradient)
        if self.distillation is not None:
            loss = loss + self.distillation.add(rows, state, gradient)
        if self.task.correction.bends:
            self.task.correction.adjust(rows, gradient, state, partial(self._again, sample, ahead))
            if self.network.normalizer is not None:
                gradient[:, self.network.normalizer.columns] = 0.0
            if self.network.fixed.size:
                gradient[:, self.network.fixed] = 0.0
        if self._clips:
            norm = np.sqrt(np.matmul(gradient[:, None], gradient[:, :, None]))[:, 0]
            gradient *= np.minimum(
                self.learner.max_grad_norm / (norm + np.float32(1e-6)), np.float32(1.0)
            )
        self.optimizer.bind(rows, gradient, state, rates)()
        return loss

    def _errors(
        self, sample: Vector, ahead: Vector, rows: Vector
    ) -> tuple[Vector, NDArray[np.int64], Vector]:
        """Return TD errors `(b, 1, B)`, actions `(b, 1, B)` and observations `(b, o, B)`."""
        o, learner = self.simulator.spec.observation, self.learner
        columns = np.ascontiguousarray(sample.transpose(0, 2, 1))
        x, after = columns[:, :o], columns[:, o : 2 * o]
        action, reward, terminated = (
            columns[:, -3:-2].astype(np.int64),
            columns[:, -2:-1],
            columns[:, -1:],
        )
        future = self.policy.legal(self._values(ahead, after), after)
        if learner.double:
            own = self.policy.legal(self._values(rows, after), after)
            best = own.argmax(axis=1, keepdims=True)
            future = np.take_along_axis(future, best, axis=1)
        else:
            future = future.max(axis=1, keepdims=True)
        scale, gamma = np.float32(learner.reward_scale), np.float32(learner.gamma)
        wanted = scale * reward + gamma * (1.0 - terminated) * future
        x = np.ascontiguousarray(x)
        return np.take_along_axis(self._values(rows, x), action, axis=1) - wanted, action, x

    def _gradient(self, sample: Vector, ahead: Vector, rows: Vector, gradient: Vector) -> Vector:
        """Write the gradient of the Huber loss; return the loss `(b,)`.

        The target is a constant in it.
        """
        if self._native is not None:
            return _huber(self._native.gradient(rows, ahead, sample, gradient))
        error, action, x = self._errors(sample, ahead, rows)
        slope = np.zeros((len(rows), self.network.outputs, error.shape[2]), dtype=rows.dtype)
        np.put_along_axis(
            slope, action, np.clip(error, -1.0, 1.0) / np.float32(error.shape[2]), axis=1
        )
        self.network.backward(rows, x, slope, gradient)
        return _huber(error[:, 0])

    def _again(self, sample: Vector, ahead: Vector, rows: Vector) -> Vector:
        """Return the gradient of the same samples at other parameters, a new array."""
        gradient = self.layout.zeros(len(rows))
        self._gradient(sample, ahead, rows, gradient)
        return gradient

    @override
    def offer_size(self, name: str) -> int | None:
        if name != TRANSITIONS:
            return super().offer_size(name)
        return self.learner.share.count * self.replay.width

    @override
    def offer(self, name: str, agent: int, parameters: Vector, state: State) -> Vector:
        """Return transitions of the last update, as `share` chooses them."""
        if name != TRANSITIONS:
            return super().offer(name, agent, parameters, state)
        taken = int(state[_TAKEN][0, 1]) if _TAKEN in state else self.traits.min_steps
        share, rows = self.learner.share, self.replay.fresh(state, taken, self.learner.share.count)
        if share.select == "td_error":
            ahead: Vector = state[_AHEAD]  # type: ignore[assignment]
            is_there = self.replay.present(rows)
            sample = np.where(is_there[:, None], rows, 0.0).astype(np.float32)[None]
            if self.reward_norm is not None:
                sample[..., -2] = self.reward_norm.scaled(state, sample[..., -2])
            error = np.where(
                is_there, np.abs(self._errors(sample, ahead, parameters)[0][0, 0]), -1.0
            )
            rows = rows[np.argsort(error, kind="stable")]
        return rows[-share.count :].ravel()

    @override
    def receive(self, name: str, agent: int, state: State, received: Mapping[int, Vector]) -> None:
        """Put others' transitions into the buffer."""
        if name != TRANSITIONS:
            super().receive(name, agent, state, received)
        self.replay.receive(state, received)


def _huber(error: Vector) -> Vector:
    """Return the mean Huber losses `(b,)` of TD errors `(b, B)`."""
    size = np.abs(error)
    loss: Vector = np.where(size <= 1.0, 0.5 * np.square(error), size - 0.5).mean(axis=1)
    return loss
