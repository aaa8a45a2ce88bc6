"""Small Gymnasium environments that fail in one way each: `environment.id = "failing:NAME-v0"`."""

from __future__ import annotations

import asyncio
import os

import gymnasium
import numpy as np
from gymnasium import spaces


class Plain(gymnasium.Env):
    observation_space = spaces.Box(-1.0, 1.0, (2,), np.float32)
    action_space = spaces.Discrete(2)
    opened = closed = steps = 0

    def __init__(self) -> None:
        self.clock = 0
        Plain.opened += 1

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.clock = 0
        return self.seen(), self.info()

    def step(self, action):
        self.clock += 1
        Plain.steps += 1
        return self.seen(), self.reward(), self.clock >= 5, False, self.info()

    def close(self) -> None:
        Plain.closed += 1

    def seen(self):
        return np.zeros(2, np.float32)

    def reward(self):
        return 1.0

    def info(self):
        return {}


class Ended(BaseException):
    """What a simulator raises that ends its own main loop in this way."""


class Raising(Plain):
    """Raises in the third step after `updates` updates of 8 steps."""

    def __init__(self, updates: int = 0, error: str = "RuntimeError") -> None:
        super().__init__()
        self.lives = 8 * updates + 2
        self.error = {
            "RuntimeError": RuntimeError,
            "exit": SystemExit,
            "memory": MemoryError,
            "generator": GeneratorExit,
            "cancelled": asyncio.CancelledError,
            "group": lambda text: BaseExceptionGroup(text, [GeneratorExit()]),
            "own": Ended,
            "interrupt": KeyboardInterrupt,
        }[error]

    def reward(self):
        self.lives -= 1
        if self.lives < 0:
            raise self.error("the socket is closed")
        return 1.0


class NotANumber(Plain):
    """A reward or a number of an observation is not finite in the third step."""

    def __init__(self, what: str = "reward", value: str = "nan") -> None:
        super().__init__()
        self.what, self.value = what, float(value)

    def reward(self):
        return self.value if self.what == "reward" and self.clock == 3 else 1.0

    def seen(self):
        bad = self.what == "observation" and self.clock == 3
        return np.array([0.0, self.value if bad else 0.0])


class Names(Plain):
    """`info` has names that the record uses itself, and values that change their type."""

    def info(self):
        error = 0.5 if self.clock < 3 else np.zeros(2)
        found = {"return": 7.0, "loss": 8.0, "physics_g": 3.0, "speed": 2.0, "error": error}
        return {**found, 5: 1.0, "huge": 10**400}


class Sequences(Plain):
    observation_space = spaces.Sequence(spaces.Box(-1.0, 1.0, (2,), np.float32))


class Leveled(Plain):
    def __init__(self, level: int = 1, gates: list[int] | None = None) -> None:
        super().__init__()
        if level > 3:
            raise ValueError(f"levels are 1 to 3,\ngot {level}")
        assert gates is None or [*gates] == [1, 2]


class OldReset(Plain):
    def reset(self, *, seed=None, options=None):
        return super().reset(seed=seed)[0]


class OldStep(Plain):
    def step(self, action):
        seen, reward, ended, _, info = super().step(action)
        return seen, reward, ended, info


class WrongShape(Plain):
    def seen(self):
        return np.zeros(3, np.float32)


class NoReward(Plain):
    def reward(self):
        return None


class TextReward(Plain):
    def reward(self):
        return "1.0"


class HugeReward(Plain):
    def __init__(self) -> None:
        super().__init__()
        self.most = 10**400

    def reward(self):
        return self.most


class NoEnd(Plain):
    def step(self, action):
        seen, reward, _, cut, info = super().step(action)
        return seen, reward, None, cut, info


class UnreadableError(Exception):
    def __str__(self) -> str:
        raise ValueError("twice")


class Unreadable(Plain):
    def reward(self):
        raise UnreadableError


class Talking(Plain):
    """Prints what it does."""

    def __init__(self) -> None:
        super().__init__()
        print("made")

    def reward(self):
        print("stepped")
        return 1.0


class NoSpace(Plain):
    observation_space = None


class TextEnd(Plain):
    def step(self, action):
        seen, reward, _, cut, info = super().step(action)
        return seen, reward, "False", cut, info


class Endless(Plain):
    def step(self, action):
        seen, reward, _, cut, info = super().step(action)
        return seen, reward, False, cut, info


class Words(Plain):
    """One word of a hundred thousand."""

    observation_space = spaces.Discrete(100_000)

    def seen(self):
        return 7


class Unclosable(Plain):
    def close(self) -> None:
        super().close()
        raise OSError("it is gone already")


class Valve(Plain):
    """Reward: how near the opening is to 60 % of the way from `low` to `high`."""

    def __init__(self, low: float = 0.0, high: float = 1.0) -> None:
        super().__init__()
        self.low, self.high, self.taken = low, high, 0.0
        self.action_space = spaces.Box(low, high, (1,), np.float64)

    def step(self, action):
        assert self.action_space.contains(action), action
        self.taken = (float(action[0]) - self.low) / (self.high - self.low)
        return super().step(action)

    def reward(self):
        return -abs(self.taken - 0.6)


class Pixels(Plain):
    observation_space = spaces.Box(0, 255, (4, 4, 3), np.uint8)

    def seen(self):
        return np.full((4, 4, 3), 51, np.uint8)


class Screen(Plain):
    observation_space = spaces.Box(0, 255, (96, 96, 3), np.uint8)

    def seen(self):
        return np.zeros((96, 96, 3), np.uint8)


class Machine(Plain):
    """Writes what is done with it, and by which process, into the file FAILING_LOG."""

    def __init__(self, name: str = "none") -> None:
        super().__init__()
        self.name, self.log = name, os.environ.get("FAILING_LOG", os.devnull)
        self.write("opened")

    def write(self, what: str) -> None:
        with open(self.log, "a") as file:
            file.write(f"{os.getpid()} {self.name} {what}\n")

    def reset(self, *, seed=None, options=None):
        self.write("driven")
        return super().reset(seed=seed)

    def close(self) -> None:
        self.write("closed")
        super().close()


for found in list(globals().values()):
    if isinstance(found, type) and issubclass(found, Plain):
        gymnasium.register(id=f"{found.__name__}-v0", entry_point=found)
