"""Matrix games: payoffs, who may average with whom, average policies and what they are worth."""

import numpy as np
import pytest

import p2pfrl
from p2pfrl.core.errors import ScenarioError
from p2pfrl.core.rng import Streams
from p2pfrl.laws.games import played, policies
from p2pfrl.laws.runs import play_tables, text
from p2pfrl.learning.environments.check import check_environment
from p2pfrl.learning.environments.crowd_games import Congestion, PublicGoods
from p2pfrl.learning.environments.matrix_game import PAYOFFS, MatrixGame
from p2pfrl.learning.environments.networked_mdp import NetworkedMDP
from p2pfrl.learning.learners.base import Batch, Task
from p2pfrl.learning.learners.joint import Games, together
from p2pfrl.learning.learners.npg import NPG, SoftmaxPG
from p2pfrl.learning.trainer import Trainer
from p2pfrl.scenario import loads


def stack(game="rps", learner=None, agents=4, instances=2):
    environment = MatrixGame(game=game)
    physics = environment.physics(1, range(agents), {"noise": np.zeros(agents)})
    simulator = environment.simulator(physics, instances, 1)
    return (learner or NPG(gamma=0.0, lr=0.5)).prepare(Task(1, agents, simulator, simulator))


@pytest.mark.parametrize("game", PAYOFFS)
def test_players_get_what_the_table_says_and_the_episode_ends(game):
    environment, actions = MatrixGame(game=game), len(PAYOFFS[game])
    made = environment.simulator(environment.physics(1, [0, 1], {"noise": np.zeros(2)}), 1, 1)
    state = made.init([0, 1])
    made.begin([0, 1], [0, 0])
    for first in range(actions):
        for second in range(actions):
            step = made.step(state, np.array([[first], [second]]))
            assert tuple(step.reward[:, 0]) == PAYOFFS[game][first][second]
            assert step.terminated.all()
            assert not step.truncated.any()


def test_named_games_are_what_their_names_say():
    first = {name: np.array(table)[..., 0] for name, table in PAYOFFS.items()}
    second = {name: np.array(table)[..., 1] for name, table in PAYOFFS.items()}
    assert {n for n in PAYOFFS if np.array_equal(first[n], -second[n])} == {"pennies", "rps"}
    symmetric = {n for n in PAYOFFS if np.array_equal(second[n], first[n].T)}
    assert symmetric == set(PAYOFFS) - {"pennies", "battle"}
    (reward, sucker), (temptation, punishment) = first["prisoners"]
    assert temptation > reward > punishment > sucker
    (stag, alone), (hare, _) = first["stag_hunt"]
    assert stag > hare > alone
    (swerve, chicken), (straight, crash) = first["chicken"]
    assert straight > swerve > chicken > crash


def test_a_table_that_is_not_square_is_refused():
    with pytest.raises(ScenarioError, match=r"as many columns as rows.*rows of \[1, 1\]"):
        MatrixGame(game=(((1.0, 0.0),), ((0.0, 1.0),)))


def test_an_update_multiplies_weights_by_payoffs_against_the_others_policy():
    made = stack()
    trainer = Trainer(made, 4, same_start=False)
    before = made._policies(trainer.parameters).copy()
    updates = trainer.update(range(4))
    M = np.array(PAYOFFS["rps"])
    for world in range(2):
        p, q = before[world, :, 0]
        for agent, own, payoff in (
            (2 * world, p, M[..., 0] @ q),
            (2 * world + 1, q, p @ M[..., 1]),
        ):
            expected = own * np.exp(0.5 * payoff)
            found = made._policies(trainer.parameters)[world, agent % 2, 0]
            assert np.allclose(found, expected / expected.sum(), rtol=0, atol=1e-14)
            gain = updates[agent].measures["gain"]
            assert gain == pytest.approx(payoff.max() - own @ payoff)


def test_the_average_policy_is_the_mean_of_the_policies_before_each_update():
    made = stack()
    trainer = Trainer(made, 4, same_start=False)
    assert np.array_equal(
        made.averages(trainer.parameters)[:, 0], made._policies(trainer.parameters).reshape(4, 3)
    )
    seen = []
    for _ in range(3):
        seen.append(made._policies(trainer.parameters).reshape(4, 1, 3).copy())
        trainer.update(range(4))
    assert np.allclose(made.averages(trainer.parameters), np.mean(seen, axis=0), rtol=0, atol=1e-14)
    value, exploitability = made.error(trainer.parameters)
    p, q = np.mean(seen, axis=0)[:2, 0]
    M = np.array(PAYOFFS["rps"])[..., 0]
    r, s = np.mean(seen, axis=0)[2:, 0]
    expected = [(M @ b).max() - (M.T @ a).min() for a, b in ((p, q), (r, s))]
    assert exploitability == pytest.approx(np.mean(expected))
    assert value == pytest.approx(0.0, abs=1e-14)
    assert made.error(trainer.parameters[:2]) is None


