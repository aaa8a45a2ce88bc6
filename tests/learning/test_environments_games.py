"""Shared worlds given by tables: what they draw, what they pay, and what is best."""

from itertools import product

import numpy as np
import pytest

from p2pfrl.core.errors import ScenarioError
from p2pfrl.learning.environments import RULES
from p2pfrl.learning.environments.cartpole import CartPole
from p2pfrl.learning.environments.matrix_game import MatrixGame
from p2pfrl.learning.environments.networked_mdp import NetworkedMDP, best_joint
from p2pfrl.learning.environments.shared_tabular import SharedTabular, joint_action
from p2pfrl.learning.environments.tabular import Tabular
from p2pfrl.learning.learners.joint import Games, joint_policy
from p2pfrl.learning.learners.processes import Processes
from p2pfrl.learning.rollout import play_baselines


def simulator(environment, agents, instances=2, seed=5):
    columns = {name: np.full(agents, value) for name, value in environment.spec.physics.items()}
    physics = environment.physics(seed, range(agents), columns)
    return environment.simulator(physics, instances, seed)


def test_members_of_a_world_have_one_process_and_rewards_of_their_own():
    environment = NetworkedMDP(members=3, states=4)
    physics = simulator(environment, 6).physics
    assert np.array_equal(physics["P"][0], physics["P"][2])
    assert not np.array_equal(physics["P"][2], physics["P"][3])
    assert not np.array_equal(physics["R"][0], physics["R"][1])
    assert np.allclose(physics["P"].sum(axis=-1), 1.0)
    assert np.allclose(physics["team"][:3], physics["R"][:3].mean(axis=0))
    part = environment.physics(5, [3, 4, 5], {"noise": np.full(3, 0.5)})
    assert np.array_equal(part["R"], physics["R"][3:])


def test_a_step_draws_from_the_row_of_the_joint_action_and_pays_each_member_its_own():
    environment = NetworkedMDP(members=2, states=3)
    made = simulator(environment, 2, instances=20_000)
    physics = {
        name: values.reshape(1, 2, 1, *values.shape[1:]) for name, values in made.physics.items()
    }
    world = np.full((1, 20_000, 1), 1.0)
    action = np.broadcast_to(np.array([1, 0])[None, :, None], (1, 2, 20_000))
    noise = np.random.default_rng(0).random((1, 20_000, 3))
    after, reward, terminated, measures = environment.step(world, action, physics, noise)
    P, R = made.physics["P"][0, 1, 2], made.physics["R"][:, 1, 2]
    found = np.bincount(after[0, :, 0].astype(int), minlength=3) / 20_000
    assert np.abs(found - P).max() < 0.02
    assert np.abs(reward[0].mean(axis=1) - R).max() < 0.02
    assert np.abs(reward[0] - R[:, None]).max() <= 0.5
    assert not terminated.any()
    assert np.allclose(measures["team_reward"], reward.mean(axis=1, keepdims=True))


def test_a_team_is_paid_the_mean():
    alone, team = (NetworkedMDP(members=2, states=2, share=share) for share in ("own", "team"))
    steps = []
    for environment in (alone, team):
        made = simulator(environment, 2)
        state = made.init([0, 1])
        made.begin([0, 1], [0, 0])
        steps.append(made.step(state, np.ones((2, 2), dtype=np.int64)))
    assert np.allclose(steps[1].reward, steps[0].reward.mean(axis=0))


def test_the_best_joint_policy_is_the_best_of_all_and_its_baseline_earns_what_it_says():
    environment = NetworkedMDP(members=2, states=2, max_steps=2, share="team")
    made = simulator(environment, 2, instances=4000)
    P, r = made.physics["P"][0], made.physics["team"][0]
    returns = []
    for plan in product(range(4), repeat=4):
        value = np.zeros(2)
        for actions in (plan[:2], plan[2:]):
            value = np.array([r[s, a] + P[s, a] @ value for s, a in enumerate(actions)])
        returns.append(value.mean())
    best = environment.optimum(made.physics)
    assert best is not None
    assert np.allclose(best, max(returns), rtol=0, atol=1e-12)
    played = play_baselines(made, agents=[0, 1], episodes=4000, index=0)["best_joint"].returns
    assert np.abs(played - best).max() < 0.05
    assert NetworkedMDP().optimum({}) is None


