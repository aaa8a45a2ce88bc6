"""FedProx, SCAFFOLD and SCAFFLSA against plain numpy, and their invariants."""

import numpy as np
import pytest

import p2pfrl
from p2pfrl.core.errors import ScenarioError
from p2pfrl.core.rng import generator
from p2pfrl.core.turn import Turn
from p2pfrl.laws.runs import play, text
from p2pfrl.learning.corrections import RULES
from p2pfrl.learning.corrections.prox import Prox
from p2pfrl.learning.corrections.variates import ControlVariate, ResidualVariate
from p2pfrl.learning.learners.base import Task
from p2pfrl.learning.learners.quadratic import Quadratic
from p2pfrl.learning.model import Model
from p2pfrl.learning.trainer import Trainer
from p2pfrl.scenario import loads


def scaffold(record, *, steps, lr, rounds, chosen, seed, server=1.0):
    """Return SCAFFOLD's server model after every round.

    It is Algorithm 1 of the paper with option II.
    """
    A, x_star = record.problem["A"], record.problem["x_star"]
    n, d = x_star.shape
    x = generator(seed, "start").standard_normal(d)
    c, c_i, path = np.zeros(d), np.zeros((n, d)), []
    for round in range(rounds):
        dy, dc = [], []
        for i in chosen(round):
            y = x.copy()
            for _ in range(steps):
                y -= lr * (A[i] @ (y - x_star[i]) - c_i[i] + c)
            after = c_i[i] - c + (x - y) / (steps * lr)
            dy.append(y - x)
            dc.append(after - c_i[i])
            c_i[i] = after
        x = x + server * np.mean(dy, axis=0)
        c = c + np.sum(dc, axis=0) / n
        path.append(x)
    return np.array(path)


@pytest.mark.parametrize(("n", "d", "steps", "lr", "seed"), [(4, 3, 7, 0.05, 1), (9, 6, 3, 0.1, 5)])
def test_scaffold_is_the_papers_algorithm(n, d, steps, lr, seed):
    learner = {"dimension": d, "steps": steps, "lr": lr}
    kind = {"kind": "control_variate"}
    run = play(n, 12, mode="central", seed=seed, learner=learner, correction=kind)
    expected = scaffold(run, steps=steps, lr=lr, rounds=12, chosen=lambda _: range(n), seed=seed)
    np.testing.assert_allclose(run.parameters, np.tile(expected[-1], (n, 1)), atol=1e-12)
    server = {"server_optimizer": {"kind": "sgd", "lr": 0.5}}
    slow = play(
        n, 12, mode="central", seed=seed, learner=learner, correction=kind, coordinator=server
    )
    expected = scaffold(
        slow, steps=steps, lr=lr, rounds=12, chosen=lambda _: range(n), seed=seed, server=0.5
    )
    np.testing.assert_allclose(slow.parameters[0], expected[-1], atol=1e-12)


def test_scaffold_is_the_same_whether_parameters_or_their_change_travel():
    tables = {
        "mode": "central",
        "learner": {"dimension": 4, "steps": 5},
        "correction": {"kind": "control_variate"},
    }
    whole, change = (
        play(5, 12, **tables, exchange={"payload": payload}) for payload in ("parameters", "delta")
    )
    np.testing.assert_allclose(whole.parameters, change.parameters, atol=1e-12)


def test_scaffold_with_partial_participation_is_the_papers_algorithm():
    n, rounds, seed = 6, 15, 3
    part = {"participation": {"kind": "uniform", "fraction": 0.5}}
    run = play(
        n,
        rounds,
        mode="central",
        seed=seed,
        learner={"dimension": 4, "steps": 5},
        coordinator=part,
        correction={"kind": "control_variate"},
    )

    def chosen(round):
        return sorted(
            generator(seed, "participation", round).choice(n, size=3, replace=False).tolist()
        )

    expected = scaffold(run, steps=5, lr=0.05, rounds=rounds, chosen=chosen, seed=seed)
    np.testing.assert_allclose(run.parameters, np.tile(expected[-1], (n, 1)), atol=1e-12)


def test_scaffold_with_several_updates_per_exchange_counts_their_steps():
    one, three = (
        play(
            5,
            10,
            mode="central",
            learner={"steps": steps, "dimension": 4},
            schedule={"every": every},
            correction={"kind": "control_variate"},
        )
        for steps, every in ((6, 1), (2, 3))
    )
    np.testing.assert_allclose(one.parameters, three.parameters, atol=1e-12)


