"""The evaluation of networks by their greedy policies."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import ClassVar

import numpy as np
from numpy.typing import DTypeLike, NDArray
from typing_extensions import override

from p2pfrl.core.parameters import Vector
from p2pfrl.learning.environments.base import Simulator
from p2pfrl.learning.learners.base import Evaluator, State
from p2pfrl.learning.networks import Network
from p2pfrl.learning.normalization import keep_personal
from p2pfrl.learning.policies import Policy
from p2pfrl.learning.rollout import act, evaluate, remember


class Greedy(Evaluator):
    """Plays greedy episodes.

    Attributes:
        play: how episodes are played.

    Args:
        network: of every agent.
        policy: what the network's outputs mean.
        evaluator: the environments; None: nothing is evaluated.
    """

    play: ClassVar[Callable[..., NDArray[np.float64]]] = staticmethod(evaluate)

    def __init__(self, network: Network, policy: Policy, evaluator: Simulator | None) -> None:
        self._network = network
        self._policy = policy
        self._evaluator = evaluator

    @override
    def evaluate(
        self, agents: Sequence[int], parameters: Vector, episodes: int, index: int
    ) -> NDArray[np.float64] | None:
        if self._evaluator is None:
            return None
        return self.play(
            self._network,
            self._policy,
            self._evaluator,
            parameters,
            agents=agents,
            episodes=episodes,
            index=index,
        )

    @override
    def average(self, agents: Sequence[int], parameters: Vector) -> Vector:
        """Return mean parameters; statistics of observations that are personal stay so."""
        mean = super().average(agents, parameters)
        keep_personal(self._network.normalizer, mean, parameters)
        return mean

    @override
    def act(
        self, agents: Sequence[int], parameters: Vector, obs: NDArray[np.float32]
    ) -> NDArray[np.generic] | None:
        return act(self._network, self._policy, parameters, obs)


class Remembering(Greedy):
    """Plays greedy episodes of networks with a memory, which act on no single observation."""

    play = staticmethod(remember)

    @override
    def act(
        self, agents: Sequence[int], parameters: Vector, obs: NDArray[np.float32]
    ) -> NDArray[np.generic] | None:
        return None


class GreedyAndDivergence(Greedy):
    """Plays greedy episodes, and compares policies on what the agents observe.

    Args:
        network: of every agent.
        policy: what the network's outputs mean.
        evaluator: the environments of evaluation; None: nothing is evaluated.
        simulator: the environments of training.
    """

    def __init__(
        self, network: Network, policy: Policy, evaluator: Simulator | None, simulator: Simulator
    ) -> None:
        super().__init__(network, policy, evaluator)
        self._simulator = simulator

    @override
    def divergence(self, agents: Sequence[int], parameters: Vector, state: State) -> float:
        """Return the mean of KL(pi_i || pi_mean) on each agent's own current observations."""
        x = self._observed(agents, state, parameters.dtype)
        mean = np.broadcast_to(parameters.mean(axis=0), parameters.shape)
        if self._network.normalizer is not None:
            mean = self.average(agents, parameters)
        heads = []
        for rows in (parameters, mean):
            out = np.empty((len(rows), self._network.outputs, x.shape[2]), dtype=rows.dtype)
            self._network.forward(rows, x, out, self._network.chains[:1])
            head = self._policy.legal(out[:, : self._policy.outputs], x)
            heads += [head, self._network.log_std(rows)]
        return float(self._policy.divergence(*heads).mean())

    def _observed(self, agents: Sequence[int], state: State, dtype: DTypeLike) -> Vector:
        """Return what agents observe now, `(b, o, m)`."""
        obs = self._simulator.shown(agents, {**state})
        return np.ascontiguousarray(obs.transpose(0, 2, 1), dtype=dtype)
