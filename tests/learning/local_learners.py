"""Learners as a user writes them, for one agent, right and wrong."""

import gymnasium
import numpy as np
import torch

import p2pfrl


class Mine(p2pfrl.LocalLearner):
    """REINFORCE with Adam, which stays in the object."""

    def __init__(self, env, lr, hidden=4):
        inputs, actions = env.single_observation_space.shape[0], int(env.single_action_space.n)
        self.net = torch.nn.Sequential(
            torch.nn.Linear(inputs, hidden), torch.nn.Tanh(), torch.nn.Linear(hidden, actions)
        )
        self.optimizer = torch.optim.Adam(self.net.parameters(), lr=lr)

    def named_parameters(self):
        return self.net.named_parameters()

    def learn(self, env, steps, rng):
        obs, _ = env.reset()
        loss, alive = torch.zeros(()), np.zeros(env.num_envs)
        for _ in range(steps):
            policy = torch.distributions.Categorical(logits=self.net(torch.from_numpy(obs)))
            action = policy.sample()
            obs, _, terminated, truncated, _ = env.step(action.numpy())
            alive = np.where(terminated | truncated, 0, alive + 1)
            loss = loss - (policy.log_prob(action) * torch.from_numpy(alive - 8)).mean() / steps
        loss = loss * (1 + 1e-3 * rng.random())
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        return loss.item()

    def act(self, obs):
        with torch.no_grad():
            return self.net(torch.from_numpy(obs)).argmax(-1).numpy()


class Small(Mine):
    """As above, with fewer units."""

    def __init__(self, env, lr, hidden=2):
        super().__init__(env, lr, hidden)


class Fails(Mine):
    def learn(self, env, steps, rng):
        raise ZeroDivisionError("sensor failed")


class Grows(Mine):
    def learn(self, env, steps, rng):
        loss = super().learn(env, steps, rng)
        self.net[0] = torch.nn.Linear(4, 5)
        return loss


class Still(gymnasium.Env):
    """An environment of Gymnasium in which nothing happens."""

    observation_space = gymnasium.spaces.Box(-1.0, 1.0, (4,), np.float32)
    action_space = gymnasium.spaces.Discrete(2)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.time = 0
        return np.zeros(4, np.float32), {}

    def step(self, action):
        self.time += 1
        return np.zeros(4, np.float32), 1.0, False, self.time == 5, {}


class Short(Mine):
    def learn(self, env, steps, rng):
        env.step(np.zeros(env.num_envs, dtype=np.int64))


class Takes(Mine):
    """Takes one action everywhere, and thinks that another is the best."""

    def __init__(self, env, lr, taken=0.0, best=0.0):
        super().__init__(env, lr)
        self.taken, self.best = taken, best

    def learn(self, env, steps, rng):
        for _ in range(steps):
            env.step(np.full(env.action_space.shape, self.taken))

    def act(self, obs):
        return np.full(len(obs), self.best)


class Unseeded(Takes):
    def learn(self, env, steps, rng):
        super().learn(env, steps, rng)
        with torch.no_grad():
            self.net[0].bias += float(np.random.default_rng().uniform())


class Words(Mine):
    def learn(self, env, steps, rng):
        for _ in range(steps):
            env.step(np.zeros(env.num_envs, dtype=np.int64))
        return "low"


class Bare(Mine):
    def named_parameters(self):
        return self.net.parameters()


class Double(Mine):
    def named_parameters(self):
        return [("x", torch.zeros(3, dtype=torch.float64))]


class Wide(Mine):
    def act(self, obs):
        return np.zeros((len(obs), 2))


class Kept(Mine):
    """As above, and says what it remembers."""

    def __init__(self, env, lr, hidden=4):
        super().__init__(env, lr, hidden)
        self.array = p2pfrl.OptimizerArray(self.optimizer)

    def state(self):
        return {"optimizer": self.array.read()}

    def load_state(self, state):
        self.array.write(state["optimizer"])


class Growing(Mine):
    """Remembers more and more."""

    def __init__(self, env, lr):
        super().__init__(env, lr)
        self.seen = [0.0]

    def learn(self, env, steps, rng):
        self.seen.append(1.0)
        return super().learn(env, steps, rng)

    def state(self):
        return {"seen": np.array(self.seen)}


class Told(Mine):
    def state(self):
        return [1.0]


class SecondFails(Mine):
    """The learner of every second agent fails in its third step."""

    def learn(self, env, steps, rng):
        for step in range(steps):
            if step == 2 and env.agent % 2:
                raise ZeroDivisionError("sensor failed")
            env.step(np.zeros(env.num_envs, dtype=np.int64))


class Long(Mine):
    """Takes a step more than it should."""

    def learn(self, env, steps, rng):
        for _ in range(steps + 1):
            env.step(np.zeros(env.num_envs, dtype=np.int64))
