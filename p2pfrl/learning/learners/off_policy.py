"""Actor-critics that learn continuous actions from replay: act, and take gradient steps in turn.

The learners differ in their `Method`: what the actor's outputs mean, and what is maximized.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from typing_extensions import override

from p2pfrl.core.errors import ScenarioError
from p2pfrl.core.lazy import LazyModule
from p2pfrl.core.parameters import Vector, aligned_zeros
from p2pfrl.core.rng import Purpose, Streams
from p2pfrl.learning.actor_critics import ActorCritics
from p2pfrl.learning.environments.base import Simulator, Spec, Step
from p2pfrl.learning.learners.base import (
    Batch,
    Evaluator,
    Outcome,
    Stack,
    State,
    Task,
    Traits,
    start_rows,
)
from p2pfrl.learning.learners.from_replay import FromReplay
from p2pfrl.learning.learners.own_networks import own_network
from p2pfrl.learning.learners.targets import met
from p2pfrl.learning.lr_schedules import factors
from p2pfrl.learning.native.choice import native_members
from p2pfrl.learning.normalization import RETURNS, SPREAD, keep_personal, personal_parts, take_in
from p2pfrl.learning.optimizers import Adam, Factors, Optimizer
from p2pfrl.learning.replay_buffer import FILLED, ROWS, SEEN, ReplayBuffer, counts
from p2pfrl.learning.rollout import Act, Kept, Measures, note_returns, play
from p2pfrl.learning.squashed import Method

if TYPE_CHECKING:
    import torch
else:
    torch = LazyModule("torch")


class Deterministic(Evaluator):
    """Plays episodes of the actors' most likely actions.

    Args:
        network: of every agent.
        method: what the actor's outputs mean.
        spec: of the environments.
        evaluator: the environments; None: nothing is evaluated.
    """

    def __init__(
        self, network: ActorCritics, method: Method, spec: Spec, evaluator: Simulator | None
    ) -> None:
        self._network, self._method, self._evaluator = network, method, evaluator
        self._low, self._high = _bounds(spec)

    @override
    def evaluate(
        self, agents: Sequence[int], parameters: Vector, episodes: int, index: int
    ) -> NDArray[np.float64] | None:
        if self._evaluator is None:
            return None

        def acting(kept: Kept) -> Act:
            nonlocal parameters
            own = parameters = parameters[kept]
            return lambda obs: self.act(agents, own, obs)

        return play(self._evaluator, acting, agents=agents, episodes=episodes, index=index)

    @override
    def act(
        self, agents: Sequence[int], parameters: Vector, obs: NDArray[np.float32]
    ) -> NDArray[np.generic]:
        x = np.ascontiguousarray(obs.transpose(0, 2, 1))
        action = self._method.greedy(self._network.head(parameters, x))
        return _scaled(action.transpose(0, 2, 1), self._low, self._high)

    @override
    def average(self, agents: Sequence[int], parameters: Vector) -> Vector:
        """Return mean parameters; statistics of observations that are personal stay so."""
        mean = super().average(agents, parameters)
        keep_personal(self._network.normalizer, mean, parameters)
        return mean


_AHEAD, _AFTER, _STEPS, _ACTOR_STEPS = "ac_target", "ac_after", "ac_steps", "adam_actor_steps"
"""State arrays: the target networks `(b, stride)`, the networks after the last update `(b,
stride)`, and `(b,)` critics' steps and the actor's optimizer steps."""


class OffPolicyStack(Stack):
    """An actor-critic from replay, bound to a task.

    Args:
        name: of the learner, in messages.
        learner: its options.
        method: what its actor does.
        task: with a simulator of continuous actions.

    Raises:
        ScenarioError: no environment, discrete or unbounded actions, or options that exclude each
            other.
    """

    def __init__(self, name: str, learner: FromReplay, method: Method, task: Task) -> None:
        if task.simulator is None:
            raise ScenarioError([f"learner: {name} needs an environment"])
        spec, instances = task.simulator.spec, task.simulator.instances
        if spec.choices:
            reason = "needs continuous actions; dqn, ppo, a2c and reinforce learn discrete ones"
            raise ScenarioError([f"learner: {name} {reason}"])
        low, high = spec.action_low, spec.action_high
        if not np.isfinite((*low, *high)).all():
            reason = f"needs bounds of every action, got {list(low)} to {list(high)}; use ppo"
            raise ScenarioError([f"learner: {name} {reason}"])
        self.task, self.simulator, self.method = task, task.simulator, method
        self.learner = learner
        self._check(learner, instances)
        self._actions = len(spec.action_low)
        self._low, self._high = _bounds(spec)
        own = None
        if learner.policy:
            kind = own_network(stacked=learner.stacked)
            own = kind(learner.policy, False, spec.observation, method.outputs)
        self.network = ActorCritics(
            spec.observation,
            self._actions,
            method.outputs,
            hidden=learner.hidden,
            activation=learner.activation,
            temperature=method.temperature is None,
            normalizer=learner.normalizer(task),
            own=own,
        )
        self.reward_norm = learner.reward_norm(learner.gamma)
        rate = learner.lr if learner.critic_lr is None else learner.critic_lr
        optimizers = (Adam(learner.lr, eps=1e-8), Adam(rate, eps=1e-8))
        self.actor_optimizer, self.critic_optimizer = native_members(self.network, optimizers, task)
        is_native = self.network.critics.native is not None
        self.replay = ReplayBuffer(spec.observation, 0, learner.capacity, self._actions)
        self.evaluator = Deterministic(self.network, method, spec, task.evaluator)
        self.traits = Traits(
            layout=self.network.layout,
            min_steps=learner.steps * instances,
            chunk=8,
            moments=Adam.moments,
            squares=Adam.squares,
            counts=(*Adam.counts, _ACTOR_STEPS),
            arrays=task.arrays,
            personal=personal_parts(self.network.normalizer),
            acts_as_started=False,
            engine="native" if is_native else "torch",
        )

    def _check(self, learner: FromReplay, instances: int) -> None:
        if learner.steps % learner.train_every:
            reason = f"must divide steps = {learner.steps}; got {learner.train_every}"
            raise ScenarioError([f"learner.train_every: {reason}"])
        if learner.capacity < max(learner.learn_start, learner.steps * instances):
            raise ScenarioError(
                [
                    "learner.capacity: must hold learn_start and an update (steps x instances = "
                    f"{learner.steps * instances}); got {learner.capacity}"
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
            **self.critic_optimizer.init(self.layout, b),
            _ACTOR_STEPS: np.zeros(b, dtype=np.float32),
            _AHEAD: self.layout.zeros(b),
            _AFTER: self.layout.zeros(b),
            _STEPS: np.zeros(b, dtype=np.int64),
        }
        if self.reward_norm is not None:
            own |= self.reward_norm.init(b, self.simulator.instances)
        return own | self.replay.init(b) | self.simulator.init(agents)

    @override
    def update(self, batch: Batch) -> Outcome:
        """Act and learn in turn; the loss is the critics' mean over gradient steps, or 0."""
        learner, simulator, m = self.learner, self.simulator, self.simulator.instances
        rows, state, b = batch.parameters, dict(batch.state), len(batch.agents)
        self._meet(rows, state)
        kept = (*self._own, *self.traits.arrays, ROWS, FILLED, SEEN, _AFTER, RETURNS, SPREAD)
        world = {name: values for name, values in state.items() if name not in kept}
        chances = Streams.of(self.task.seed, batch.agents, Purpose.ACTION, batch.index)
        anything = chances.uniform(learner.steps, self._actions, m)
        noise = chances.normal(learner.steps, self._actions, m).astype(np.float32)
        draws = Streams.of(self.task.seed, batch.agents, Purpose.REPLAY, batch.index)
        returns: list[list[float]] = [[] for _ in batch.agents]
        measures = Measures(b, simulator.spec.measures, simulator.spec.counters)
        loss = np.zeros((2, b))
        rates = factors(learner.lr_schedule, batch.index)
        simulator.begin(batch.agents, batch.index)
        current = simulator.observe(batch.agents, world)
        seen: list[NDArray[np.float32]] = []
        earned: list[Step] = []
        for t in range(learner.steps):
            action = self._act(rows, state, current, anything[:, t], noise[:, t])
            step = simulator.step(world, _scaled(action, self._low, self._high))
            self.replay.add(state, current, action, step)
            seen.append(current)
            earned.append(step)
            note_returns(step, returns)
            measures.add(step)
            if (t + 1) % learner.train_every == 0:
                places = draws.uniform(learner.batch_size)
                shape = (2, self._actions, learner.batch_size)
                drawn = draws.normal(*shape).astype(np.float32)
                self._learn(rows, state, places, drawn, loss, rates)
            current = step.obs
        take_in(self.network.normalizer, self.reward_norm, rows, state, seen, earned)
        state[_AFTER][:], state[SEEN][:] = rows, state[FILLED]
        mean = np.divide(loss[0], loss[1], out=np.zeros(b), where=loss[1] > 0)
        taken = np.full(b, learner.steps * m, dtype=np.int64)
        return Outcome(rows, state | world, taken, mean, returns, measures.means())

    @property
    def _own(self) -> tuple[str, ...]:
        """State arrays that a gradient step changes."""
        return (*self.traits.moments, *self.traits.counts, _AHEAD, _STEPS)

    def _meet(self, rows: Vector, state: State) -> None:
        """Move the target networks as the exchange moved the networks."""
        ahead = self.layout.zeros(len(rows))
        ahead[:] = state[_AHEAD]
        state[_AHEAD] = ahead
        after: Vector = state[_AFTER]  # type: ignore[assignment]
        met(self.learner.after_mixing, rows, ahead, after, state[SEEN] == 0)
        if self.network.normalizer is not None:
            self.network.normalizer.follow(ahead, rows)

    def _act(
        self,
        rows: Vector,
        state: State,
        obs: NDArray[np.float32],
        anything: NDArray[np.float64],
        noise: Vector,
    ) -> NDArray[np.float32]:
        """Return actions `(b, m, a)` in [-1, 1]: uniformly random before `learn_start`."""
        head = self.network.head(rows, np.ascontiguousarray(obs.transpose(0, 2, 1)))
        is_blind = counts(state)[:, None, None] < self.learner.learn_start
        chosen = self.method.explore(head, noise)
        action = np.where(is_blind, 2.0 * anything - 1.0, chosen).astype(np.float32)
        return np.ascontiguousarray(action.transpose(0, 2, 1))

    def _learn(
        self,
        rows: Vector,
        state: State,
        places: NDArray[np.float64],
        noise: Vector,
        loss: Vector,
        rates: Factors | None,
    ) -> None:
        """Take a gradient step, in place, with each agent whose buffer is full enough."""
        ready = np.flatnonzero(counts(state) >= self.learner.learn_start)
        if len(ready) == 0:
            return
        sample = self.replay.sample(state, ready, places[ready])
        if self.reward_norm is not None:
            own_spread = {SPREAD: state[SPREAD][ready]}
            sample[..., -2] = self.reward_norm.scaled(own_spread, sample[..., -2])
        noise = noise[ready]
        rates = None if rates is None else rates[ready]
        with _Part(rows, state, self._own, ready) as (own, picked):
            loss[0][ready] += self.step(own, picked, sample, noise, rates)
        loss[1][ready] += 1.0

    def step(
        self,
        rows: Vector,
        state: State,
        sample: Vector,
        noise: Vector,
        rates: Factors | None = None,
    ) -> Vector:
        """Take one step of the critics and, where it is due, of actor and targets.

        Args:
            rows: `(b, stride)`, changed in place.
            state: with moments, counts and targets, changed in place.
            sample: transitions `(b, B, width)`.
            noise: `(b, 2, a, B)`: of the successors' actions, and of the actor's.
            rates: `(b,)` factors of the learning rates.

        Returns:
            the critics' loss `(b,)`.
        """
        o, a = self.simulator.spec.observation, self._actions
        columns = np.ascontiguousarray(sample.transpose(0, 2, 1))
        obs, action = columns[:, :o], columns[:, 2 * o : 2 * o + a]
        gradient = self.layout.zeros(len(rows))
        wanted = self._wanted(rows, state, columns, noise[:, 0])
        loss = self._critic_gradient(rows, obs, action, wanted, gradient)
        columns_of, taken = self.network.critic_columns, state[Adam.counts[0]]
        _descend(self.critic_optimizer, rows, gradient, state, columns_of, taken, rates)
        steps: NDArray[np.int64] = state[_STEPS]  # type: ignore[assignment]
        steps += 1
        due = np.flatnonzero(steps % self.method.policy_every == 0)
        if len(due):
            with _Part(rows, state, self._own, due) as (own, picked):
                own_rates = None if rates is None else rates[due]
                x = np.ascontiguousarray(obs[due])
                self._improve(own, picked, x, noise[due, 1], own_rates)
        return loss

    def _wanted(self, rows: Vector, state: State, columns: Vector, noise: Vector) -> Vector:
        """Return r + gamma (1 - terminated) (min_k Q_k(s', a') - alpha log pi(a'|s')), `(b, B)`."""
        o = self.simulator.spec.observation
        ahead: Vector = state[_AHEAD]  # type: ignore[assignment]
        after = columns[:, o : 2 * o]
        actor = ahead if self.method.has_target_actor else rows
        then = self.method.follow(self.network.head(actor, after), noise)
        value = self.network.values(ahead, after, then.action).min(axis=1)
        future = value - self._alpha(rows)[:, :, 0] * then.log_prob
        scale, gamma = np.float32(self.learner.reward_scale), np.float32(self.learner.gamma)
        wanted: Vector = scale * columns[:, -2] + gamma * (1.0 - columns[:, -1]) * future
        return wanted

    def _critic_gradient(
        self, rows: Vector, obs: Vector, action: Vector, wanted: Vector, gradient: Vector
    ) -> Vector:
        """Write the gradient of sum_k mean (Q_k - wanted)^2 / 2; return that loss `(b,)`."""
        error = self.network.values(rows, obs, action) - wanted[:, None]
        slope = error / np.float32(error.shape[2])
        self.network.values_backward(rows, obs, action, slope, gradient)
        loss: Vector = (0.5 * np.square(error)).mean(axis=2).sum(axis=1)
        return loss

    def _improve(
        self, rows: Vector, state: State, obs: Vector, noise: Vector, rates: Factors | None
    ) -> None:
        """Take a step of the actor and of the temperature, and move the targets."""
        gradient = self.layout.zeros(len(rows))
        self._actor_gradient(rows, obs, noise, gradient)
        network, taken = self.network, state[_ACTOR_STEPS].copy()
        _descend(
            self.actor_optimizer,
            rows,
            gradient,
            state,
            network.actor_columns,
            state[_ACTOR_STEPS],
            rates,
        )
        if network.temperature is not None:
            columns = network.temperature_columns
            _descend(self.critic_optimizer, rows, gradient, state, columns, taken, rates)
        ahead: Vector = state[_AHEAD]  # type: ignore[assignment]
        ahead += np.float32(self.learner.tau) * (rows - ahead)

    def _actor_gradient(self, rows: Vector, obs: Vector, noise: Vector, gradient: Vector) -> None:
        """Write the gradient of mean(alpha log pi(a|s) - Q(s, a)), and that of the temperature.

        That of log alpha is -alpha (mean log pi(a|s) + entropy).
        """
        head, count = self.network.head(rows, obs), np.float32(obs.shape[2])
        chosen = self.method.choose(head, noise)
        values = self.network.values(rows, obs, chosen.action)
        share = self.method.share(values)
        ahead = self.network.values_backward(rows, obs, chosen.action, share, None)
        alpha = self._alpha(rows)
        slope = self.method.slope(head, noise, chosen.action, ahead, alpha) / count
        self.network.head_backward(rows, obs, slope, gradient)
        at = self.network.temperature
        if at is not None:
            apart = chosen.log_prob.mean(axis=1) + np.float32(self.method.entropy)
            gradient[:, at] = -alpha[:, 0, 0] * apart

    def _alpha(self, rows: Vector) -> Vector:
        """Return temperatures `(b, 1, 1)`."""
        at = self.network.temperature
        if at is None:
            fixed = 0.0 if self.method.temperature is None else self.method.temperature
            return np.full((len(rows), 1, 1), fixed, dtype=rows.dtype)
        alpha: Vector = np.exp(rows[:, at])[:, None, None]
        return alpha


