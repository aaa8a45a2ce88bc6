"""Environments of a user's own, which scenarios name as "own_envs:NAME"; none is registered."""

from __future__ import annotations

import gymnasium
import numpy as np
from gymnasium import spaces
from gymnasium.vector import AutoresetMode, SyncVectorEnv

import p2pfrl


class Point(gymnasium.Env):
    """A point that is pushed; `size` and `gain` come back in `info`."""

    action_space: spaces.Space = spaces.Discrete(3)
    observation_space: spaces.Space = spaces.Box(-2.0, 2.0, (2,), np.float32)

    def __init__(self, size: int = 5, gain: float = 1.0) -> None:
        self.size, self.gain = size, gain
        self.clock = 0
        self.x = np.zeros(2)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.x, self.clock = self.np_random.uniform(-1, 1, 2), 0
        return self.seen(), self.info()

    def step(self, action):
        self.clock += 1
        self.take(action)
        return self.seen(), -abs(float(self.x.sum())), False, self.clock >= 10, self.info()

    def take(self, action):
        self.x = np.clip(self.x + 0.1 * self.gain * (float(np.sum(action)) - 1), -2, 2)

    def seen(self):
        return self.x.astype(np.float32)

    def info(self):
        return {"size": self.size, "is_float": isinstance(self.gain, float)}


class Several(Point):
    """Actions are two discrete ones, from 1 on; `taken` says which, one of six."""

    action_space = spaces.MultiDiscrete([3, 2], start=[1, 5])

    def take(self, action):
        assert self.action_space.contains(action), action
        super().take(action - self.action_space.start)


class Bits(Point):
    action_space = spaces.MultiBinary((2, 2))

    def take(self, action):
        assert self.action_space.contains(action), action
        super().take(action)


class Free(Point):
    """Actions without bounds, from 0 on, and from -1 to 3."""

    action_space = spaces.Box(
        np.array([-np.inf, 0.0, -1.0], np.float32), np.array([np.inf, np.inf, 3.0], np.float32)
    )

    def take(self, action):
        assert self.action_space.contains(action), action
        super().take(action[:1])


class Texts(Point):
    observation_space = spaces.Dict(
        {"mission": spaces.Text(20), "x": spaces.Box(-2.0, 2.0, (2,), np.float32)}
    )

    def seen(self):
        return {"mission": "go there", "x": self.x.astype(np.float32)}


class Mission(spaces.Space):
    """A space of texts of a library's own."""

    def __init__(self) -> None:
        super().__init__(dtype=str)


class Missions(Texts):
    observation_space = spaces.Dict({**Texts.observation_space.spaces, "mission": Mission()})