@pytest.mark.parametrize(("n", "d", "steps", "lr", "seed"), [(4, 3, 7, 0.05, 1), (9, 6, 3, 0.1, 5)])
def test_scafflsa_is_the_papers_algorithm(n, d, steps, lr, seed):
    learner = {"dimension": d, "steps": steps, "lr": lr, "noise": 0.2}
    run = play(
        n, 12, mode="central", seed=seed, learner=learner, correction={"kind": "residual_variate"}
    )
    A, x_star = run.problem["A"], run.problem["x_star"]
    from p2pfrl.core.rng import Streams

    x, xi = generator(seed, "start").standard_normal(d), np.zeros((n, d))
    for round in range(12):
        y = np.tile(x, (n, 1))
        for i in range(n):
            noise = Streams.of(seed, [i], "gradient", round)
            for _ in range(steps):
                y[i] -= lr * (A[i] @ (y[i] - x_star[i]) + 0.2 * noise.normal(d)[0] - xi[i])
        x = y.mean(axis=0)
        xi += (x - y) / (lr * steps)
        assert np.abs(xi.sum(axis=0)).max() < 1e-12
    np.testing.assert_allclose(run.parameters, np.tile(x, (n, 1)), atol=1e-12)


def test_residuals_sum_to_zero_and_end_at_the_mean_gradients():
    stack = Quadratic(dimension=5, steps=4, lr=0.05).prepare(
        Task(2, 6, correction=ResidualVariate())
    )
    trainer, rule = Trainer(stack, 6), ResidualVariate()
    models = [Model(trainer, i, parts=("x",), moments="keep") for i in range(6)]
    for round in range(400):
        start = models[0].shared()
        trainer.update(range(6))
        mean = np.mean([model.shared() for model in models], axis=0)
        for i, model in enumerate(models):
            turn = Turn(
                i, round, "update", start, model.shared(), 4, 0.0, (), 0.2, (2, i, round), model
            )
            model.replace(mean)
            rule.begin(model, turn, mean, mean[:0])
        residual = np.array([model.recall("residual") for model in models])
        assert np.abs(residual.sum(axis=0)).max() < 1e-12
    problem, (x_opt, _, _) = stack.objective.problem(), stack.optimum
    gradient = np.einsum("nij,nj->ni", problem["A"], x_opt - problem["x_star"])
    np.testing.assert_allclose(mean, x_opt, atol=1e-10)
    np.testing.assert_allclose(residual, gradient, atol=1e-10)


@pytest.mark.slow
def test_scaffold_costs_twice_the_numbers_and_scafflsa_none():
    tables = {"mode": "central", "learner": {"dimension": 1000}}
    plain, scaffold_, scafflsa = (
        play(3, 5, **tables, correction={"kind": kind}).summary["bytes_sent"]
        for kind in ("none", "control_variate", "residual_variate")
    )
    assert scafflsa == plain
    assert scaffold_ == pytest.approx(2 * plain, rel=0.03)


@pytest.mark.slow
def test_one_who_sends_nothing_keeps_its_control_variate():
    run = play(
        6,
        400,
        mode="central",
        learner={"dimension": 4, "steps": 5},
        availability={"dropout": 0.4},
        correction={"kind": "control_variate"},
    )
    assert run.metrics["error"][-1] < 1e-9
    same = play(
        6,
        400,
        mode="central",
        learner={"dimension": 4, "steps": 5},
        availability={"dropout": 0.4},
        correction={"kind": "residual_variate"},
    )
    assert same.metrics["error"][-1] < 1e-9


def test_a_repeated_message_says_the_same():
    stack = Quadratic(dimension=3).prepare(Task(1, 2, correction=ControlVariate()))
    trainer, rule = Trainer(stack, 2), ControlVariate()
    model = Model(trainer, 0, parts=("x",), moments="keep")
    turn = Turn(0, 0, "update", np.ones(3), np.zeros(3), 4, 0.0, (), 0.5, (2, 0, 0), model)
    first, again = rule.extra(turn), rule.extra(turn)
    np.testing.assert_array_equal(first, np.full(3, 2.0))
    np.testing.assert_array_equal(first, again)
    rule.begin(model, turn, np.zeros(3), np.full(3, 0.5))
    np.testing.assert_array_equal(model.recall("control"), np.full(3, 2.0))
    np.testing.assert_array_equal(model.recall("control_shift"), np.full(3, -1.5))


@pytest.mark.parametrize("mode", ["central", "gossip"])
def test_fedprox_with_mu_zero_changes_no_bit(mode):
    learner = {"kind": "reinforce", "steps": 20, "hidden": [8]}
    tables = {
        "mode": mode,
        "learner": learner,
        "environment": {"id": "CartPole-v1", "instances": 2},
    }
    tables["schedule"] = {"every": 2}  # the first step of a round starts at the anchor
    plain = play(3, 3, **tables, evaluation={"episodes": 0})
    prox = play(3, 3, **tables, evaluation={"episodes": 0}, correction={"kind": "prox", "mu": 0.0})
    pulled = play(
        3, 3, **tables, evaluation={"episodes": 0}, correction={"kind": "prox", "mu": 1.0}
    )
    np.testing.assert_array_equal(plain.parameters, prox.parameters)
    assert np.abs(plain.parameters - pulled.parameters).max() > 1e-5


