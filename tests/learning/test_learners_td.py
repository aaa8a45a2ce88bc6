"""TD(0): its mean field, its samples and its batches.

The mean field is checked against the textbook, samples against the mean field, and batches against
each other.
"""

from dataclasses import replace

import numpy as np
import pytest

from p2pfrl.core.distributions.assigned import Values
from p2pfrl.core.errors import ScenarioError
from p2pfrl.laws.runs import play
from p2pfrl.learning.corrections.variates import ResidualVariate
from p2pfrl.learning.environments.cartpole import CartPole
from p2pfrl.learning.environments.crossing import Crossing
from p2pfrl.learning.environments.garnet import Garnet
from p2pfrl.learning.environments.gridworld import GridWorld
from p2pfrl.learning.environments.vary import columns
from p2pfrl.learning.learners.base import Task
from p2pfrl.learning.learners.td import TD
from p2pfrl.learning.trainer import Trainer

N = 6
GARNET = Garnet(states=7, actions=3, branching=2, kinds=2)
GRID = GridWorld(rows=3, columns=3, walls=((1, 1),))


def bound(learner, environment=GARNET, *, agents=N, instances=2, seed=3, vary=None, **task):
    physics = environment.physics(
        seed, range(agents), columns(environment, vary or {}, seed, range(agents), agents)
    )
    return learner.prepare(
        Task(seed, agents, environment.simulator(physics, instances, seed), **task)
    )


def run(learner, groups, *, environment=GARNET, chunk=None, correction=None):
    task = {"correction": correction} if correction else {}
    stack = bound(
        learner,
        environment,
        vary={"perturbation": Values(list=tuple(np.linspace(0, 1, N)))}
        if environment is GARNET
        else None,
        **task,
    )
    stack.traits = replace(stack.traits, chunk=chunk or stack.traits.chunk)
    trainer = Trainer(stack, N)
    for _ in range(3):
        for group in groups:
            trainer.update(group)
    return trainer


@pytest.mark.parametrize("environment", [GARNET, GRID], ids=["garnet", "gridworld"])
@pytest.mark.parametrize(
    "learner",
    [
        TD(features=5, steps=37),
        TD(features=0, steps=4, samples="trajectory"),
        TD(features=8, steps=11, exact=True),
        TD(features=9, steps=300, samples="trajectory"),
    ],
)
def test_alone_in_subsets_in_chunks_and_all_together_are_bit_identical(learner, environment):
    correction = ResidualVariate()
    everyone = run(learner, [range(N)], environment=environment, correction=correction)
    for groups, chunk in (
        ([[i] for i in range(N)], None),
        ([[4, 1], [0, 5, 3], [2]], None),
        ([range(N)], 4),
    ):
        other = run(learner, groups, environment=environment, chunk=chunk, correction=correction)
        assert np.array_equal(everyone.parameters, other.parameters)
        for name, values in everyone.state.items():
            assert np.array_equal(values, other.state[name])
    assert np.abs(everyone.parameters).max() > 0


def test_the_system_is_the_textbooks():
    stack = bound(TD(features=4, gamma=0.9))
    physics = stack.task.simulator.physics
    phi = stack.features
    np.testing.assert_allclose(phi.sum(axis=1), 1.0)
    for i in range(N):
        chain = physics["P"][i].mean(axis=1)
        eigenvalues, vectors = np.linalg.eig(chain.T)
        mu = np.real(vectors[:, np.argmin(np.abs(eigenvalues - 1.0))])
        mu /= mu.sum()
        np.testing.assert_allclose(stack.stationary[i], mu, atol=1e-10)
        A, b = np.zeros((4, 4)), np.zeros(4)
        for s in range(7):
            for a in range(3):
                b += mu[s] / 3 * physics["R"][i][s, a] * phi[s]
                for after in range(7):
                    A += (
                        mu[s]
                        / 3
                        * physics["P"][i][s, a, after]
                        * np.outer(phi[s], phi[s] - 0.9 * phi[after])
                    )
        np.testing.assert_allclose(stack.system[0][i], A, atol=1e-12)
        np.testing.assert_allclose(stack.system[1][i], b, atol=1e-12)
        np.testing.assert_allclose(
            stack.objective.problem()["theta_star"][i], np.linalg.solve(A, b), rtol=1e-9
        )
    A, b = stack.system
    np.testing.assert_allclose(
        stack.optimum, np.linalg.solve(A.sum(axis=0), b.sum(axis=0)), rtol=1e-9
    )
    assert np.array_equal(physics["P"][0], physics["P"][2])
    assert not np.array_equal(physics["P"][0], physics["P"][1])