class Picture(Point):
    """An image with a bright left half, 60 x 80 unless said otherwise."""

    def __init__(self, height: int = 60, width: int = 80, first: bool = False) -> None:
        super().__init__()
        shape = (3, height, width) if first else (height, width, 3)
        self.observation_space = spaces.Box(0, 255, shape, np.uint8)
        self.picture = np.zeros((height, width, 3), np.uint8)
        self.picture[:, : width // 2] = (255, 0, 0)
        self.first = first

    def seen(self):
        return self.picture.transpose(2, 0, 1) if self.first else self.picture


class Masked(Point):
    """Action 0 is never allowed, the others in turns; a forbidden one is an error."""

    def info(self):
        return {"action_mask": np.array(self.allowed(), dtype=np.int8)}

    def allowed(self):
        return [0, 1, self.clock % 2]

    def take(self, action):
        self.clock -= 1
        assert self.allowed()[action], action
        self.clock += 1
        super().take(action)


class MaskedInside(Masked):
    """The mask is a part of the observation."""

    observation_space = spaces.Dict(
        {
            "action_mask": spaces.MultiBinary(3),
            "observation": spaces.Box(-2.0, 2.0, (2,), np.float32),
        }
    )

    def seen(self):
        mask = np.array(self.allowed(), dtype=np.int8)
        return {"action_mask": mask, "observation": self.x.astype(np.float32)}

    def info(self):
        return {}


class Walked(Point):
    """A small colored image beside a mask, and a gain: every option of the environment matters."""

    observation_space = spaces.Dict(
        {"action_mask": spaces.MultiBinary(3), "picture": spaces.Box(0, 255, (4, 4, 3), np.uint8)}
    )

    def seen(self):
        picture = np.zeros((4, 4, 3), np.uint8)
        picture[: 1 + self.clock % 4, :, 1] = 50 * (self.x[0] + 2)
        mask = np.array([0, 1, self.clock % 2], np.int8)
        return {"action_mask": mask, "picture": picture}

    def info(self):
        return {"privacy_cost": float(self.clock % 2)}


class Allowing(Point):
    """Gives a mask that does not fit."""

    def __init__(self, mask: list[float] | None = None) -> None:
        super().__init__()
        self.mask = mask

    def info(self):
        return {} if self.mask is None else {"action_mask": self.mask}


class Nested(Point):
    """An observation whose part `wrong` does not fit."""

    observation_space = spaces.Dict(
        {
            "pair": spaces.Tuple((spaces.Discrete(4), spaces.MultiDiscrete([2, 3]))),
            "x": spaces.Box(-2.0, 2.0, (2,), np.float32),
        }
    )

    def __init__(self, wrong: str = "") -> None:
        super().__init__()
        self.wrong = wrong

    def seen(self):
        pair = (np.int64(3), np.array([1, 2]))
        found = {"pair": pair, "x": self.x.astype(np.float32)}
        changed = {
            "shape": {"x": np.zeros(3, np.float32)},
            "text": {"x": ["a", "b"]},
            "nan": {"x": np.array([0.0, np.nan], np.float32)},
            "number": {"pair": (4, pair[1])},
            "float": {"pair": (np.float64(1.0), pair[1])},
            "length": {"pair": (1,)},
        }
        if self.wrong == "missing":
            return {"pair": pair}
        return found | changed.get(self.wrong, {})


class Far(Point):
    def seen(self):
        return np.array([0.0, 57.0], np.float32)


class Flaky(Point):
    """Raises in every seventh step of an object; `stuck` ones cannot be reset after that."""

    made = 0

    def __init__(self, stuck: bool = False) -> None:
        super().__init__()
        Flaky.made += 1
        self.steps, self.stuck, self.is_broken = 0, stuck, False

    def take(self, action):
        self.steps += 1
        if self.steps % 7 == 0:
            self.is_broken = self.stuck
            raise ConnectionError("the simulator is gone")
        super().take(action)

    def reset(self, *, seed=None, options=None):
        if self.is_broken:
            raise ConnectionError("the simulator is still gone")
        return super().reset(seed=seed)


class Slow(Point):
    """A plant that takes its time."""

    def __init__(self, seconds: float = 0.02) -> None:
        super().__init__()
        self.seconds = seconds

    def take(self, action):
        import time

        time.sleep(self.seconds)
        super().take(action)


class Together(SyncVectorEnv):
    """All copies of `Point` in one object, which resets in the step that ends an episode."""

    mode = AutoresetMode.SAME_STEP

    def __init__(self, num_envs: int = 1, gain: float = 1.0) -> None:
        makers = [lambda: Point(gain=gain)] * num_envs
        super().__init__(makers, autoreset_mode=self.mode)


class Told(Together):
    """It is told to reset."""

    mode = AutoresetMode.DISABLED


class Late(Together):
    """It resets in the step after the last one."""

    mode = AutoresetMode.NEXT_STEP


class Fewer(Together):
    def __init__(self, num_envs: int = 1) -> None:
        super().__init__(num_envs + 1)


def made(agent: int, size: int = 0) -> gymnasium.Env:
    """Return the environment of an agent, whose size is its number."""
    return Point(size=size + agent)


def nothing() -> None:
    """Make nothing."""


def arrays() -> p2pfrl.Environment:
    """Return an environment of arrays."""
    from p2pfrl.learning.environments.cartpole import CartPole

    return CartPole()


NUMBER = 3


class Pair:
    """Two agents of PettingZoo's parallel API, which needs no base class.

    They push one point, from both sides; `b` ends after `short` steps, `a` after ten.
    """

    def __init__(self, short: int = 10, wrong: str = "", render_mode: str | None = None) -> None:
        self.render_mode = render_mode
        self.possible_agents = ["a", "b"]
        self.agents: list[str] = []
        self.short, self.wrong, self.is_broken = short, wrong, False

    def observation_space(self, agent):
        return spaces.Box(-9.0, 9.0, (2,), np.float32)

    def action_space(self, agent):
        return spaces.Discrete(3)

    def reset(self, seed=None, options=None):
        if self.is_broken:
            raise ConnectionError("no more episodes")
        self.agents = [*self.possible_agents]
        self.x, self.clock = np.random.default_rng(seed).uniform(-1, 1), 0
        return {name: self.seen(name) for name in self.agents}, {name: {} for name in self.agents}

    def seen(self, name):
        return np.array([self.x, 1.0 if name == "a" else -1.0], np.float32)

    def step(self, actions):
        assert set(actions) == set(self.agents), actions
        self.clock += 1
        if self.wrong in ("raises", "stuck") and self.clock == 3:
            self.is_broken = self.wrong == "stuck"
            raise ConnectionError("no more")
        self.x += 0.1 * sum(int(actions[name]) - 1 for name in self.agents)
        seen = {name: self.seen(name) for name in self.agents}
        reward = {name: -abs(self.x) for name in self.agents}
        if self.wrong == "nan" and self.clock == 4:
            reward["b"] = float("nan")
        over = {"a": self.clock >= 10, "b": self.clock >= self.short}
        ends = {name: over[name] and name == "b" for name in self.agents}
        cuts = {name: over[name] and name == "a" for name in self.agents}
        info = {name: {"clock": self.clock} for name in self.agents}
        self.agents = [name for name in self.agents if not over[name]]
        return seen, reward, ends, cuts, info

    def render(self):
        return np.full((20, 30, 3), 20 * self.clock, np.uint8)

    def close(self):
        pass


class Unlike(Pair):
    """`b` sees the clock, too, and cannot push to the right."""

    def observation_space(self, agent):
        return spaces.Box(-9.0, 9.0, (2 if agent == "a" else 3,), np.float32)

    def action_space(self, agent):
        return spaces.Discrete(3 if agent == "a" else 2)

    def seen(self, name):
        own = super().seen(name)
        return own if name == "a" else np.append(own, np.float32(self.clock / 10))

    def step(self, actions):
        assert all(self.action_space(name).contains(action) for name, action in actions.items())
        return super().step(actions)


class Steered(Unlike):
    """Both push as hard as they like; `b` turns a second knob, too, and has other bounds."""

    def action_space(self, agent):
        box = (-1.0, 1.0, (1,)) if agent == "a" else (0.0, 4.0, (2,))
        return spaces.Box(*box, np.float32)

    def step(self, actions):
        for name, action in actions.items():
            assert self.action_space(name).contains(action), action
        return super(Unlike, self).step({name: int(own.sum() > 1) for name, own in actions.items()})


class Mixed(Pair):
    """`b` pushes as hard as it likes."""

    def action_space(self, agent):
        return spaces.Discrete(3) if agent == "a" else spaces.Box(-1.0, 1.0, (1,), np.float32)
