"""Distillation: agents send their policies in public states, and learn from those of others."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from typing_extensions import override

from p2pfrl.core.errors import ScenarioError
from p2pfrl.core.imitation import Imitation
from p2pfrl.core.lazy import LazyModule
from p2pfrl.core.parameters import Vector
from p2pfrl.core.rng import Purpose, Streams, generator
from p2pfrl.learning.environments.base import ArraySimulator, Simulator
from p2pfrl.learning.environments.random_actions import random_action
from p2pfrl.learning.learners.base import Exchange, State
from p2pfrl.learning.learners.distill import LOGITS, Distill
from p2pfrl.learning.networks import Network
from p2pfrl.learning.optimizers import Adam
from p2pfrl.learning.policies import policy_of

if TYPE_CHECKING:
    import torch
else:
    torch = LazyModule("torch")

TARGET = "distill_target"
_APART = 4  # steps of the random policy for every state that is kept


class Distillation(Exchange):
    """The policy of a network on public states, offered to others and taught by theirs.

    The gradient of the distillation loss, toward the policies of others, is added to the network's.
    Public states are the same for all agents: every state of a tabular environment; otherwise
    states that a uniformly random policy visits in agent 0's environment, drawn from (seed,
    "public").

    Attributes:
        size: numbers that are offered: probabilities of all actions, state by state.

    Args:
        options: coefficient, number of states, temperature.
        network: whose first outputs are one number per action.
        simulator: of the environments.
        seed: of the run.
    """

    def __init__(self, options: Distill, network: Network, simulator: Simulator, seed: int) -> None:
        spec = simulator.spec
        if not spec.actions:
            got = f"are several at once, {list(spec.heads)}" if spec.heads else "are continuous"
            raise ScenarioError(
                [f"exchange.payload: 'logits' are chances of one discrete action; these {got}"]
            )
        self.options = options
        self._network = network
        self._simulator = simulator
        self._seed = seed
        self._states = spec.states or options.states
        self._actions = spec.actions
        self._policy = policy_of(spec)
        self.size = self._states * spec.actions

    def init(self, rows: int) -> State:
        """Return targets of zeros, which add nothing to the gradient.

        Public states are visited now: no rollout may be under way.
        """
        assert self.public.shape[1] == self._states
        return {TARGET: np.zeros((rows, self.size), dtype=np.float32)}

    @cached_property
    def public(self) -> NDArray[np.float32]:
        """Public states, `(o, states)`."""
        spec = self._simulator.spec
        if spec.states:
            return np.eye(spec.states, dtype=np.float32)
        m = self._simulator.instances
        state = self._simulator.init([0], purpose="public")
        self._simulator.begin([0], [0], purpose="public")
        streams, seen = Streams.of(self._seed, [0], Purpose.PUBLIC), []
        for _ in range(-(-_APART * self._states // m)):
            obs = self._simulator.observe([0], state)
            seen.append(obs[0])
            self._simulator.step(state, random_action(spec, obs, streams))
        found = np.concatenate(seen)
        chosen = generator(self._seed, Purpose.PUBLIC).choice(
            len(found), self._states, replace=False
        )
        return np.ascontiguousarray(found[np.sort(chosen)].T)

    @override
    def offer_size(self, name: str) -> int | None:
        return self.size if name == LOGITS else super().offer_size(name)

    @override
    def offer(self, name: str, agent: int, parameters: Vector, state: State) -> Vector:
        """Return the probabilities `(size,)` of all actions, state by state."""
        if name != LOGITS:
            return super().offer(name, agent, parameters, state)
        _, log_pi = self._forward(parameters)
        probabilities: Vector = np.exp(log_pi[0]).T.ravel()
        return probabilities

    @override
    def receive(self, name: str, agent: int, state: State, received: Mapping[int, Vector]) -> None:
        """Take the mixture of policies that arrived as the target from now on."""
        if name != LOGITS:
            super().receive(name, agent, state, received)
        for probabilities in received.values():
            state[TARGET][0] = probabilities

    def add(self, rows: Vector, state: State, gradient: Vector) -> Vector:
        """Add the distillation loss's gradient to `(b, stride)`, in place; return the loss `(b,)`.

        The gradient by an output is coef T (pi_T - target) / states; a target of zeros adds
        nothing.
        """
        if not self.options.coef:
            return np.zeros(len(rows))
        x, log_pi = self._forward(rows)
        flat: Vector = state[TARGET]  # type: ignore[assignment]
        target = flat.reshape(len(rows), self._states, self._actions).transpose(0, 2, 1)
        mass = target.sum(axis=1, keepdims=True)
        slope = np.zeros((len(rows), self._network.outputs, self._states), dtype=rows.dtype)
        factor = self.options.coef * self.options.temperature / self._states
        slope[:, : self._actions] = factor * (np.exp(log_pi) * mass - target)
        own = self._network.layout.zeros(len(rows))
        self._network.backward(rows, x, slope, own)
        gradient += own
        log_target = np.log(np.maximum(target, np.finfo(np.float32).tiny))
        apart = (target * (log_target - log_pi)).sum(axis=1).mean(axis=1)
        loss: Vector = self.options.coef * self.options.temperature**2 * apart
        return loss

    def _forward(self, rows: Vector) -> tuple[Vector, Vector]:
        """Return public states `(b, o, states)` and log pi_T there, `(b, actions, states)`."""
        x = np.ascontiguousarray(
            np.broadcast_to(self.public, (len(rows), *self.public.shape)), dtype=rows.dtype
        )
        out = np.empty((len(rows), self._network.outputs, self._states), dtype=rows.dtype)
        self._network.forward(rows, x, out)
        head = self._policy.legal(out[:, : self._actions], x)
        leaf = torch.from_numpy(np.ascontiguousarray(head))
        log_pi: Vector = torch.log_softmax(leaf / self.options.temperature, dim=1).numpy()
        return x, log_pi


def can_visit(simulator: Simulator) -> bool:
    """Return whether a process may visit states of environments whose agents it does not train.

    Environments that are arrays have no other existence; others may be machines.
    """
    return isinstance(simulator, ArraySimulator)


class NetworkImitation(Imitation):
    """Fits a network to the mixture of the policies of others by the loss of `Distillation`.

    Args:
        network: whose first outputs are one number per action.
        simulator: of the environments.
        seed: of the run.
    """

    def __init__(self, network: Network, simulator: Simulator, seed: int) -> None:
        self.size = network.layout.size
        self._network, self._simulator, self._seed = network, simulator, seed
        self._teachers: dict[int, Distillation] = {}

    @override
    def prepare(self, states: int) -> None:
        if states not in self._teachers:
            torch.set_num_threads(1)
            options = Distill(states=states)
            teacher = Distillation(options, self._network, self._simulator, self._seed)
            teacher.init(1)
            self._teachers[states] = teacher

    @override
    def fit(
        self,
        vectors: Sequence[Vector],
        shares: Sequence[float],
        *,
        states: int,
        steps: int,
        lr: float,
    ) -> Vector:
        teacher, layout = self._teachers[states], self._network.layout
        mean, target = np.zeros(self.size), np.zeros(teacher.size)
        for vector, share in zip(vectors, shares, strict=True):
            row = layout.zeros(1)
            layout.unpack(vector, row[0])
            mean += share * vector.astype(np.float64)
            target += share * teacher.offer(LOGITS, 0, row, {}).astype(np.float64)
        student, gradient = layout.zeros(1), layout.zeros(1)
        layout.unpack(mean.astype(layout.dtype), student[0])
        optimizer = Adam(lr)
        state = {**optimizer.init(layout, 1), TARGET: target.astype(np.float32)[None]}
        step = optimizer.bind(student, gradient, state)
        for _ in range(steps):
            gradient[:] = 0
            teacher.add(student, state, gradient)
            step()
        made: Vector = layout.pack(student)[0]
        return made
