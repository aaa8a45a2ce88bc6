"""An agent's environments as Stable-Baselines3 steps them."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray


@cache
def copies() -> Any:
    """Return the class of vector environments, made when the extra is needed.

    It takes one argument, a `gymnasium.vector.VectorEnv` that resets in the same step.
    """
    from stable_baselines3.common.vec_env import VecEnv

    class Copies(VecEnv):  # type: ignore[misc]  # no types without the extra
        """The copies of one agent's environment."""

        def __init__(self, env: Any) -> None:
            self._env = env
            self._actions: NDArray[Any] = np.empty(0)
            self.render_mode = None
            super().__init__(env.num_envs, env.single_observation_space, env.single_action_space)

        def reset(self) -> NDArray[np.float32]:
            """Return the current observations."""
            obs: NDArray[np.float32] = self._env.reset()[0]
            return obs

        def step_async(self, actions: NDArray[Any]) -> None:
            """Keep the actions for `step_wait`."""
            self._actions = actions

        def step_wait(
            self,
        ) -> tuple[NDArray[Any], NDArray[np.float32], NDArray[np.bool_], list[dict[str, Any]]]:
            """Advance every copy by one step."""
            obs, reward, terminated, truncated, found = self._env.step(self._actions)
            over = terminated | truncated
            infos: list[dict[str, Any]] = [
                {"TimeLimit.truncated": bool(cut and not end)}
                for cut, end in zip(truncated, terminated, strict=True)
            ]
            for i in np.flatnonzero(over):
                infos[i]["terminal_observation"] = found["final_obs"][i]
            return obs, reward.astype(np.float32), over, infos

        def close(self) -> None:
            """Close nothing: the run closes its environments."""

        def get_attr(self, attr_name: str, indices: Any = None) -> list[Any]:
            """Return an attribute of the environments, once per copy."""
            return [getattr(self._env, attr_name, None) for _ in self._chosen(indices)]

        def set_attr(self, attr_name: str, value: Any, indices: Any = None) -> None:
            """Set an attribute of the environments."""
            setattr(self._env, attr_name, value)

        def env_method(
            self, method_name: str, *args: Any, indices: Any = None, **kwargs: Any
        ) -> Any:
            """Call a method of the environments, once per copy."""
            return [getattr(self._env, method_name)(*args, **kwargs) for _ in self._chosen(indices)]

        def env_is_wrapped(self, wrapper_class: type, indices: Any = None) -> list[bool]:
            """Return that no copy is wrapped."""
            return [False for _ in self._chosen(indices)]

        def _chosen(self, indices: Any) -> Sequence[int]:
            return list(range(self.num_envs)) if indices is None else list(np.atleast_1d(indices))

    return Copies
