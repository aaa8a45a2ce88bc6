"""A `gymnasium.vector.VectorEnv` over (agents x instances) of an array environment.

With it other libraries can use the array environments.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import gymnasium
import numpy as np
from gymnasium.vector import AutoresetMode
from gymnasium.vector.utils import batch_space
from numpy.typing import NDArray

from p2pfrl.learning.environments.base import Simulator, Spec, State, Step


class ArrayVectorEnv(gymnasium.vector.VectorEnv[NDArray[np.float32], NDArray[Any], NDArray[Any]]):
    """A vector environment whose copy `i * instances + j` is instance j of agent `agents[i]`.

    It resets in the same step: `infos["final_obs"]` holds the true successors of the episodes that
    ended, where `infos["_final_obs"]`; the simulator's measures are in `infos` by name. All random
    numbers depend on the simulator's seed, the agent and the count of `reset` alone, so the `seed`
    of `reset` is not used; it may only be None.

    Args:
        simulator: what steps.
        agents: which agents' physics.
    """

    def __init__(self, simulator: Simulator, agents: Sequence[int]) -> None:
        spec = simulator.spec
        self.metadata = {"autoreset_mode": AutoresetMode.SAME_STEP}
        self.num_envs = len(agents) * simulator.instances
        self.single_observation_space = gymnasium.spaces.Box(
            -np.inf, np.inf, (spec.observation,), np.float32
        )
        self.single_action_space = _actions(spec)
        self.observation_space = batch_space(self.single_observation_space, self.num_envs)
        self.action_space = batch_space(self.single_action_space, self.num_envs)
        self._simulator = simulator
        self._agents = agents
        self._state: State = {}
        self._resets = 0

    def reset(
        self, *, seed: int | list[int | None] | None = None, options: dict[str, Any] | None = None
    ) -> tuple[NDArray[np.float32], dict[str, Any]]:
        """Start new episodes everywhere.

        Raises:
            ValueError: a seed; the simulator has its own.
        """
        if seed is not None:
            raise ValueError(f"the simulator was made with its own seed, got another: {seed!r}")
        purpose = f"vector-{self._resets}"
        self._state = self._simulator.init(self._agents, purpose)
        self._simulator.begin(self._agents, [0] * len(self._agents), purpose)
        self._resets += 1
        return self._flat(self._simulator.observe(self._agents, self._state)), {}

    def step(
        self, actions: NDArray[Any]
    ) -> tuple[
        NDArray[np.float32],
        NDArray[np.float64],
        NDArray[np.bool_],
        NDArray[np.bool_],
        dict[str, Any],
    ]:
        """Advance every copy by one step."""
        step = self._advance(actions)
        infos: dict[str, Any] = {name: values.reshape(-1) for name, values in step.measures.items()}
        if step.finished.any():
            infos |= {
                "final_obs": self._flat(step.next_obs),
                "_final_obs": step.finished.reshape(-1),
            }
        return (
            self._flat(step.obs),
            step.reward.reshape(-1),
            step.terminated.reshape(-1),
            step.truncated.reshape(-1),
            infos,
        )

    def _advance(self, actions: NDArray[Any]) -> Step:
        shape = (len(self._agents), self._simulator.instances)
        return self._simulator.step(
            self._state, np.reshape(actions, (*shape, *np.shape(actions)[1:]))
        )

    def _flat(self, obs: NDArray[np.float32]) -> NDArray[np.float32]:
        return obs.reshape(self.num_envs, -1).copy()


def _actions(spec: Spec) -> gymnasium.Space[Any]:
    """Return the space of one copy's actions."""
    spaces = gymnasium.spaces
    if spec.heads:
        several: gymnasium.Space[Any] = spaces.MultiDiscrete(list(spec.heads))
        return several
    if spec.actions:
        return spaces.Discrete(spec.actions)
    low, high = (np.array(ends, dtype=np.float32) for ends in (spec.action_low, spec.action_high))
    return spaces.Box(low, high)
