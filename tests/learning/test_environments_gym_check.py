"""The checker of environments that a user wrote for Gymnasium."""

import gymnasium
import numpy as np
import pytest

import p2pfrl
from p2pfrl.core.errors import ContractError, P2PFRLError


class Walk(gymnasium.Env):
    """A random walk that ends at 3."""

    observation_space = gymnasium.spaces.Box(-9, 9, (1,), np.float32)
    action_space = gymnasium.spaces.Discrete(2)

    def __init__(self, drift=0.0):
        self.drift, self.x = drift, 0.0

    def noise(self):
        return self.np_random.normal()

    def seen(self):
        return np.array([np.clip(self.x, -9, 9)], dtype=np.float32)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.x = 0.0
        return self.seen(), {}

    def step(self, action):
        self.x += 0.3 * (2 * action - 1) + 0.1 * self.noise() + self.drift
        return self.seen(), -abs(self.x), abs(self.x) > 3, False, {}


class Unseeded(Walk):
    rng = np.random.default_rng()

    def noise(self):
        return self.rng.normal()


class Common(Walk):
    steps = 0

    def noise(self):
        Common.steps += 1
        return float(Common.steps % 4)

    def reset(self, *, seed=None, options=None):
        Common.steps = 0
        return super().reset(seed=seed)


class Lost(Walk):
    def noise(self):
        return float("nan")


class Shaped(Walk):
    def seen(self):
        return np.zeros(2, dtype=np.float32)


class Outside(Walk):
    """Its observation leaves its box by a little, which no run minds."""

    observation_space = gymnasium.spaces.Box(-2.5, 2.5, (1,), np.float32)


class Rounded(Walk):
    """Its observation is at an end of its box, but for the rounding to float32."""

    observation_space = gymnasium.spaces.Box(-0.1, 0.1, (1,), np.float64)

    def seen(self):
        return np.array([0.1], dtype=np.float32).astype(np.float64)


def test_an_observation_slightly_outside_of_its_box_is_found() -> None:
    words = r"step\(\d\) returned an observation whose number 0 is -?2\.\d+, outside of its box "
    with pytest.raises(ContractError, match=f"{words}from -2.5 to 2.5; clip it, or declare"):
        p2pfrl.check_environment(Outside)
    p2pfrl.check_environment(Rounded, steps=5)


def test_a_class_a_function_and_an_id_that_are_right_pass() -> None:
    p2pfrl.check_environment(Walk)
    p2pfrl.check_environment(lambda: Walk(drift=0.1))
    p2pfrl.check_environment("gymnasium.envs.classic_control:CartPoleEnv", steps=10)


@pytest.mark.parametrize("id", ["gridworld", "CartPole-v1", "FrozenLake-v1", "matrix_game"])
def test_every_id_of_a_scenario_can_be_checked(id: str) -> None:
    p2pfrl.check_environment(id, steps=3)


def test_one_environment_is_refused_with_what_to_give() -> None:
    words = "got Walk, one environment, .* give its class, or a function that makes one"
    with pytest.raises(ContractError, match=words):
        p2pfrl.check_environment(Walk())  # type: ignore[arg-type]  # on purpose


@pytest.mark.parametrize(
    ("cls", "complaint"),
    [
        (Unseeded, "step 0: the same seeds and actions gave another result"),
        (Common, "depend on another agent's"),
        (Lost, "nan"),
        (Shaped, r"\(2,\)"),
    ],
)
def test_what_a_run_could_not_repeat_is_found(cls: type, complaint: str) -> None:
    with pytest.raises(ContractError, match=complaint):
        p2pfrl.check_environment(cls)


def test_what_is_no_environment_is_refused() -> None:
    with pytest.raises(P2PFRLError):
        p2pfrl.check_environment("Walk-v7")
    with pytest.raises(P2PFRLError):
        p2pfrl.check_environment(dict)
