import numpy as np
import pytest

from p2pfrl.core.distributions.assigned import Linspace
from p2pfrl.core.distributions.base import Constant
from p2pfrl.learning.environments.base import ArraySimulator, Environment
from p2pfrl.learning.environments.drift import Drift
from p2pfrl.learning.environments.lqr import LQR
from p2pfrl.learning.environments.vary import columns


def made(environment: Environment, vary: dict, agents: int, instances: int) -> ArraySimulator:
    physics = environment.physics(
        4, range(agents), columns(environment, vary, 4, range(agents), agents)
    )
    return ArraySimulator(environment, physics, instances, 4)


def mean_return(simulator: ArraySimulator, agents: int, policy) -> np.ndarray:
    state = simulator.init(range(agents))
    simulator.begin(range(agents), [0] * agents)
    obs, returns = simulator.observe(range(agents), state), []
    for _ in range(simulator.max_steps):
        step = simulator.step(state, policy(obs))
        obs = step.obs
        returns.append(np.where(step.finished, step.returns, np.nan))
    return np.nanmean(np.array(returns), axis=(0, 2))


def test_every_lqr_agent_has_the_radius_asked_for_and_matrices_of_its_own() -> None:
    environment = LQR(radius=0.9)
    physics = environment.physics(
        4, range(5), columns(environment, {"perturbation": Constant(value=0.5)}, 4, range(5), 5)
    )
    radii = np.abs(np.linalg.eigvals(physics["A"])).max(axis=-1)
    assert radii == pytest.approx(np.full(5, 0.9))
    assert len({matrix.tobytes() for matrix in physics["B"]}) == 5


def test_lqr_steps_are_linear_and_costs_quadratic() -> None:
    environment = LQR(dimension=4, controls=3)
    vary = {"perturbation": Constant(value=0.5), "noise": Constant(value=0.0)}
    physics = environment.physics(4, range(2), columns(environment, vary, 4, range(2), 2))
    rows = {name: values[:, None] for name, values in physics.items()}
    rng = np.random.default_rng(0)
    state, action = (
        rng.standard_normal((2, 5, 4)),
        rng.standard_normal((2, 5, 3)).astype(np.float32),
    )
    after, reward, _, _ = environment.step(state, action, rows, rng.random((2, 5, 4)))
    for i in range(2):
        assert np.allclose(
            after[i], state[i] @ physics["A"][i].T + action[i] @ physics["B"][i].T, atol=1e-12
        )
        cost = (state[i] ** 2).sum(-1) + 0.1 * (action[i].astype(np.float64) ** 2).sum(-1)
        assert np.allclose(reward[i], -cost, atol=1e-12)


def test_lqr_noise_has_the_standard_deviation_asked_for() -> None:
    environment = LQR()
    physics = environment.physics(
        4, [0], columns(environment, {"noise": Constant(value=0.3)}, 4, [0], 1)
    )
    rows = {name: values[:, None] for name, values in physics.items()}
    noise = np.random.default_rng(0).random((1, 100_000, 3))
    after, *_ = environment.step(np.zeros((1, 100_000, 3)), np.zeros((1, 100_000, 2)), rows, noise)
    assert after.std() == pytest.approx(0.3, rel=0.01)
    assert after.mean() == pytest.approx(0.0, abs=0.003)


def test_the_riccati_gain_beats_every_gain_nearby() -> None:
    environment = LQR(bound=1e6, max_steps=200)
    simulator = made(environment, {"perturbation": Constant(value=0.3)}, agents=4, instances=64)
    physics = {name: values[:, 0] for name, values in simulator._physics.items()}
    gain = environment.optimal_gain(physics)

    def follow(gains: np.ndarray) -> np.ndarray:
        return mean_return(
            simulator, 4, lambda obs: -np.einsum("bkd,bmd->bmk", gains, obs.astype(np.float64))
        )

    best, rng = follow(gain), np.random.default_rng(0)
    for _ in range(10):
        assert (follow(gain + 0.2 * rng.standard_normal(gain.shape)) < best).all()
    assert (follow(0 * gain) < best).all()


def test_the_riccati_gain_of_a_scalar_system_solves_its_quadratic_equation() -> None:
    a, b, r = 0.8, 0.5, 0.1
    physics = {"A": np.array([[[a]]]), "B": np.array([[[b]]]), "control_cost": np.array([r])}
    value = np.roots([b * b, r - a * a * r - b * b, -r]).max()
    expected = b * value * a / (r + b * b * value)
    assert LQR(dimension=1, controls=1).optimal_gain(physics)[0, 0, 0] == pytest.approx(
        expected, abs=1e-12
    )


def test_drift_agents_differ_in_difficulty_by_default() -> None:
    assert columns(Drift(), {}, 1, range(4), 4)["difficulty"] == pytest.approx([0.5, 0.7, 0.9, 1.1])
    given = columns(Drift(), {"difficulty": Constant(value=2.0)}, 1, range(4), 4)
    assert given["difficulty"].tolist() == [2.0] * 4
    assert given["noise"].tolist() == [0.05] * 4


def test_each_drift_action_moves_every_coordinate_by_a_tenth_of_the_difficulty() -> None:
    environment = Drift(dimension=3)
    physics = {"difficulty": np.array([[0.5], [0.7]]), "noise": np.zeros((2, 1))}
    state = np.zeros((2, 8, 3))
    after, reward, terminated, _ = environment.step(
        state, np.tile(np.arange(8), (2, 1)), physics, np.full((2, 8, 3), 0.9)
    )
    for i, step in enumerate((0.05, 0.07)):
        assert np.abs(after[i]) == pytest.approx(np.full((8, 3), step))
        assert len(np.unique(np.sign(after[i]), axis=0)) == 8
        assert reward[i] == pytest.approx(np.full(8, -step))
    assert not terminated.any()


def test_drift_ends_beyond_5_and_after_200_steps() -> None:
    environment = Drift()
    physics = {"difficulty": np.ones((1, 1)), "noise": np.zeros((1, 1))}
    state = np.array([[[4.95, 0.0], [4.85, 0.0], [-4.95, 0.0]]])
    _, _, terminated, _ = environment.step(
        state, np.array([[3, 3, 0]]), physics, np.full((1, 3, 2), 0.5)
    )
    assert terminated.tolist() == [[True, False, True]]
    simulator = made(environment, {"difficulty": Constant(value=0.1)}, agents=1, instances=2)
    state_, action = simulator.init([0]), np.array([[1, 2]])
    simulator.begin([0], [0])
    lengths = []
    for t in range(400):
        step = simulator.step(state_, action if t % 2 else 3 - action)
        lengths += step.lengths[step.truncated].tolist()
    assert lengths == [200] * 4


def test_steering_home_is_worth_much_and_less_so_for_difficult_agents() -> None:
    simulator = made(Drift(), {"difficulty": Linspace(low=0.5, high=2.5)}, agents=5, instances=16)
    home = mean_return(simulator, 5, lambda obs: (obs[..., 0] < 0) + 2 * (obs[..., 1] < 0))
    away = mean_return(simulator, 5, lambda obs: (obs[..., 0] > 0) + 2 * (obs[..., 1] > 0))
    assert (np.diff(home) < 0).all()
    assert (home > -30).all()
    assert (away < 1.5 * home).all()
