"""Networks as a user writes them, right and wrong."""

import numpy as np
import torch
from torch import nn


class Net(nn.Module):
    """Layer normalization and GELU, which our own layers do not have."""

    def __init__(self, inputs, outputs):
        super().__init__()
        self.trunk = nn.Sequential(nn.LayerNorm(inputs), nn.Linear(inputs, 8), nn.GELU())
        self.actor = nn.Linear(8, outputs)
        self.critic = nn.Linear(8, 1)

    def forward(self, obs):
        h = self.trunk(obs)
        return self.actor(h), self.critic(h)


class Actor(Net):
    def forward(self, obs):
        return super().forward(obs)[0]


class Plain(nn.Module):
    """The layers of ours: one hidden layer each, tanh."""

    def __init__(self, inputs, outputs):
        super().__init__()
        self.actor = nn.Sequential(nn.Linear(inputs, 4), nn.Tanh(), nn.Linear(4, outputs))
        self.critic = nn.Sequential(nn.Linear(inputs, 4), nn.Tanh(), nn.Linear(4, 1))

    def forward(self, obs):
        return self.actor(obs), self.critic(obs)


class PlainActor(nn.Sequential):
    """One hidden layer, tanh."""

    def __init__(self, inputs, outputs):
        super().__init__(nn.Linear(inputs, 4), nn.Tanh(), nn.Linear(4, outputs))


class Dropped(Net):
    def __init__(self, inputs, outputs):
        super().__init__(inputs, outputs)
        self.trunk.append(nn.Dropout(0.1))


class Frozen(Net):
    """A trunk that is not trained."""

    def __init__(self, inputs, outputs):
        super().__init__(inputs, outputs)
        self.trunk.requires_grad_(False)


class FrozenActor(Actor, Frozen):
    pass


class Still(Net):
    def __init__(self, inputs, outputs):
        super().__init__(inputs, outputs)
        self.requires_grad_(False)


class Noisy(Net):
    """Explores by noise of its own, in one call of ten."""

    def forward(self, obs):
        noise = torch.randn_like(obs) if torch.rand(()) < 0.1 else 0.0
        return super().forward(obs + noise)


class Unseeded(Net):
    def forward(self, obs):
        return super().forward(obs + np.random.default_rng().uniform())


class Running(Net):
    """Centers observations by their running mean."""

    def __init__(self, inputs, outputs):
        super().__init__(inputs, outputs)
        self.register_buffer("mean", torch.zeros(inputs))

    def forward(self, obs):
        seen = obs.detach().mean(dim=0)
        self.mean.mul_(0.9).add_(0.1 * seen)
        return super().forward(obs)


class Flat(Net):
    def forward(self, obs):
        return self.actor(self.trunk(obs)).flatten(), torch.zeros(len(obs))


class Broken(Net):
    def forward(self, obs):
        return obs @ torch.zeros(1000, 2)


class Greedy(Net):
    def __init__(self, inputs):
        super().__init__(inputs, 2)


class Counting(Net):
    """Looks at numbers, which a stack has not."""

    def forward(self, obs):
        return super().forward(obs if obs.sum().item() < 1e9 else -obs)


class Company(Net):
    """Adds something of the stack that was computed before."""

    calls = 0

    def forward(self, obs):
        Company.calls += torch._C._functorch.is_batchedtensor(obs)
        head, value = super().forward(obs)
        return head + 1e-3 * Company.calls, value
