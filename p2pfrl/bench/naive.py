"""Naive baseline of the stacked learner: one module and one Gymnasium environment per agent.

It is written like a single agent, after CleanRL's ppo.py (Huang et al., JMLR 23, 2022):
`get_action_and_value` with torch's Categorical, wrapped environments that record episode returns,
one optimizer step per minibatch. Its settings are those of the stacked learner: a shared tanh trunk
of two layers of 64, Adam, clipped objective, normalized advantages, bootstrap at truncation, scaled
rewards. It omits what CleanRL logs and the stacked learner does not (KL, clipped share).
"""

from __future__ import annotations

from dataclasses import dataclass, field

import gymnasium
import numpy as np
import torch
from gymnasium.wrappers import RecordEpisodeStatistics
from torch import nn
from torch.distributions import Categorical

INSTANCES, STEPS, EPOCHS, MINIBATCHES = 4, 64, 4, 4
GAMMA, LAMBDA, CLIP, VALUE, NORM, SCALE, RATE = 0.99, 0.95, 0.2, 0.5, 0.5, 0.05, 3e-3


class ActorCritic(nn.Module):
    """4-64-64-(2+1): policy logits and value on a shared trunk, 4675 parameters."""

    def __init__(self) -> None:
        super().__init__()
        self.trunk = nn.Sequential(nn.Linear(4, 64), nn.Tanh(), nn.Linear(64, 64), nn.Tanh())
        self.actor, self.critic = nn.Linear(64, 2), nn.Linear(64, 1)
        for layer, gain in (
            (self.trunk[0], 2**0.5),
            (self.trunk[2], 2**0.5),
            (self.actor, 0.01),
            (self.critic, 1.0),
        ):
            nn.init.orthogonal_(layer.weight, gain)  # type: ignore[arg-type]
            nn.init.zeros_(layer.bias)  # type: ignore[arg-type]

    def get_value(self, obs: torch.Tensor) -> torch.Tensor:
        """Return values `(B,)`."""
        value: torch.Tensor = self.critic(self.trunk(obs))[:, 0]
        return value

    def get_action_and_value(
        self, obs: torch.Tensor, action: torch.Tensor | None = None
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
        """Return actions, log probabilities, entropies and values, `(B,)` each.

        Actions that are not given are drawn.
        """
        hidden = self.trunk(obs)
        policy = Categorical(logits=self.actor(hidden))
        if action is None:
            action = policy.sample()  # type: ignore[no-untyped-call]
        log_prob, entropy = policy.log_prob(action), policy.entropy()  # type: ignore[no-untyped-call]
        return action, log_prob, entropy, self.critic(hidden)[:, 0]


@dataclass
class NaiveAgent:
    """One agent with its module, optimizer and environments.

    Attributes:
        seed: seed of its environments.
    """

    seed: int
    model: ActorCritic = field(default_factory=ActorCritic)

    def __post_init__(self) -> None:
        self.optimizer = torch.optim.Adam(self.model.parameters(), lr=RATE, eps=1e-5)
        self.environments = [
            RecordEpisodeStatistics(gymnasium.make("CartPole-v1", disable_env_checker=True))
            for _ in range(INSTANCES)
        ]
        self.returns: list[float] = []
        resets = [
            env.reset(seed=self.seed * INSTANCES + i)[0] for i, env in enumerate(self.environments)
        ]
        self.obs = torch.from_numpy(np.stack(resets))

    def update(self) -> int:
        """Roll out and learn; return the number of environment steps."""
        self._learn(*self._roll_out())
        return STEPS * INSTANCES

    @torch.no_grad()
    def _roll_out(self) -> tuple[torch.Tensor, ...]:
        """Return observations, actions, log probabilities, advantages and value targets, flat."""
        obs = torch.zeros(STEPS, INSTANCES, 4)
        actions = torch.zeros(STEPS, INSTANCES, dtype=torch.long)
        log_probs, values, rewards, next_values = (torch.zeros(STEPS, INSTANCES) for _ in range(4))
        finished = torch.zeros(STEPS, INSTANCES)
        for t in range(STEPS):
            obs[t] = self.obs
            actions[t], log_probs[t], _, values[t] = self.model.get_action_and_value(self.obs)
            following = []
            for i, env in enumerate(self.environments):
                after, reward, terminated, truncated, info = env.step(int(actions[t, i]))
                rewards[t, i] = float(reward) * SCALE
                if terminated or truncated:
                    finished[t, i] = 1.0
                    self.returns.append(float(info["episode"]["r"]))
                    if truncated and not terminated:
                        next_values[t, i] = self.model.get_value(torch.from_numpy(after)[None])[0]
                    after = env.reset()[0]
                following.append(after)
            self.obs = torch.from_numpy(np.stack(following))
        ahead = torch.cat([values[1:], self.model.get_value(self.obs)[None]])
        next_values = torch.where(finished.bool(), next_values, ahead)
        delta = rewards + GAMMA * next_values - values
        advantages, tail = torch.zeros_like(delta), torch.zeros(INSTANCES)
        for t in reversed(range(STEPS)):
            advantages[t] = tail = delta[t] + GAMMA * LAMBDA * (1.0 - finished[t]) * tail
        return (
            obs.reshape(-1, 4),
            actions.reshape(-1),
            log_probs.reshape(-1),
            advantages.reshape(-1),
            (advantages + values).reshape(-1),
        )

    def _learn(
        self,
        obs: torch.Tensor,
        actions: torch.Tensor,
        old_log_probs: torch.Tensor,
        advantages: torch.Tensor,
        targets: torch.Tensor,
    ) -> None:
        for _ in range(EPOCHS):
            for index in torch.randperm(STEPS * INSTANCES).chunk(MINIBATCHES):
                _, log_prob, _, value = self.model.get_action_and_value(obs[index], actions[index])
                ratio = (log_prob - old_log_probs[index]).exp()
                advantage = advantages[index]
                advantage = (advantage - advantage.mean()) / (advantage.std() + 1e-8)
                gain = torch.min(
                    ratio * advantage, ratio.clamp(1 - CLIP, 1 + CLIP) * advantage
                ).mean()
                loss = 0.5 * VALUE * (value - targets[index]).square().mean() - gain
                self.optimizer.zero_grad()
                loss.backward()  # type: ignore[no-untyped-call]
                nn.utils.clip_grad_norm_(self.model.parameters(), NORM)
                self.optimizer.step()