def test_with_one_hot_features_the_optimum_is_the_value_of_the_policy_and_ends_have_no_future():
    stack = bound(TD(features=0, gamma=0.9), GRID, agents=1)
    physics = stack.task.simulator.physics
    moves = physics["P"][0].mean(axis=1) * (1.0 - physics["terminal"][0])
    value = np.linalg.solve(np.eye(9) - 0.9 * moves, physics["R"][0].mean(axis=1))
    A, b = stack.system
    free = [s for s in range(9) if s not in (4, 8)]
    found = np.linalg.solve(A[0][np.ix_(free, free)], b[0][free])
    np.testing.assert_allclose(found, value[free], atol=1e-10)
    assert stack.stationary[0][[4, 8]].max() < 1e-12


@pytest.mark.parametrize(
    ("features", "environment"),
    [(0, GRID), (12, GRID), (0, Crossing())],
    ids=["tabular", "more", "crossing"],
)
def test_where_states_are_never_visited_or_features_are_too_many_the_optimum_is_where_exact_td_ends(
    features, environment
):
    stack = bound(
        TD(features=features, gamma=0.5, steps=400, exact=True, lr=2.0), environment, agents=1
    )
    A, b = stack.system
    still = np.linalg.svd(A[0])[2][np.linalg.matrix_rank(A[0]) :]  # directions that no step takes
    assert len(still)
    np.testing.assert_allclose(A[0] @ stack.optimum, b[0], atol=1e-12)
    np.testing.assert_allclose(
        stack.objective.problem()["theta_star"][0], stack.optimum, atol=1e-12
    )
    trainer = Trainer(stack, 1)
    errors = [stack.objective.error(trainer.parameters)[1]]
    for _ in range(5):
        trainer.update([0])
        errors.append(stack.objective.error(trainer.parameters)[1])
    assert (np.diff(errors) < 0).all() or errors[-1] < 1e-12
    np.testing.assert_allclose(
        still @ (trainer.parameters[0, : len(b[0])] - stack.optimum), 0.0, atol=1e-9
    )


@pytest.mark.parametrize(
    "environment", [GARNET, pytest.param(GRID, marks=pytest.mark.slow)], ids=["garnet", "gridworld"]
)
@pytest.mark.parametrize("samples", ["stationary", "trajectory"])
def test_samples_have_the_frequencies_of_the_mean_field(samples, environment):
    stack = bound(
        TD(features=3, steps=40_000, samples=samples, lr=0.0), environment, agents=2, instances=3
    )
    trainer = Trainer(stack, 2)
    trainer.freeze(0)
    trainer.freeze(1)
    batch = trainer._gather([0, 1])
    A, b, count = np.zeros((2, 3, 3)), np.zeros((2, 3)), 0
    phi, goes_on = stack.features, stack.processes.goes_on
    for before, after, reward in stack._samples(batch, np.arange(2)):
        ahead = (
            phi[before] - 0.95 * goes_on[np.arange(2)[:, None, None], after][..., None] * phi[after]
        )
        A += np.einsum("btmp,btmq->bpq", phi[before], ahead)
        b += np.einsum("btmp,btm->bp", phi[before], reward)
        count += before[0].size
    assert count == 120_000
    np.testing.assert_allclose(A / count, stack.system[0], atol=0.004)
    np.testing.assert_allclose(b / count, stack.system[1], atol=0.006)


@pytest.mark.parametrize("environment", [GARNET, GRID], ids=["garnet", "gridworld"])
@pytest.mark.parametrize("samples", ["stationary", "trajectory"])
def test_sampled_steps_are_those_of_the_mean_field_on_average_and_do_not_look_beyond_an_end(
    samples, environment
):
    stack = bound(TD(features=3, steps=50, samples=samples), environment, agents=2, instances=2000)
    trainer = Trainer(stack, 2)
    trainer.freeze(0)
    trainer.freeze(1)
    theta = np.array([[1.0, -2.0, 3.0], [5.0, 5.0, 5.0]])
    fields = [field(theta)[0] for field in stack._fields(trainer._gather([0, 1]))]
    A, b = stack.system
    np.testing.assert_allclose(
        np.mean(fields[10:], axis=0), (A @ theta[..., None])[..., 0] - b, atol=0.015
    )


