"""The test bed of all laws is what its formulas say, bit for bit."""

import numpy as np
import pytest

from p2pfrl.core.errors import ScenarioError
from p2pfrl.core.rng import Streams
from p2pfrl.learning.learners.base import Task
from p2pfrl.learning.learners.quadratic import Quadratic
from p2pfrl.learning.trainer import Trainer


@pytest.mark.parametrize("dimension", [1, 2, 5, 7, 16, 31, 32, 33, 64])
@pytest.mark.parametrize("curvature", [(1.0, 10.0), (2.0, 2.0)])
def test_a_population_computes_what_one_agent_in_plain_numpy_computes(dimension, curvature):
    stack = Quadratic(
        dimension=dimension, curvature=curvature, noise=0.3, steps=3, lr=0.05
    ).prepare(Task(1, 9))
    trainer = Trainer(stack, 9)
    for _ in range(4):
        trainer.update(range(9))
    problem = stack.objective.problem()
    for agent in range(9):
        A, x_star = problem["A"][agent], problem["x_star"][agent]
        x = stack.start([agent], same=True)[0, :dimension].copy()
        for index in range(4):
            noise = Streams.of(1, [agent], "gradient", index)
            for _ in range(3):
                gradient = (
                    A @ (x - x_star)
                    if curvature[0] != curvature[1]
                    else curvature[0] * (x - x_star)
                )
                x -= 0.05 * (gradient + 0.3 * noise.normal(dimension)[0])
        assert np.array_equal(x, trainer.read(agent)[:dimension])


def test_matrices_have_the_curvature_that_was_asked_for_and_different_axes():
    problem = Quadratic(dimension=6, curvature=(1.0, 10.0)).prepare(Task(3, 4)).problem()
    for A in problem["A"]:
        assert np.array_equal(A, A.T)
        np.testing.assert_allclose(np.linalg.eigvalsh(A), np.linspace(1.0, 10.0, 6), rtol=1e-12)
    assert np.abs(problem["A"][0] - problem["A"][1]).max() > 0.5


@pytest.mark.parametrize("curvature", [(1.0, 4.0), (2.0, 2.0)])
def test_curvature_grows_from_agent_to_agent_by_the_factor_that_was_asked_for(curvature):
    alike = Quadratic(dimension=5, curvature=curvature).prepare(Task(3, 4))
    grown = Quadratic(dimension=5, curvature=curvature, curvature_growth=1.7).prepare(Task(3, 4))
    for i in range(4):
        np.testing.assert_allclose(
            grown.objective.problem()["A"][i],
            1.7**i * alike.objective.problem()["A"][i],
            rtol=1e-12,
            atol=1e-14,
        )
        assert np.array_equal(
            grown.objective.problem()["x_star"][i], alike.objective.problem()["x_star"][i]
        )
    problem, start = grown.objective.problem(), grown.start(range(4), same=True)[:, :5]
    trainer = Trainer(grown, 4)
    trainer.update(range(4))
    moved = start - 0.05 * np.einsum("nij,nj->ni", problem["A"], start - problem["x_star"])
    np.testing.assert_allclose(trainer.parameters[:, :5], moved, rtol=1e-12)
    at_optimum = np.zeros_like(trainer.parameters)
    at_optimum[:, :5] = np.linalg.solve(
        problem["A"].sum(axis=0), np.einsum("nij,nj->i", problem["A"], problem["x_star"])
    )
    assert grown.objective.error(at_optimum)[1] == pytest.approx(0.0, abs=1e-12)


def test_an_agent_is_the_same_whatever_the_number_of_agents():
    few, many = (Quadratic(initial_spread=0.5).prepare(Task(5, n)) for n in (3, 20))
    assert np.array_equal(few.problem()["A"], many.problem()["A"][:3])
    assert np.array_equal(few.problem()["x_star"], many.problem()["x_star"][:3])
    for same in (True, False):
        assert np.array_equal(few.start(range(3), same=same), many.start(range(20), same=same)[:3])


