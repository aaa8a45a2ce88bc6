"""Networks as a user writes them, right and wrong."""

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


class Dropped(Net):
    def __init__(self, inputs, outputs):
        super().__init__(inputs, outputs)
        self.trunk.append(nn.Dropout(0.1))


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
    """Adds something of whoever was computed before."""

    calls = 0

    def forward(self, obs):
        Company.calls += 1
        head, value = super().forward(obs)
        return head + 1e-3 * Company.calls, value