def test_a_step_is_the_rule_with_the_sign_that_converges():
    stack = bound(TD(features=4, steps=3, gamma=0.9, lr=0.2), agents=2, instances=2)
    trainer = Trainer(stack, 2)
    trainer.freeze(0)
    trainer.freeze(1)
    blocks = list(stack._samples(trainer._gather([0, 1]), np.arange(2)))
    trainer.compute()
    theta, phi = np.zeros(4), stack.features
    before, after, reward = blocks[0]
    for k in range(3):
        delta = reward[1, k] + 0.9 * phi[after[1, k]] @ theta - phi[before[1, k]] @ theta
        theta = theta + 0.2 * (delta[:, None] * phi[before[1, k]]).mean(axis=0)
    trainer.commit(1)
    np.testing.assert_allclose(trainer.read(1)[:4], theta, atol=1e-14)


def test_chains_go_on_from_update_to_update():
    stack = bound(TD(features=0, steps=5, samples="trajectory"), agents=2)
    trainer = Trainer(stack, 2)
    for _ in range(3):
        here = trainer.state["chain"].copy()
        trainer.freeze(0)
        trainer.freeze(1)
        ((before, after, _),) = stack._samples(trainer._gather([0, 1]), np.arange(2))
        np.testing.assert_array_equal(before[:, 0], here)
        np.testing.assert_array_equal(before[:, 1:], after[:, :-1])
        trainer.compute()
        trainer.commit(0)
        trainer.commit(1)
        np.testing.assert_array_equal(trainer.state["chain"], after[:, -1])


def test_the_gradient_payload_steps_like_the_learner_itself():
    tables = {
        "mode": "central",
        "environment": {"id": "garnet", "instances": 2},
        "evaluation": {"episodes": 0},
    }
    learner = {"kind": "td", "steps": 1, "lr": 0.3}
    own = play(4, 20, learner=learner, **tables)
    server = play(
        4,
        20,
        learner=learner,
        exchange={"payload": "gradient"},
        coordinator={"server_optimizer": {"kind": "sgd", "lr": 0.3}},
        **tables,
    )
    np.testing.assert_allclose(own.parameters, server.parameters, atol=1e-12)


def test_neighbors_evaluate_a_policy_together():
    tables = {
        "environment": {"id": "garnet"},
        "learner": {"kind": "td", "exact": True, "lr": 1.0, "steps": 50},
    }
    record = play(6, 500, **tables, evaluation={"episodes": 0})
    assert record.metrics["error"][-1] < 1e-8
    assert record.metrics["objective"][-1] < 1e-10
    assert {"P", "R", "A_bar", "b_bar", "theta_star", "optimum", "features", "stationary"} <= set(
        record.problem
    )


def test_what_td_cannot_do_is_said():
    simulator = CartPole().simulator(
        CartPole().physics(1, range(1), columns(CartPole(), {}, 1, range(1), 1)), 1, 1
    )
    with pytest.raises(ScenarioError, match="given by tables"):
        TD().prepare(Task(1, 1, simulator))
    with pytest.raises(ScenarioError, match="nothing is sampled"):
        bound(TD(exact=True, samples="trajectory"))
    with pytest.raises(ScenarioError, match="must be 1"):
        bound(TD(steps=2), gradient_only=True)


def test_garnets_of_several_kinds_are_alike_within_and_opposed_where_asked():
    vary = {"perturbation": Values(list=(0.0,) * 5)}
    opposed = Garnet(kinds=2, opposed=True)
    found = opposed.physics(4, range(5), columns(opposed, vary, 4, range(5), 5))
    plain = Garnet().physics(4, range(5), columns(opposed, vary, 4, range(5), 5))
    assert np.array_equal(found["R"][0], plain["R"][0])
    assert np.array_equal(found["P"][0], plain["P"][0])
    assert np.array_equal(found["R"][1], -plain["R"][0])
    for name in ("P", "R"):
        assert np.array_equal(found[name][0], found[name][4])
        assert np.array_equal(found[name][1], found[name][3])
    assert np.abs(found["P"][0] - found["P"][1]).max() > 0.5
    with pytest.raises(ScenarioError, match="at least 2"):
        Garnet(opposed=True)
