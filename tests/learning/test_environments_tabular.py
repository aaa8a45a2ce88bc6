import numpy as np
import pytest

from p2pfrl.core.distributions.assigned import Linspace, Values
from p2pfrl.core.distributions.base import Constant
from p2pfrl.core.distributions.draws import Uniform
from p2pfrl.core.errors import P2PFRLError
from p2pfrl.learning.environments.base import Environment
from p2pfrl.learning.environments.cartpole import CartPole
from p2pfrl.learning.environments.garnet import Garnet
from p2pfrl.learning.environments.gridworld import GridWorld
from p2pfrl.learning.environments.heterogeneity import heterogeneity
from p2pfrl.learning.environments.vary import columns

UP, RIGHT, DOWN, LEFT = range(4)


def physics(
    environment: Environment, vary: dict, agents: int = 8, seed: int = 2
) -> dict[str, np.ndarray]:
    return environment.physics(
        seed, range(agents), columns(environment, vary, seed, range(agents), agents)
    )


@pytest.mark.parametrize(
    ("environment", "vary"),
    [
        (GridWorld(), {"slip": Linspace(low=0.0, high=0.6), "extra_walls": Constant(value=5)}),
        (Garnet(states=6, actions=3, branching=2), {"perturbation": Linspace(low=0.0, high=1.0)}),
    ],
)
def test_sampled_steps_have_the_frequencies_and_rewards_of_the_tables(
    environment: Environment, vary: dict
) -> None:
    found, m = physics(environment, vary), 20_000
    spec, rows = environment.spec, {k: v[:, None] for k, v in physics(environment, vary).items()}
    rng = np.random.default_rng(1)
    assert np.allclose(found["P"].sum(axis=-1), 1.0, atol=1e-14)
    for state, action in ((0, 0), (1, 1), (spec.states - 2, 2)):
        states = np.full((8, m, 1), float(state))
        after, reward, _, _ = environment.step(
            states, np.full((8, m), action), rows, rng.random((8, m, 1))
        )
        for agent in range(8):
            seen = np.bincount(after[agent, :, 0].astype(int), minlength=spec.states) / m
            expected = found["P"][agent, state, action]
            assert np.abs(seen - expected).max() < 5 * 0.5 / np.sqrt(m)
            assert (seen[expected == 0] == 0).all()
            assert reward[agent].mean() == pytest.approx(
                found["R"][agent, state, action], abs=5 / np.sqrt(m)
            )


@pytest.mark.parametrize("uniform", [0.0, 1.0 - 2.0**-53])
def test_the_extremes_of_the_noise_never_reach_an_impossible_state(uniform: float) -> None:
    environment = Garnet(states=7, actions=2, branching=3)
    found = physics(environment, {"perturbation": Constant(value=0.3)})
    rows = {k: v[:, None] for k, v in found.items()}
    for state in range(7):
        after, *_ = environment.step(
            np.full((8, 1, 1), float(state)),
            np.zeros((8, 1), dtype=int),
            rows,
            np.full((8, 1, 1), uniform),
        )
        assert (found["P"][np.arange(8), state, 0, after[:, 0, 0].astype(int)] > 0).all()


def test_a_grid_moves_as_its_map_says() -> None:
    grid = GridWorld(rows=3, columns=3, walls=((1, 1),))
    found = physics(grid, {"slip": Constant(value=0.2)}, agents=1)
    transition, reward = found["P"][0], found["R"][0]
    assert transition[0, RIGHT, 1] == pytest.approx(0.8)
    assert transition[0, RIGHT, 3] == pytest.approx(0.1)
    assert transition[0, RIGHT, 0] == pytest.approx(0.1)
    assert transition[1, DOWN, 1] == pytest.approx(0.8)
    assert transition[5, DOWN, 8] == pytest.approx(0.8)
    assert reward[5, DOWN] == pytest.approx(0.8 * 1.0 - 0.01)
    assert found["terminal"][0].tolist() == [False] * 8 + [True]
    assert (reward[8] == 0).all()
    assert transition[8, UP, 8] == 1.0


def test_walls_are_the_agents_own_and_leave_a_way_to_the_goal_from_everywhere() -> None:
    grid = GridWorld(rows=5, columns=5)
    found = physics(
        grid, {"extra_walls": Constant(value=8), "slip": Constant(value=0.0)}, agents=10
    )
    walls = {tuple((found["action_reward"][i, :, 0] == 0).tolist()) for i in range(10)}
    assert len(walls) > 5
    for table in found["P"]:
        step = (table.sum(axis=1) > 0).astype(float)
        reach = np.linalg.matrix_power(np.minimum(step, 1), 25) > 0
        inside = step.sum(axis=1) > 1
        assert inside.sum() == 25 - 8 - 1
        assert reach[inside, 24].all()
        free = np.flatnonzero(step.sum(axis=1) > 1)
        start = found["start"][0]
        assert start[-1] == 1.0
        assert len(free) == 16


