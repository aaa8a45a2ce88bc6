"""Learners of Stable-Baselines3, each in its own agent (extra `[sb3]`)."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field
from typing_extensions import override

from p2pfrl.core.errors import ScenarioError, ScenarioWarning
from p2pfrl.core.finder import install
from p2pfrl.core.lazy import LazyModule
from p2pfrl.core.rule import rule
from p2pfrl.learning.learners.base import Learner, Stack, Task
from p2pfrl.learning.learners.kept import Arrays, OptimizerArray
from p2pfrl.learning.learners.local import LocalLearner, LocalStack

if TYPE_CHECKING:
    import gymnasium
    import torch
else:
    torch = LazyModule("torch")

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
_OPTIMIZERS = (
    "policy.optimizer",
    "actor.optimizer",
    "critic.optimizer",
    "ent_coef_optimizer",
)
"""Where models have optimizers."""
_COUNTERS = ("num_timesteps", "_episode_num", "_n_updates", "_n_calls")
_RATES = ("exploration_rate", "_current_progress_remaining")
_BUFFER = ("observations", "next_observations", "actions", "rewards", "dones", "timeouts")
_MOST_BYTES = 2**23
"""Of a replay buffer that is saved."""
_SET = {
    "env": "",
    "policy": "; learner.policy names it",
    "learning_rate": "; learner.lr is the learning rate",
    "seed": "",
    "device": "",
    "verbose": "; it prints nothing",
}
"""Arguments of a constructor that a run sets -> what to use in place of them."""


@rule
class SB3(Learner):
    """An algorithm of Stable-Baselines3, as it is, in every agent.

    What travels are the parameters of its policy, target networks included. Optimizers, counters
    and the replay buffer stay with the agent, and are saved with it; but a replay buffer of more
    than 8 MiB begins anew after a crash and in a resumed run. Agents are computed one after the
    other; those that share a world take their steps together, each with a model of its own.

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

    lr: float = Field(default=3e-4, ge=0)
    algorithm: Algorithm = "PPO"
    policy: str = "MlpPolicy"
    steps: int = Field(default=128, ge=1)
    kwargs: dict[str, Any] = Field(default_factory=dict)

    @override
    def prepare(self, task: Task) -> Stack:
        kwargs = dict(self.kwargs)
        for name, fix in _SET.items():
            if name in kwargs:
                raise ScenarioError([f"learner.kwargs.{name}: it is set by the run{fix}"])
        try:
            import stable_baselines3
        except ImportError as error:
            reason = f"'sb3' needs Stable-Baselines3 ({error}): {install('sb3')}"
            raise ScenarioError([f"learner.kind: {reason}"]) from error
        algorithm = getattr(stable_baselines3, self.algorithm)
        if self.algorithm in _ON_POLICY:
            length = kwargs.setdefault("n_steps", self.steps)
            if not isinstance(length, int) or length < 1 or self.steps % length:
                reason = f"must divide learner.steps = {self.steps}, got {length}"
                raise ScenarioError([f"learner.kwargs.n_steps: {reason}"])
        stack = LocalStack(
            task,
            lambda env, lr: SB3Agent(env, lr, algorithm, self.policy, kwargs),
            self.lr,
            self.steps,
            engine="torch",
        )
        if not stack.traits.is_saved_whole:
            what = f"the replay buffer of an agent has more than {_MOST_BYTES >> 20} MiB"
            after = "it begins anew after a crash and in a resumed run"
            warnings.warn(
                f"learner.kwargs.buffer_size: {what}, and is not saved: {after}",
                ScenarioWarning,
                stacklevel=2,
            )
        return stack


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
        found = {place: _found(self.model, place) for place in _OPTIMIZERS}
        self._optimizers = {
            place: OptimizerArray(optimizer)
            for place, optimizer in found.items()
            if optimizer is not None
        }
        buffer = getattr(self.model, "replay_buffer", None)
        arrays = {name: getattr(buffer, name, None) for name in _BUFFER}
        self._replay = {n: a for n, a in arrays.items() if isinstance(a, np.ndarray)}
        if sum(values.nbytes for values in self._replay.values()) > _MOST_BYTES:
            self._replay = {}
        self.is_saved_whole = buffer is None or bool(self._replay)

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
    def state(self) -> Arrays:
        model = self.model
        counters = [getattr(model, name, 0) for name in _COUNTERS]
        rates = [getattr(model, name, 0.0) for name in _RATES]
        kept: dict[str, NDArray[Any]] = {
            "counters": np.array(counters, dtype=np.int64),
            "rates": np.array(rates, dtype=np.float64),
            **{place: array.read() for place, array in self._optimizers.items()},
        }
        if getattr(model, "log_ent_coef", None) is not None:
            kept["log_ent_coef"] = model.log_ent_coef.detach().numpy().copy()
        if self._replay:
            kept |= self._replay
            kept["place"] = np.array([model.replay_buffer.pos, model.replay_buffer.full])
        return kept

    @override
    def load_state(self, state: Arrays) -> None:
        model = self.model
        for name, count in zip(_COUNTERS, state["counters"].tolist(), strict=True):
            if hasattr(model, name):
                setattr(model, name, count)
        for name, rate in zip(_RATES, state["rates"].tolist(), strict=True):
            if hasattr(model, name):
                setattr(model, name, rate)
        for place, array in self._optimizers.items():
            array.write(state[place])
        if "log_ent_coef" in state:
            model.log_ent_coef.data.copy_(torch.from_numpy(state["log_ent_coef"]))
        for name, values in self._replay.items():
            values[:] = state[name]
        if self._replay:
            model.replay_buffer.pos = int(state["place"][0])
            model.replay_buffer.full = bool(state["place"][1])

    @override
    def act(self, obs: NDArray[np.float32]) -> NDArray[Any]:
        action: NDArray[Any] = self.model.predict(obs, deterministic=True)[0]
        return action


def _found(model: Any, place: str) -> Any:
    """Return what a model has at a dotted place, or None."""
    for name in place.split("."):
        model = getattr(model, name, None)
    return model


def _named(name: str) -> str:
    """Return our name of a parameter.

    >>> _named("mlp_extractor.value_net.0.weight"), _named("critic.qf0.0.bias")
    ('critic.0.weight', 'critic.qf0.0.bias')
    """
    for theirs, ours in _PARTS.items():
        if name == theirs or name.startswith(f"{theirs}."):
            return ours + name.removeprefix(theirs)
    return name
