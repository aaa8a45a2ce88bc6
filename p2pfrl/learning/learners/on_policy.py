"""On-policy learners: roll out, learn, evaluate; losses and targets differ."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from typing_extensions import override

from p2pfrl.core.errors import ScenarioError
from p2pfrl.core.lazy import LazyModule
from p2pfrl.core.parameters import Vector
from p2pfrl.core.rng import Purpose, Streams
from p2pfrl.learning.acting import Acting
from p2pfrl.learning.descent import Descent, Plan
from p2pfrl.learning.distillation import TARGET, Distillation, NetworkImitation, can_visit
from p2pfrl.learning.environments.base import Simulator
from p2pfrl.learning.learners.base import (
    Batch,
    Outcome,
    PooledTraining,
    Stack,
    State,
    Task,
    Traits,
    start_rows,
)
from p2pfrl.learning.learners.distill import LOGITS, Distill, check_payload
from p2pfrl.learning.learners.evaluation import GreedyAndDivergence, Remembering
from p2pfrl.learning.learners.own_networks import Layered, own_network, refuse_layers
from p2pfrl.learning.lr_schedules import Constant, factors
from p2pfrl.learning.native.choice import is_chosen
from p2pfrl.learning.networks import Network
from p2pfrl.learning.normalization import RETURNS, SPREAD, personal_parts
from p2pfrl.learning.optimizers import SGD, Keep, Optimizer
from p2pfrl.learning.policies import policy_of
from p2pfrl.learning.recurrent import MEMORY, RecurrentNetwork
from p2pfrl.learning.rollout import Rollout

if TYPE_CHECKING:
    import torch
else:
    torch = LazyModule("torch")

_ON_DEVICE = 16_384
"""Agents that are computed at once on a device."""


EXPLAINED = "explained_variance"
"""Measure of learners with a critic."""


class OnPolicyStack(Stack, PooledTraining):
    """A learner on fresh experience, bound to a task.

    Args:
        task: with a simulator.
        build: makes the network from (inputs, policy outputs, has log std, plan).
        optimizer: of all parameters.
        plan: how an update uses its rollout.
        distill: how it learns from a mixture of policies, with payload "logits"; None: it does not.
    """

    def __init__(
        self,
        task: Task,
        build: Callable[[int, int, bool, Plan], Network],
        optimizer: Optimizer,
        plan: Plan,
        distill: Distill | None,
    ) -> None:
        if task.simulator is None:
            raise ScenarioError(
                ["learner: this kind needs an environment; only quadratic has none"]
            )
        self.simulator: Simulator = task.simulator
        self.task = task
        self.plan = plan
        self.optimizer = optimizer = Keep() if task.gradient_only else optimizer
        self.policy = policy_of(task.simulator.spec)
        self.network = build(
            task.simulator.spec.observation,
            self.policy.outputs,
            self.policy.has_log_std,
            plan,
        )
        self.distillation = None
        if distill is not None:
            check_payload(task, "distill", distill, Distill(), LOGITS)
            if task.offer == LOGITS:
                self.distillation = Distillation(distill, self.network, task.simulator, task.seed)
                self.exchange = self.distillation
        self.evaluator = GreedyAndDivergence(
            self.network, self.policy, task.evaluator, task.simulator
        )
        self.acting = Acting(self.network, self.policy, task.simulator, plan.targets)
        if plan.sequences:
            self._check_memory(plan, task)
            self.evaluator = Remembering(self.network, self.policy, task.evaluator)
        if plan.normalizer is None and plan.reward_norm is None and not plan.sequences:
            self.pooled = self
        personal = personal_parts(plan.normalizer)
        if (
            task.simulator.spec.actions
            and can_visit(task.simulator)
            and not personal
            and not plan.sequences
        ):
            self.imitation = NetworkImitation(self.network, task.simulator, task.seed)
        self._descent: Descent
        engine = self._choose_engine(optimizer)
        fixed_steps, instances = plan.episodes is None, task.simulator.instances
        min_steps = plan.steps * instances
        if plan.episodes is not None:
            min_steps = min(task.correction.batches(plan.episodes))
        if fixed_steps and min_steps % plan.minibatches:
            reason = f"must divide steps x instances = {min_steps}; got {plan.minibatches}"
            raise ScenarioError([f"learner.num_minibatches: {reason}"])
        rate = 0.0
        is_constant = isinstance(plan.lr_schedule, Constant)
        if isinstance(optimizer, SGD) and not plan.max_grad_norm and is_constant:
            rate = optimizer.lr * plan.epochs * plan.minibatches
        self.traits = Traits(
            layout=self.network.layout,
            min_steps=min_steps,
            fixed_steps=fixed_steps,
            max_steps=plan.steps * instances,
            chunk=self._chunk(plan),
            moments=optimizer.moments,
            squares=optimizer.squares,
            counts=optimizer.counts,
            arrays=task.arrays,
            rate=rate,
            takes_corrections=True,
            gives_gradients=True,
            takes_guides=True,
            takes_episodes=not fixed_steps,
            personal=personal,
            engine=engine,
        )

    def _choose_engine(self, optimizer: Optimizer) -> str:
        """Let the engine of the task act, evaluate and take the steps; return its name."""
        network, policy, task = self.network, self.policy, self.task
        parts = (network, policy, optimizer, self.plan, task, self.distillation)
        if task.device != "cpu":
            from p2pfrl.learning.device import DeviceDescent, available

            self._descent = DeviceDescent(*parts, device=available(task.device))
            return f"torch on {task.device}"
        if task.engine == "torch" or not is_chosen(*parts):
            self._descent = Descent(*parts)
            return "torch"
        from p2pfrl.learning.native.acting import NativeActing, NativeGreedy
        from p2pfrl.learning.native.descent import NativeDescent
        from p2pfrl.learning.native.library import orthogonal

        network.orthogonal = orthogonal
        self._descent = descent = NativeDescent(*parts)
        self.acting = NativeActing(
            descent.engine,
            network,
            policy,
            self.simulator,
            self.plan.targets,
            keeps_layers=descent.takes_layers,
        )
        self.evaluator = NativeGreedy(
            descent.engine, network, policy, task.evaluator, self.simulator
        )
        return "native"

    def _chunk(self, plan: Plan) -> int:
        """Return how many agents to compute at once: few for a cache, many for a device."""
        if plan.episodes is not None or plan.image is not None:
            return 1
        return 64 if self.task.device == "cpu" else _ON_DEVICE

    def _check_memory(self, plan: Plan, task: Task) -> None:
        if task.offer == LOGITS:
            reason = "payload 'logits' needs policies without a memory"
            raise ScenarioError([f"learner.memory: {reason}"])
        if plan.sequences % plan.minibatches:
            reason = f"must divide environment.instances = {plan.sequences} with learner.memory"
            raise ScenarioError([f"learner.num_minibatches: {reason}; got {plan.minibatches}"])

    @override
    def start(self, agents: Sequence[int], *, same: bool) -> Vector:
        draw = self.network.start
        return start_rows(self.layout, draw, self.task.seed, agents, same=same)

    @override
    def init(self, agents: Sequence[int]) -> State:
        """Return the optimizer's moments and the environments, one row each.

        Torch has one thread from here on. With the native engine it is not even imported, unless a
        part of the loss is left to it.
        """
        is_guided = self.task.correction.guided_by is not None
        if self.traits.engine == "torch" or is_guided or self.distillation is not None:
            torch.set_num_threads(1)
        targets = {} if self.distillation is None else self.distillation.init(len(agents))
        rewards: State = {}
        if self.plan.reward_norm is not None:
            rewards = self.plan.reward_norm.init(len(agents), self.simulator.instances)
        own = self.optimizer_state(len(agents)) | targets | rewards
        if self.plan.sequences:
            shape = (len(agents), self.simulator.instances, self.network.remembered)
            own[MEMORY] = np.zeros(shape, dtype=np.float32)
        return own | self.simulator.init(agents)

    def optimizer_state(self, rows: int) -> State:
        """Return the optimizer's moments and step counts before the first step."""
        return self.optimizer.init(self.layout, rows)

    @override
    def update(self, batch: Batch) -> Outcome:
        """Roll out, then take epochs x minibatches optimizer steps."""
        rollout, state = self._roll_out(batch)
        scale = self.plan.reward_norm
        if scale is not None:
            scale.absorb(state, rollout.reward, rollout.finished)
            rollout = replace(rollout, reward=scale.scaled(state, rollout.reward))
        packed = self.acting.pack(batch.parameters, rollout)
        # Nobody draws the order of one minibatch.
        drawn = (batch.agents, batch.index) if self.plan.minibatches > 1 else ([], [])
        streams = Streams.of(self.task.seed, drawn[0], Purpose.MINIBATCH, drawn[1])
        episodes = (
            _episodes(rollout)
            if self.task.correction.bends and self.plan.minibatches == 1
            else None
        )
        rates = factors(self.plan.lr_schedule, batch.index)
        accuracy = self._accuracy(rollout, packed)
        loss = self._descent.learn(
            batch.parameters, state, packed, streams, episodes, rates, rollout.layers
        )
        if self.plan.normalizer is not None:
            self.plan.normalizer.absorb(batch.parameters, rollout.obs[:, self.network.extra :])
        return self._outcome(batch, state, rollout, loss, accuracy)

    @override
    def collect(self, batch: Batch) -> Outcome:
        """Roll out; a transition is (obs, action, log prob, advantage, value target)."""
        rollout, state = self._roll_out(batch)
        packed = self.acting.pack(batch.parameters, rollout)
        loss = np.zeros(len(packed))
        outcome = self._outcome(batch, state, rollout, loss, self._accuracy(rollout, packed))
        return replace(outcome, transitions=packed.reshape(len(packed), -1))

    @override
    def learn(
        self, parameters: Vector, state: State, transitions: Sequence[Vector], index: int
    ) -> float:
        """Take epochs x minibatches steps on the transitions of all agents together."""
        o, w = self.simulator.spec.observation, self.policy.width
        packed = np.concatenate(transitions).reshape(1, -1, o + w + 3)
        streams = Streams.of(self.task.seed, [0], Purpose.POOL, index)
        rates = factors(self.plan.lr_schedule, [index])
        found = self._descent.learn(parameters, state, packed, streams, factors=rates)
        return float(found[0])

    def _accuracy(self, rollout: Rollout, packed: Vector) -> dict[str, NDArray[np.float64]]:
        """Return how much of the variance of value targets the critic explains, if there is one."""
        if not self.network.has_critic:
            return {}
        return {EXPLAINED: self.acting.accuracy(rollout, packed)}

    def _outcome(
        self,
        batch: Batch,
        state: State,
        rollout: Rollout,
        loss: NDArray[np.float64],
        accuracy: Mapping[str, NDArray[np.float64]],
    ) -> Outcome:
        steps = np.full(len(loss), rollout.obs.shape[2], dtype=np.int64)
        measures = {**accuracy, **rollout.measures}
        return Outcome(batch.parameters, state, steps, loss, rollout.returns, measures)

    def _roll_out(self, batch: Batch) -> tuple[Rollout, State]:
        """Return the rollout, and the state with the environments after it."""
        traits = self.traits
        own = (*traits.moments, *traits.counts, *traits.arrays, TARGET, RETURNS, SPREAD)
        environment = {name: values for name, values in batch.state.items() if name not in own}
        episodes = self.plan.episodes
        if episodes is not None:
            episodes = self.task.correction.batch(episodes, batch.state)
        rollout = self.acting.collect(
            batch.parameters,
            environment,
            seed=self.task.seed,
            agents=batch.agents,
            index=batch.index,
            steps=self.plan.steps,
            episodes=episodes,
        )
        return rollout, {**batch.state, **environment}


