"""Learners of Stable-Baselines3, each in its own agent (extra `[sb3]`)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field
from typing_extensions import override

from p2pfrl.core.errors import ScenarioError
from p2pfrl.core.rule import rule
from p2pfrl.learning.learners.base import Learner, Stack, Task
from p2pfrl.learning.learners.local import LocalLearner, LocalStack

if TYPE_CHECKING:
    import gymnasium
    import torch

Algorithm = Literal["PPO", "A2C", "DQN", "SAC", "TD3"]
_ON_POLICY = ("PPO", "A2C")
_PARTS = {
    "log_std": "actor.log_std",
    "action_net": "actor.head",
    "value_net": "critic.head",
    "mlp_extractor.policy_net": "actor",
    "mlp_extractor.value_net": "critic",
    "q_net": "critic",
    "q_net_target": "target",
}
"""Beginning of a parameter's name in Stable-Baselines3 -> ours, where they differ."""


@rule
class SB3(Learner):
    """An algorithm of Stable-Baselines3, as it is, in every agent.

    What travels are the parameters of its policy, target networks included. Optimizer and replay
    buffer stay with the agent. Agents are computed one after the other.

    Raffin, Hill, Gleave, Kanervisto, Ernestus, Dormann, "Stable-Baselines3: reliable reinforcement
    learning implementations", Journal of Machine Learning Research 22(268), 2021.

    Attributes:
        lr: its learning_rate.
        algorithm: of the library.
        policy: its kind of network.
        steps: of each instance per update. PPO and A2C take rollouts of this length, unless
            `kwargs` says `n_steps`, which must divide it.
        kwargs: further arguments of the algorithm's constructor.
    """

    is_saved_whole: ClassVar[bool] = False

    lr: float = Field(default=3e-4, ge=0)
    algorithm: Algorithm = "PPO"
    policy: str = "MlpPolicy"
    steps: int = Field(default=128, ge=1)
    kwargs: dict[str, Any] = Field(default_factory=dict)

    @override
    def prepare(self, task: Task) -> Stack:
        try:
            import stable_baselines3
        except ImportError as error:
            reason = f"'sb3' needs Stable-Baselines3 ({error}): pip install 'p2pfrl[sb3]'"
            raise ScenarioError([f"learner.kind: {reason}"]) from error
        algorithm = getattr(stable_baselines3, self.algorithm)
        kwargs = dict(self.kwargs)
        for name in ("env", "learning_rate", "seed", "device"):
            if name in kwargs:
                fix = "; learner.lr is the learning rate" if name == "learning_rate" else ""
                raise ScenarioError([f"learner.kwargs.{name}: it is set by the run{fix}"])
        if self.algorithm in _ON_POLICY:
            length = kwargs.setdefault("n_steps", self.steps)
            if not isinstance(length, int) or length < 1 or self.steps % length:
                reason = f"must divide learner.steps = {self.steps}, got {length}"
                raise ScenarioError([f"learner.kwargs.n_steps: {reason}"])
        return LocalStack(
            task,
            lambda env, lr: SB3Agent(env, lr, algorithm, self.policy, kwargs),
            self.lr,
            self.steps,
        )


class SB3Agent(LocalLearner):
    """One model of Stable-Baselines3.

    Args:
        env: environments of the agent.
        lr: learning rate.
        algorithm: class of the library.
        policy: kind of its network.
        kwargs: further arguments of the algorithm.
    """

    def __init__(
        self,
        env: gymnasium.vector.VectorEnv[Any, Any, Any],
        lr: float,
        algorithm: Any,
        policy: str,
        kwargs: Mapping[str, Any],
    ) -> None:
        from p2pfrl.learning.learners.sb3_env import copies

        self.model = algorithm(
            policy, copies()(env), learning_rate=lr, device="cpu", verbose=0, **kwargs
        )

    @override
    def named_parameters(self) -> Iterable[tuple[str, torch.Tensor]]:
        return [(_named(name), values) for name, values in self.model.policy.named_parameters()]

    @override
    def learn(
        self, env: gymnasium.vector.VectorEnv[Any, Any, Any], steps: int, rng: np.random.Generator
    ) -> float | None:
        self.model.action_space.seed(int(rng.integers(2**31)))
        self.model._last_obs = None  # it asks for the current observations then
        self.model.learn(steps * env.num_envs, reset_num_timesteps=False)
        found = self.model.logger.name_to_value
        loss = found.get("train/loss", found.get("train/critic_loss"))
        return None if loss is None else float(loss)

    @override
    def act(self, obs: NDArray[np.float32]) -> NDArray[Any]:
        action: NDArray[Any] = self.model.predict(obs, deterministic=True)[0]
        return action


def _named(name: str) -> str:
    """Return our name of a parameter.

    >>> _named("mlp_extractor.value_net.0.weight"), _named("critic.qf0.0.bias")
    ('critic.0.weight', 'critic.qf0.0.bias')
    """
    for theirs, ours in _PARTS.items():
        if name == theirs or name.startswith(f"{theirs}."):
            return ours + name.removeprefix(theirs)
    return name