def test_spread_and_noise_have_the_standard_deviations_that_were_asked_for():
    stack = Quadratic(dimension=8, spread=3.0, initial_spread=0.5, noise=2.0, lr=1.0).prepare(
        Task(1, 4000)
    )
    assert np.std(stack.objective.problem()["x_star"], axis=0) == pytest.approx(
        np.full(8, 3.0), rel=0.05
    )
    start = stack.start(range(4000), same=True)
    assert np.std(start, axis=0) == pytest.approx(np.full(8, 0.5), rel=0.05)
    flat = Quadratic(dimension=8, spread=0.0, noise=2.0, lr=1.0, curvature=(1.0, 1.0)).prepare(
        Task(1, 4000)
    )
    trainer = Trainer(flat, 4000)
    trainer.update(range(4000))  # x - (x - 0) - 2 z = -2 z
    assert np.std(trainer.parameters, axis=0) == pytest.approx(np.full(8, 2.0), rel=0.05)


def test_error_is_zero_at_the_optimum_and_the_objective_least():
    stack = Quadratic(dimension=5).prepare(Task(2, 7))
    A, x_star = stack.objective.problem()["A"], stack.objective.problem()["x_star"]
    x_opt = np.linalg.solve(A.sum(axis=0), np.einsum("nij,nj->i", A, x_star))
    rows = stack.layout.zeros(7)
    rows[:, :5] = x_opt
    objective, error = stack.objective.error(rows)
    differences = x_opt - x_star
    assert objective == pytest.approx(
        0.5 * np.einsum("ni,nij,nj->n", differences, A, differences).mean(), rel=1e-12
    )
    assert error < 1e-12
    rows[:, 0] += 1.0
    assert stack.objective.error(rows)[0] > objective
    assert stack.objective.error(rows)[1] == pytest.approx(1.0, rel=1e-12)


def test_equal_curvatures_give_the_same_as_a_matrix_of_them():
    scalar = Quadratic(dimension=4, curvature=(2.0, 2.0)).prepare(Task(1, 5))
    A, x_star = scalar.problem()["A"], scalar.problem()["x_star"]
    assert np.array_equal(A, np.broadcast_to(2.0 * np.eye(4), (5, 4, 4)))
    rows = scalar.start(range(5), same=True)
    difference = rows[:, :4].mean(axis=0) - x_star
    assert scalar.error(rows)[0] == pytest.approx(
        np.square(difference).sum(axis=1).mean(), rel=1e-12
    )


def test_a_large_population_of_large_quadratics_fits():
    stack = Quadratic(dimension=4675, curvature=(1.0, 1.0)).prepare(Task(1, 50))
    assert "A" not in stack.objective.problem()
    trainer = Trainer(stack, 50)
    before = stack.objective.error(trainer.parameters)[1]
    trainer.update(range(50))
    assert stack.objective.error(trainer.parameters)[1] < before


def test_the_loss_is_the_objective_where_the_step_began():
    stack = Quadratic(dimension=3).prepare(Task(1, 1))
    trainer = Trainer(stack, 1)
    objective = stack.objective.error(trainer.parameters)[0]
    assert trainer.update([0])[0].loss == pytest.approx(objective, rel=1e-12)


@pytest.mark.parametrize("curvature", [(0.0, 1.0), (2.0, 1.0), (-1.0, 1.0)])
def test_curvatures_without_a_minimum_are_refused(curvature):
    with pytest.raises(ScenarioError, match="0 < low <= high"):
        Quadratic(curvature=curvature)


def test_pooled_steps_along_the_mean_gradient_and_says_that_it_can_take_one():
    stack = Quadratic(dimension=3, lr=0.1).prepare(Task(1, 4))
    trainer = Trainer(stack, 4)
    from p2pfrl.learning.learners.base import Batch

    outcome = stack.pooled.collect(Batch(range(4), [0] * 4, trainer.parameters.copy(), {}))
    row = stack.start([0], same=True)
    stack.pooled.learn(row, {}, list(outcome.transitions), 0)
    A, x_star, x = (
        stack.objective.problem()["A"],
        stack.objective.problem()["x_star"],
        trainer.parameters[0, :3],
    )
    expected = x - 0.1 * np.mean([a @ (x - s) for a, s in zip(A, x_star, strict=True)], axis=0)
    np.testing.assert_allclose(row[0, :3], expected, rtol=1e-14)
    assert stack.pooled.pooled_options == {"steps": 1}