@pytest.mark.parametrize("learner", ["a2c", "reinforce", "deep_npg"])
def test_the_recipe_fedprox_differs_from_fedavg_for_learners_of_one_step_and_equals_it_without_mu(
    learner,
):
    rest = f"""name = "one_step"
agents = 4
stop = {{rounds = 2}}
environment = {{id = "CartPole-v1", instances = 2}}
learner = {{kind = "{learner}", steps = 8, hidden = [8]}}
evaluation = {{episodes = 0}}
"""
    fedavg, fedprox = (loads(f'extends = "{name}"\n{rest}') for name in ("fedavg", "fedprox"))
    assert fedavg.schedule.every == fedprox.schedule.every > 1
    plain, without, pulled = (
        p2pfrl.run(loads(f'extends = "{name}"\n{rest}', overrides)).parameters
        for name, overrides in (
            ("fedavg", {}),
            ("fedprox", {"correction.mu": 0.0}),
            ("fedprox", {"correction.mu": 10.0}),
        )
    )
    np.testing.assert_array_equal(plain, without)
    assert np.abs(plain - pulled).max() > 1e-6


def test_the_recipe_fedavg_asks_a_sample_of_the_agents():
    run = p2pfrl.run(
        loads(
            'extends = "fedavg"\nname = "q"\nagents = 6\nstop = {rounds = 4}\n'
            'learner = {kind = "quadratic"}\n'
        )
    )
    assert run.metrics["active"].tolist() == [3.0] * 3 + [6.0], "the last model goes to all"
    assert run.summary["env_steps"] == 4 * 3 * 5


def test_fedprox_takes_gradient_steps_on_the_prox_objective():
    run = play(
        4,
        6,
        mode="central",
        learner={"dimension": 3, "steps": 5, "lr": 0.05},
        seed=2,
        correction={"kind": "prox", "mu": 0.7},
    )
    A, x_star = run.problem["A"], run.problem["x_star"]
    x = generator(2, "start").standard_normal(3)
    for _ in range(6):
        y = np.tile(x, (4, 1))
        for _ in range(5):
            y -= 0.05 * (np.einsum("nij,nj->ni", A, y - x_star) + 0.7 * (y - x))
        x = y.mean(axis=0)
    np.testing.assert_allclose(run.parameters[0], x, atol=1e-12)


def test_a_strong_pull_keeps_neighbors_together():
    free, held = (
        play(
            8,
            30,
            learner={"dimension": 4, "steps": 20, "initial_spread": 1.0, "lr": 0.02},
            correction=correction,
        )
        for correction in ({"kind": "none"}, {"kind": "prox", "mu": 20.0})
    )
    assert held.metrics["consensus_distance"][-1] < 0.7 * free.metrics["consensus_distance"][-1]


@pytest.mark.parametrize("kind", ["control_variate", "residual_variate"])
@pytest.mark.parametrize(
    ("tables", "reason"),
    [
        (
            {"learner": {"kind": "ppo"}, "environment": {"id": "CartPole-v1"}, "mode": "central"},
            "plain gradient",
        ),
        ({"mode": "gossip"}, "mode central"),
    ],
)
def test_what_divides_by_the_rate_needs_plain_descent_and_a_coordinator(kind, tables, reason):
    with pytest.raises(ScenarioError, match=reason):
        loads(text(4, 3, **tables, correction={"kind": kind}))


def test_residual_variates_outlive_a_crash_that_ends():
    faults = (
        {"at": "20500ms", "kind": "crash", "agents": [0]},
        {"at": "25s", "kind": "restart", "agents": [0]},
    )
    run = play(
        4,
        150,
        mode="central",
        learner={"dimension": 3, "steps": 5, "lr": 0.02},
        correction={"kind": "residual_variate"},
        compute={"seconds_per_env_step": 0.5},
        faults=faults,
    )
    assert run.metrics["error"][-1] < 1e-8


def test_plain_descent_of_a_network_is_corrected_too():
    learner = {
        "kind": "reinforce",
        "steps": 10,
        "hidden": [4],
        "optimizer": "sgd",
        "max_grad_norm": 0.0,
        "lr": 0.01,
    }
    tables = {
        "mode": "central",
        "learner": learner,
        "environment": {"id": "CartPole-v1", "instances": 2},
    }
    plain, corrected = (
        play(3, 4, **tables, correction={"kind": kind}, evaluation={"episodes": 0})
        for kind in ("none", "residual_variate")
    )
    assert np.isfinite(corrected.parameters).all()
    assert np.abs(plain.parameters - corrected.parameters).max() > 1e-7


def test_corrections_are_listed():
    assert RULES["prox"] is Prox
    assert {"control_variate", "residual_variate"} <= set(RULES)
    assert p2pfrl.__version__