def test_plain_gradients_of_players_are_those_of_their_payoffs():
    made = stack("prisoners", SoftmaxPG(gamma=0.0, lr=1.0), agents=2)
    rows = made.start([0, 1], same=False)
    theta = rows[:, :2].copy()
    pi = np.exp(theta) / np.exp(theta).sum(axis=1, keepdims=True)
    made.update(Batch([0, 1], [0, 0], rows, made.init([0, 1])))
    first = np.array(PAYOFFS["prisoners"])[..., 0]
    for i in range(2):
        payoff = first @ pi[1 - i]
        gradient = pi[i] * (payoff - pi[i] @ payoff)
        assert np.allclose(rows[i, :2], theta[i] + gradient, rtol=0, atol=1e-14)


def test_members_make_trajectories_together_and_earn_what_the_joint_action_pays():
    environment, agents, count = NetworkedMDP(members=3, states=2), 6, 3000
    physics = environment.physics(1, range(agents), {"noise": np.zeros(agents)})
    games = Games.of(environment.simulator(physics, 2, 1), "npg")
    logits = np.random.default_rng(0).standard_normal((agents, 2, 2))
    paths = together(games, logits, Streams.of(1, range(agents), "t", [0] * agents), count, 3)
    state, action = (x.reshape(2, 3, count, 3) for x in (paths.state, paths.action))
    assert (state == state[:, :1]).all()
    joint = 4 * action[:, 0] + 2 * action[:, 1] + action[:, 2]
    pi = np.exp(paths.log_pi)
    for agent in range(agents):
        world, member = divmod(agent, 3)
        own = games.reward[world, member][state[world, 0], joint[world]]
        assert np.array_equal(paths.reward[agent], own)
        for here in range(2):
            chosen = paths.action[agent][paths.state[agent] == here]
            assert abs(chosen.mean() - pi[agent, here, 1]) < 0.03
    for world in range(2):
        moved = (state[world, 0, :, 0] == 1) & (joint[world, :, 0] == 5)
        expected = games.transition[world, 1, 5, 1]
        assert abs(state[world, 0, moved, 1].mean() - expected) < 4 / np.sqrt(moved.sum())


def test_gradients_of_trajectories_are_on_average_the_exact_ones():
    found = []
    for exact in (True, False):
        made = stack("rps", SoftmaxPG(gamma=0.0, lr=1.0, exact=exact, horizon=1), instances=4000)
        rows = made.start(range(4), same=False)
        before = made._tables(rows).copy()
        outcome = made.update(Batch(range(4), [0] * 4, rows, made.init(range(4))))
        found.append(made._tables(outcome.parameters) - before)
    assert np.abs(found[1] - found[0]).max() < 0.05
    assert np.abs(found[0]).max() > 0.1
    assert not np.array_equal(*found)
    assert outcome.env_steps.tolist() == [4000] * 4
    assert all(len(own) == 4000 for own in outcome.returns)


@pytest.mark.parametrize("learner", [NPG, SoftmaxPG])
def test_players_that_learn_from_what_they_played_come_to_the_dominant_action(learner):
    made = stack("prisoners", learner(gamma=0.0, lr=0.5, exact=False, horizon=1), instances=50)
    trainer = Trainer(made, 4, same_start=False)
    for _ in range(30):
        trainer.update(range(4))
    assert (made._policies(trainer.parameters)[..., 1] > 0.8).all()


def test_what_players_learn_from_trajectories_does_not_depend_on_speeds():
    learner = {"kind": "npg", "gamma": 0.0, "exact": False, "horizon": 1, "same_start": False}
    tables = {"environment": {"id": "matrix_game", "instances": 3}, "learner": learner}
    tables["mode"] = "independent"
    found = [
        p2pfrl.run(loads(text(4, 3, **tables, **more))).summary
        for more in ({}, {"compute": {"speed": {"kind": "uniform", "low": 0.5, "high": 2.0}}})
    ]
    assert found[0]["parameters_digest"] == found[1]["parameters_digest"]
    assert found[0]["env_steps"] == 4 * 3 * 3


def test_members_make_trajectories_together_one_gradient_at_a_time():
    with pytest.raises(ScenarioError, match=r"learner\.steps: must be 1 with exact = false where"):
        stack(learner=NPG(exact=False, steps=2))