@pytest.mark.parametrize(
    ("game", "mean"), [("prisoners", 3.0), ("stag_hunt", 4.0), ("battle", 1.5), ("pennies", 0.0)]
)
def test_the_best_pair_of_actions_is_a_baseline_of_a_matrix_game(game, mean):
    made = simulator(MatrixGame(game=game), 4)
    played = play_baselines(made, agents=range(4), episodes=2, index=0)["best_joint"].returns
    assert played.shape == (4,)
    assert played[:2].mean() == played[2:].mean() == mean


def test_a_table_of_many_joint_actions_is_refused():
    with pytest.raises(ScenarioError, match=r"at most 1,000,000, got 26,214,400: fewer members"):
        NetworkedMDP(members=20)


def test_the_joint_action_has_the_first_member_first():
    assert joint_action(np.array([[[2], [0], [1]]]), 3).tolist() == [[2 * 9 + 1]]


# --- values of joint policies ---------------------------------------------------------------------


def games(members=2, worlds=2, states=3):
    made = simulator(NetworkedMDP(members=members, states=states), members * worlds)
    return Games.of(made, "npg")


def policies(games, seed=0):
    G, k, S, _ = games.reward.shape
    drawn = np.random.default_rng(seed).random((G, k, S, 2))
    return drawn / drawn.sum(axis=-1, keepdims=True)


def test_a_joint_policy_is_worth_what_its_chain_earns():
    game = games()
    pi, gamma = policies(game), 0.8
    joint = joint_policy(pi)
    a, b = 1, 0
    assert np.allclose(joint[0, 2, 2 * a + b], pi[0, 0, 2, a] * pi[0, 1, 2, b])
    chance, total = game.start.copy(), np.zeros((2, 2))
    for t in range(200):
        total += gamma**t * np.einsum("gs,gsj,gksj->gk", chance, joint, game.reward)
        chance = np.einsum("gs,gsj,gsjt->gt", chance, joint, game.transition)
    assert np.allclose(game.values(pi, gamma), total, rtol=0, atol=1e-10)


def test_the_process_of_one_member_has_the_others_policies_in_it():
    game = games(members=3)
    pi = policies(game)
    against = game.against(pi)
    world, member = 1, 1
    for own in range(2):
        expected = sum(
            pi[world, 0, :, first]
            * pi[world, 2, :, last]
            * game.reward[world, member, :, 4 * first + 2 * own + last]
            for first in range(2)
            for last in range(2)
        )
        assert np.allclose(against.reward[world * 3 + member, :, own], expected)
    assert np.allclose(against.transition.sum(axis=-1), 1.0)
    alone = game.part([1]).against(pi[[1]])
    assert np.array_equal(alone.reward, against.reward[3:])


def test_nobody_gains_alone_where_all_play_best_responses():
    """A team's best joint policy is a Nash equilibrium of the game in which all get the mean."""
    game = games()
    shared = np.repeat(game.reward.mean(axis=1, keepdims=True), 2, axis=1)
    team = Games(game.transition, shared, game.goes_on, game.start)
    gamma = 0.8
    kernel = best_joint(team.transition * gamma, shared[:, 0], 400)[1][:, 0]
    pi = np.zeros((2, 2, 3, 2))
    for world, state in product(range(2), range(3)):
        for member in range(2):
            pi[world, member, state, kernel[world, state] >> (1 - member) & 1] = 1.0
    assert np.allclose(team.gains(pi, gamma), 0.0, atol=1e-9)
    assert np.allclose(team.values(pi, gamma)[:, 0], team.best(gamma), rtol=0, atol=1e-9)
    assert (team.gains(policies(team), gamma) > 0.01).all()


def test_environments_without_tables_are_refused():
    with pytest.raises(ScenarioError, match="needs an environment given by tables"):
        Games.of(None, "tabular_ac")


def test_a_refusal_for_want_of_tables_names_all_environments_that_have_some():
    alone, shared = (
        {name for name, rule in RULES.items() if issubclass(rule, base)}
        for base in (Tabular, SharedTabular)
    )
    for of, learner, names in (
        (Processes.of, "td", alone),
        (Games.of, "tabular_ac", alone | shared),
    ):
        with pytest.raises(ScenarioError, match="given by tables: ") as caught:
            of(simulator(CartPole(), 1), learner)
        said = str(caught.value).partition("tables: ")[2].partition(", or a class")[0]
        assert set(said.split(", ")) == names