def test_goals_may_be_the_agents_own() -> None:
    found = physics(GridWorld(), {"goal_column": Values(list=(0.0, 2.0, 4.0))}, agents=3)
    assert [int(np.flatnonzero(row)[0]) for row in found["terminal"]] == [20, 22, 24]


@pytest.mark.parametrize(
    ("grid", "vary", "complaint"),
    [
        (GridWorld(), {"goal_row": Constant(value=5)}, "goal_row: agent 0: .* from 0 to 4, got 5"),
        (GridWorld(walls=((4, 4),)), {}, "must be two free cells"),
        (GridWorld(start=(4, 4)), {}, "must be two free cells"),
        (GridWorld(), {"extra_walls": Constant(value=24)}, "24 extra walls"),
        (GridWorld(rows=3, columns=3, walls=((0, 1), (1, 0))), {}, "reach the goal"),
        (GridWorld(), {"slip": Constant(value=1.5)}, "from 0 to 1, got 1.5"),
        (Garnet(), {"perturbation": Constant(value=-0.1)}, "from 0 to 1, got -0.1"),
    ],
)
def test_impossible_worlds_are_refused(grid: Environment, vary: dict, complaint: str) -> None:
    with pytest.raises(P2PFRLError, match=complaint):
        physics(grid, vary, agents=2)


def test_garnets_rows_have_b_successors_and_agents_share_the_common_process() -> None:
    found = physics(Garnet(states=30, actions=2, branching=3), {})
    assert ((found["P"] > 0).sum(axis=-1) == 3).all()
    assert (found["P"] == found["P"][0]).all()
    assert (found["R"] == found["R"][0]).all()
    assert 0 <= found["R"].min() < found["R"].max() < 1


@pytest.mark.parametrize("level", [0.0, 0.02, 0.3, 1.0])
def test_the_perturbation_bounds_the_total_variation_between_agents(level: float) -> None:
    environment = Garnet()
    vary = {"perturbation": Constant(value=level), "reward_perturbation": Constant(value=level)}
    measured = heterogeneity(environment, physics(environment, vary))
    assert measured["epsilon_p_max"] <= level + 1e-12
    assert measured["epsilon_p_mean"] >= 0.9 * level
    assert measured["epsilon_r_max"] <= level
    assert measured["epsilon_r_max"] >= 0.5 * level


def test_an_agents_table_does_not_depend_on_the_number_of_agents() -> None:
    environment = Garnet()
    vary = {"perturbation": Uniform(low=0.1, high=0.9)}
    few, many = physics(environment, vary, agents=3), physics(environment, vary, agents=9)
    for name in few:
        assert np.array_equal(few[name], many[name][:3])
    assert not np.array_equal(physics(environment, vary, agents=3, seed=3)["P"], few["P"])


def test_the_instance_holds_what_a_checker_needs() -> None:
    environment = GridWorld(rows=2, columns=3)
    kept = environment.instance(physics(environment, {}, agents=4))
    assert kept["P"].shape == (4, 6, 4, 6)
    assert kept["R"].shape == (4, 6, 4)
    assert {"slip", "goal_row", "terminal"} <= set(kept)


def test_heterogeneity_of_slip_and_of_physics_is_their_spread() -> None:
    measured = heterogeneity(
        GridWorld(), physics(GridWorld(), {"slip": Values(list=(0.0, 0.4))}, agents=2)
    )
    assert measured["epsilon_p_max"] == pytest.approx(0.4)
    assert measured["variation_slip"] == pytest.approx(1.0)
    alike = heterogeneity(CartPole(), physics(CartPole(), {}))
    assert alike == {"step_distance_max": 0.0, "step_distance_mean": 0.0}
    near = heterogeneity(CartPole(), physics(CartPole(), {"gravity": Linspace(low=9.0, high=10.0)}))
    far = heterogeneity(CartPole(), physics(CartPole(), {"gravity": Linspace(low=5.0, high=15.0)}))
    assert near["variation_gravity"] == pytest.approx(np.std(np.linspace(9, 10, 8)) / 9.5)
    assert far["step_distance_max"] == pytest.approx(10 * near["step_distance_max"], rel=0.2)