def test_learners_that_know_nobody_else_refuse_a_shared_world():
    environment = {"id": "matrix_game", "game": "prisoners"}
    for kind in ("td", "tabular_q"):
        tables = {"environment": environment, "learner": {"kind": kind}}
        with pytest.raises(
            ScenarioError, match=rf"'{kind}' learns tables .* agents share this one"
        ):
            loads(text(2, 2, **tables))


GAME = {
    "environment": {"id": "matrix_game", "game": "pennies"},
    "learner": {"kind": "npg", "gamma": 0.0, "lr": 0.3, "same_start": False},
    "evaluation": {"episodes": 2},
}
ROLES = {"kind": "islands", "count": 2, "agents": "alternate"}


def test_agents_of_one_role_average_and_their_average_policies_do_not_travel():
    record = play_tables(
        6, 12, {**GAME, "topology": {**ROLES, "graph": {"kind": "complete"}}}, mode="gossip"
    )
    logits, sums = record.parameters[:, :2], record.parameters[:, 2:]
    assert np.ptp(logits[0::2], axis=0).max() < 1e-12
    assert np.ptp(logits[1::2], axis=0).max() < 1e-12
    assert np.ptp(sums[0::2], axis=0).max() > 1e-3
    assert np.allclose(sums.sum(axis=1), 12)


@pytest.mark.parametrize(
    ("mode", "game", "complaint"),
    [
        (
            "gossip",
            "pennies",
            r"topology: agents 0 and 1 have different roles .* in pennies one player's gain is the",
        ),
        (
            "central",
            "pennies",
            r"mode: mode central would average the policies of all roles, but in pennies",
        ),
        (
            "gossip",
            "battle",
            r"in battle both players have payoffs of their own; .* kind = 'islands', count = 2",
        ),
    ],
)
def test_players_with_different_roles_do_not_average(mode, game, complaint):
    environment = {**GAME["environment"], "game": game}
    with pytest.raises(ScenarioError, match=complaint):
        loads(text(4, 2, mode=mode, **{**GAME, "environment": environment}))


def test_players_of_a_symmetric_game_and_critics_may_average():
    loads(text(4, 2, **{**GAME, "environment": {"id": "matrix_game", "game": "prisoners"}}))
    critics = {"learner": {"kind": "tabular_ac"}, "exchange": {"shared": ["critic"]}}
    loads(text(4, 2, **{**GAME, **critics}))


def test_in_pennies_last_policies_circle():
    record = played("pennies", lr=0.2, rounds=60, logits=(1.0, 0.0))
    assert record.summary["error_is"] == "exploitability of the average policies"
    assert record.metrics["error"][-1] < 0.3 < 0.9 < record.agents["gain"][-2:].sum()
    assert abs(policies(record) - 0.5).max() > 0.2


def test_a_learner_from_samples_plays_too():
    tables = {
        "environment": {"id": "matrix_game", "game": "prisoners", "instances": 16},
        "learner": {"kind": "tabular_ac", "lr": 1.0, "gamma": 0.0},
        "evaluation": {"episodes": 0},
    }
    record = play_tables(2, 30, tables, mode="independent")
    assert np.asarray(record.agents["team_reward"])[-2:].max() < 1.2
    assert isinstance(record, p2pfrl.results.record.Record)


def test_public_goods_and_roads_pay_by_how_many_choose_what():
    for environment in (PublicGoods(), Congestion(members=3), PublicGoods(share="team")):
        check_environment(environment)
    reward = PublicGoods(members=3, factor=1.5).tables(1, 0).reward[:, 0]
    assert reward[:, 0b011].tolist() == [1.0, 0.0, 0.0], "the first keeps, two give"
    delay = -Congestion(members=3, roads=((1.0, 0.0), (0.5, 3.0))).tables(1, 0).reward[:, 0]
    np.testing.assert_allclose(delay[:, 0b011], [1.0, 2.5, 2.5])


def test_exact_gradients_of_a_team_are_those_of_its_mean_reward():
    made = {
        share: play_tables(
            4,
            3,
            {
                "environment": {"id": "public_goods", "share": share},
                "learner": {"kind": "npg", "gamma": 0.0, "lr": 1.0},
                "evaluation": {"episodes": 0},
            },
            mode="independent",
        )
        for share in ("own", "team")
    }
    # To give costs 1 - 1.6 / 4 alone, and brings (1.6 - 1) / 4 to everybody's mean.
    change = {share: policies(record)[0] for share, record in made.items()}
    expected = {"own": -3 * (1 - 1.6 / 4), "team": 3 * (1.6 - 1) / 4}
    for share, found in change.items():
        assert np.log(found[1] / found[0]) == pytest.approx(expected[share])