class _Part:
    """Some rows of arrays, as arrays of their own where they are not all; written back at the end.

    Args:
        rows: `(b, stride)` parameters.
        state: state arrays.
        names: those of them that are wanted.
        part: which rows, ascending.
    """

    def __init__(
        self, rows: Vector, state: State, names: Sequence[str], part: NDArray[np.intp]
    ) -> None:
        self._rows, self._state, self._part = rows, state, part
        self._is_all = len(part) == len(rows)
        self._stride = rows.shape[1]
        self._picked = {name: state[name] for name in names}
        self._own = rows
        if not self._is_all:
            self._own = self._pick(rows)  # type: ignore[assignment]
            self._picked = {name: self._pick(values) for name, values in self._picked.items()}

    def _pick(self, values: NDArray[np.generic]) -> NDArray[np.generic]:
        """Return the rows, copied to where kernels want them."""
        if values.ndim != 2:
            return values[self._part]
        copied = aligned_zeros((len(self._part), self._stride), values.dtype)
        copied[:] = values[self._part]
        return copied

    def __enter__(self) -> tuple[Vector, State]:
        return self._own, self._picked

    def __exit__(self, *_: object) -> None:
        if self._is_all:
            return
        self._rows[self._part] = self._own
        for name, values in self._picked.items():
            self._state[name][self._part] = values


def _descend(
    optimizer: Optimizer,
    rows: Vector,
    gradient: Vector,
    state: State,
    columns: slice,
    steps: NDArray[np.generic],
    rates: Factors | None,
) -> None:
    """Take one optimizer step on some columns, counted in the array `steps` `(b,)`."""
    m, v = (state[name][:, columns] for name in Adam.moments)
    own: State = {Adam.moments[0]: m, Adam.moments[1]: v, Adam.counts[0]: steps}
    optimizer.bind(rows[:, columns], gradient[:, columns], own, rates)()


def _bounds(spec: Spec) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    low, high = (np.array(bound, dtype=np.float32) for bound in (spec.action_low, spec.action_high))
    return low, high


def _scaled(
    action: Vector, low: NDArray[np.float32], high: NDArray[np.float32]
) -> NDArray[np.generic]:
    """Return the environment's actions `(b, m, a)`: -1 and 1 become the bounds."""
    wide = low + (action + np.float32(1.0)) * (np.float32(0.5) * (high - low))
    return np.clip(wide, low, high).astype(np.float32)