def _episodes(rollout: Rollout) -> NDArray[np.intp]:
    """Return which episode each sample is of, `(b, steps m)`.

    Every instance begins its rollout with a new number.
    """
    begins: NDArray[np.bool_] = rollout.elapsed == 0
    begins[:, 0] = True
    m = begins.shape[2]
    numbers = (np.cumsum(begins, axis=1) - 1) * m + np.arange(m)
    flat: NDArray[np.intp] = numbers.reshape(len(begins), -1).astype(np.intp)
    return flat


def builder(learner: Layered, *, critic: bool) -> Callable[[int, int, bool, Plan], Network]:
    """Return what makes the network of a learner: a user's own, or layers.

    Raises:
        ScenarioError: with a network of the user's own, an option of layers is set.
    """
    if not learner.policy:
        shared_trunk = bool(getattr(learner, "shared_trunk", False))
        return partial(build_network, learner.hidden, learner.activation, shared_trunk, critic)
    refuse_layers(learner)
    kind = own_network(stacked=learner.stacked)

    def build(inputs: int, policy: int, log_std: bool, plan: Plan) -> Network:
        return kind(learner.policy, critic, inputs, policy, log_std, plan.normalizer)

    return build


def build_network(
    hidden: Sequence[int],
    activation: str,
    shared_trunk: bool,
    critic: bool,
    inputs: int,
    policy: int,
    log_std: bool,
    plan: Plan,
) -> Network:
    """Return the network that a learner's options and an environment's sizes ask for."""
    kind = RecurrentNetwork if plan.sequences else Network
    return kind(
        inputs,
        policy,
        hidden=hidden,
        activation=activation,
        shared_trunk=shared_trunk,
        critic=critic,
        actor_inputs=plan.actor_inputs,
        log_std=log_std,
        normalizer=plan.normalizer,
        image=plan.image,
        memory=plan.sequences > 0,
    )
