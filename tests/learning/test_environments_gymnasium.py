"""The array environments against Gymnasium's own, step by step."""

import gymnasium
import numpy as np
import pytest

from p2pfrl.learning.environments import RULES
from p2pfrl.learning.environments.registry import resolve

# State equality is bitwise but for Acrobot, where Gymnasium squares scalars with pow(), now and
# then off by one unit in the last place, and Pendulum's reward, whose float32 part it squares
# likewise.
STATE_TOLERANCE = {"Acrobot-v1": 1e-12}
REWARD_TOLERANCE = {"Pendulum-v1": 5e-10}
IDS = ("CartPole-v1", "Pendulum-v1", "Acrobot-v1", "MountainCar-v0", "MountainCarContinuous-v0")
PHYSICS = {
    "CartPole-v1": {
        "gravity": 11.3,
        "length": 0.7,
        "masspole": 0.17,
        "masscart": 1.3,
        "force_mag": 8.5,
    },
    "Pendulum-v1": {"g": 8.7, "m": 1.2, "l": 0.9},
    "Acrobot-v1": {
        "link_length_1": 1.1,
        "link_mass_2": 0.8,
        "link_com_pos_2": 0.6,
        "link_moi": 1.2,
    },
    "MountainCar-v0": {"force": 0.0013, "gravity": 0.0027, "goal_position": 0.45},
    "MountainCarContinuous-v0": {"power": 0.0019, "goal_position": 0.4},
}


def start(env: gymnasium.Env, state: np.ndarray) -> None:
    own = env.unwrapped
    own.state = (
        state.astype(np.float32) if type(own).__name__.startswith("Continuous") else state.copy()
    )
    own.steps_beyond_terminated = None


def configure(env: gymnasium.Env, physics: dict[str, float]) -> None:
    own = env.unwrapped
    for name, value in physics.items():
        attribute = name.upper() if hasattr(own, name.upper()) else name
        assert hasattr(own, attribute)
        setattr(own, attribute, value)
    if hasattr(own, "polemass_length"):
        own.total_mass = own.masspole + own.masscart
        own.polemass_length = own.masspole * own.length


@pytest.mark.parametrize("id", IDS)
@pytest.mark.parametrize("varied", [False, True])
def test_each_step_equals_gymnasiums(id: str, varied: bool) -> None:
    environment = resolve(id).rule(**resolve(id).preset)
    spec, changed = environment.spec, PHYSICS[id] if varied else {}
    assert set(changed) <= set(spec.physics)
    physics = {
        name: np.full((1, 1), changed.get(name, value)) for name, value in spec.physics.items()
    }
    env = gymnasium.make(id)
    assert env.spec.max_episode_steps == spec.max_steps
    env.reset(seed=1)
    configure(env, changed)
    rng = np.random.default_rng(7)
    bitwise = not varied and id not in STATE_TOLERANCE
    tolerance = STATE_TOLERANCE.get(id, 1e-6 if "Continuous" in id else 1e-12)
    restarts, nothing = 0, np.empty((1, 1, 0))
    state, age = environment.reset(physics, rng.random((1, 1, spec.reset_noise))), 0
    start(env, state[0, 0])
    for _ in range(2000):
        if spec.actions:
            action = rng.integers(spec.actions)
        else:
            action = rng.uniform(spec.action_low, spec.action_high).astype(np.float32)
        obs, reward, terminated, _, _ = env.unwrapped.step(action)
        state, ours, ended, _ = environment.step(state, np.array([[action]]), physics, nothing)
        theirs = np.array(env.unwrapped.state, dtype=np.float64)
        if bitwise:
            assert np.array_equal(state[0, 0], theirs)
            assert np.array_equal(environment.observe(state, physics)[0, 0], obs)
        assert np.abs(state[0, 0] - theirs).max() <= tolerance
        assert abs(ours[0, 0] - reward) <= (1e-6 if varied else REWARD_TOLERANCE.get(id, 0.0))
        assert ended[0, 0] == terminated
        state, age = theirs[None, None], age + 1
        if terminated or age == 300:
            state, age, restarts = (
                environment.reset(physics, rng.random((1, 1, spec.reset_noise))),
                0,
                restarts + 1,
            )
            start(env, state[0, 0])
    assert restarts >= 5


def test_whole_cartpole_episodes_equal_gymnasiums_bit_for_bit() -> None:
    environment = RULES["cartpole"]()
    physics = {name: np.full((1, 1), value) for name, value in environment.spec.physics.items()}
    env, rng = gymnasium.make("CartPole-v1"), np.random.default_rng(3)
    for episode in range(20):
        env.reset(seed=episode)
        state = environment.reset(physics, rng.random((1, 1, 4)))
        start(env, state[0, 0])
        terminated = False
        while not terminated:
            action = rng.integers(2)
            _, _, terminated, _, _ = env.unwrapped.step(action)
            state, _, ended, _ = environment.step(
                state, np.array([[action]]), physics, np.empty((1, 1, 0))
            )
            assert ended[0, 0] == terminated
        assert np.array_equal(state[0, 0], np.array(env.unwrapped.state))


@pytest.mark.parametrize("id", ["MountainCar-v0", "MountainCarContinuous-v0"])
def test_a_car_stops_at_the_left_wall_as_gymnasiums_does(id: str) -> None:
    environment = resolve(id).rule()
    physics = {name: np.full((1, 1), value) for name, value in environment.spec.physics.items()}
    env, state = (
        gymnasium.make(id),
        np.array([[[np.float32(-1.19), np.float32(-0.05)]]], dtype=np.float64),
    )
    env.reset(seed=1)
    start(env, state[0, 0])
    action = 0 if environment.spec.actions else np.array([-1.0], dtype=np.float32)
    env.unwrapped.step(action)
    after, *_ = environment.step(state, np.array([[action]]), physics, np.empty((1, 1, 0)))
    assert after[0, 0, 1] == 0.0
    assert np.array_equal(after[0, 0], np.array(env.unwrapped.state, dtype=np.float64))


@pytest.mark.parametrize("id", IDS)
def test_start_states_lie_in_the_same_box_as_gymnasiums(id: str) -> None:
    environment = resolve(id).rule()
    spec = environment.spec
    physics = {name: np.full((1, 1), value) for name, value in spec.physics.items()}
    uniform = np.linspace(0, 1 - 2**-53, 501)[None, :, None] * np.ones(spec.reset_noise)
    ours = environment.reset(physics, uniform)[0]
    env = gymnasium.make(id)
    theirs = []
    for seed in range(500):
        env.reset(seed=seed)
        theirs.append(np.array(env.unwrapped.state, dtype=np.float64))
    width = np.ptp(ours, axis=0)
    assert np.allclose(ours.min(axis=0), np.min(theirs, axis=0), atol=0.03 * width.max())
    assert np.allclose(ours.max(axis=0), np.max(theirs, axis=0), atol=0.03 * width.max())
