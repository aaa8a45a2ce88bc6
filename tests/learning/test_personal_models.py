"""Personal models beside the shared one: what they are and cost.

The shared model does not change.
"""

from functools import cache

import numpy as np
import pytest

import p2pfrl
from p2pfrl.core.errors import ScenarioError
from p2pfrl.laws.personal import apfl_twin, ditto_point, halves, maml_point
from p2pfrl.laws.runs import play, start, text
from p2pfrl.learning.trainer import Trainer
from p2pfrl.scenario import loads
from p2pfrl.scenario.bind import learning

KINDS = (
    {"kind": "ditto", "lambda": 0.5},
    {"kind": "apfl", "alpha": 0.4},
    {"kind": "finetune"},
    {"kind": "finetune", "updates": 3},
)
CARTPOLE = {
    "environment": {"id": "CartPole-v1", "instances": 2},
    "learner": {"kind": "ppo", "steps": 16, "hidden": [16]},
    "evaluation": {"episodes": 2, "every": 1},
}
kinds = pytest.mark.parametrize(
    "personal", KINDS, ids=lambda kind: "-".join(map(str, kind.values()))
)


@cache
def alone(mode):
    """Return the run without personal models."""
    return play(3, 3, mode=mode, **CARTPOLE)


@kinds
@pytest.mark.parametrize("mode", ["gossip", "central"])
def test_the_shared_model_goes_the_way_it_goes_alone_bit_for_bit(personal, mode):
    plain = alone(mode)
    record = play(3, 3, mode=mode, personal=personal, **CARTPOLE)
    d = plain.parameters.shape[1]
    assert record.parameters.shape == (3, 2 * d)
    assert np.array_equal(record.parameters[:, :d], plain.parameters)
    assert not np.array_equal(record.parameters[:, d:], plain.parameters)
    for name in (
        "return_mean",
        "consensus_distance",
        "mean_drift",
        "policy_kl",
        "evaluation_mean_parameters",
    ):
        assert np.array_equal(record.metrics[name], plain.metrics[name], equal_nan=True), name
    assert record.summary["messages_sent"] == plain.summary["messages_sent"]
    assert record.summary["bytes_sent"] == plain.summary["bytes_sent"]


def test_environment_steps_are_those_really_taken_and_cost_their_time():
    plain = play(3, 2, **CARTPOLE)
    for personal, factor in zip(KINDS, (2, 2, 1, 3), strict=True):
        record = play(3, 2, personal=personal, **CARTPOLE)
        assert record.summary["env_steps"] == factor * plain.summary["env_steps"]
        trained = [
            sum(i.end - i.start for i in run.timeline if i.kind == "train")
            for run in (record, plain)
        ]
        assert trained[0] == pytest.approx(factor * trained[1])


@pytest.mark.parametrize(("seed", "pull"), [(5, 0.7), (6, 4.0)])
def test_ditto_ends_where_its_closed_form_says_in_gossip_too(seed, pull):
    tables = {
        "learner": {"dimension": 5, "steps": 15, "lr": 0.04},
        "topology": {"kind": "complete"},
    }
    record = play(5, 150, seed=seed, personal={"kind": "ditto", "lambda": pull}, **tables)
    theta, own = halves(record)
    assert np.abs(own - ditto_point(record, theta, pull)).max() < 1e-8


def test_ditto_with_prox_in_the_shared_training_keeps_the_two_apart():
    tables = {
        "learner": {"dimension": 5, "steps": 10, "lr": 0.04},
        "correction": {"kind": "prox", "mu": 0.6},
    }
    record = play(4, 200, mode="central", personal={"kind": "ditto", "lambda": 0.9}, **tables)
    plain = play(4, 200, mode="central", **tables)
    theta, own = halves(record)
    assert np.array_equal(theta, plain.parameters)
    assert np.abs(own - ditto_point(record, theta, 0.9)).max() < 1e-8


@pytest.mark.parametrize(("seed", "alpha"), [(7, 0.2), (8, 1.0)])
def test_apfl_follows_its_equations(seed, alpha):
    learner = {"dimension": 6, "steps": 3, "lr": 0.03}
    record = play(
        5, 12, mode="central", seed=seed, learner=learner, personal={"kind": "apfl", "alpha": alpha}
    )
    twin = apfl_twin(record, start(record, seed, 0.0, 6)[0], 12, 0.03, 3, alpha)
    assert np.abs(halves(record)[1] - twin).max() < 1e-12


def test_a_fine_tuned_model_is_that_of_an_agent_that_went_on_alone():
    for k in (1, 3):
        scenario = loads(text(3, 1, personal={"kind": "finetune", "updates": k}, **CARTPOLE))
        alone = loads(text(3, 1, **CARTPOLE))
        tuned, trainer = (Trainer(learning(s).stack, 3) for s in (scenario, alone))
        for _ in range(2):
            tuned.update(range(3))
        trainer.update(range(3))
        for _ in range(k):
            trainer.update(range(3))
        width = trainer.stack.layout.stride
        assert np.array_equal(tuned.parameters[:, width:], trainer.parameters)


@kinds
def test_an_agent_does_not_notice_who_shares_its_batch(personal):
    scenario = loads(text(5, 1, personal=personal, **CARTPOLE))
    together, apart = (Trainer(learning(scenario).stack, 5) for _ in range(2))
    for _ in range(3):
        together.update(range(5))
        for group in ([3], [0, 4], [1, 2]):
            apart.update(group)
    assert np.array_equal(together.parameters, apart.parameters)
    for name, values in together.state.items():
        assert np.array_equal(values, apart.state[name]), name


def test_evaluation_runs_the_personal_model_for_an_agent_and_the_shared_one_for_the_mean():
    stack = learning(loads(text(2, 1, personal={"kind": "ditto"}, **CARTPOLE))).stack
    plain = learning(loads(text(2, 1, **CARTPOLE))).stack
    rows, width = stack.start([0, 1], same=True), plain.layout.stride
    rng = np.random.Generator(np.random.PCG64(1))
    rows[:] = rng.standard_normal(rows.shape)
    shared, own = rows[:, :width].copy(), rows[:, width:].copy()
    assert np.array_equal(
        stack.evaluator.evaluate([0, 1], rows, 4, 0), plain.evaluator.evaluate([0, 1], own, 4, 0)
    )
    mean = np.repeat(shared.mean(axis=0, dtype=np.float64)[None], 2, axis=0).astype(np.float32)
    expected = plain.evaluator.evaluate([0, 1], mean, 4, 0)
    assert np.array_equal(
        stack.evaluator.evaluate([0, 1], stack.evaluator.average([0, 1], rows), 4, 0), expected
    )


def test_apfl_acts_with_the_mixture():
    stack = learning(loads(text(1, 1, personal={"kind": "apfl", "alpha": 0.25}, **CARTPOLE))).stack
    plain = learning(loads(text(1, 1, **CARTPOLE))).stack
    width, rng = plain.layout.stride, np.random.Generator(np.random.PCG64(2))
    rows = rng.standard_normal((1, 2 * width)).astype(np.float32)
    mixture = np.float32(0.25) * rows[:, width:] + np.float32(0.75) * rows[:, :width]
    assert np.array_equal(
        stack.evaluator.evaluate([0], rows, 4, 0), plain.evaluator.evaluate([0], mixture, 4, 0)
    )


def test_restarts_keep_personal_models_and_gradients_travel_without_them():
    faults = (
        {"kind": "crash", "at": "4ms", "agents": [1]},
        {"kind": "restart", "at": "6ms", "agents": [1]},
    )
    record = play(
        3, 300, mode="gossip", personal=KINDS[0], faults=faults, topology={"kind": "complete"}
    )
    theta, own = halves(record)
    assert np.abs(own - ditto_point(record, theta, 0.5)).max() < 1e-8
    tables = {
        "exchange": {"payload": "gradient"},
        "coordinator": {"server_optimizer": {"kind": "sgd", "lr": 0.05}},
        "learner": {"lr": 0.05},
    }
    plain = play(3, 200, mode="central", **tables)
    record = play(3, 200, mode="central", personal={"kind": "ditto", "lambda": 0.5}, **tables)
    theta, own = halves(record)
    assert np.array_equal(theta, plain.parameters)
    assert np.abs(own - ditto_point(record, theta, 0.5)).max() < 1e-3


@pytest.mark.parametrize(
    ("tables", "words"),
    [
        (
            {"personal": {"kind": "ditto"}, "mode": "pooled"},
            "mode pooled has one learner for all agents",
        ),
        (
            {"personal": {"kind": "ditto"}, "exchange": {"shared": ["x", "personal"]}},
            "'personal' never travels",
        ),
        (
            {
                "personal": {"kind": "finetune"},
                "exchange": {"payload": "gradient"},
                "mode": "central",
            },
            "'finetune' begins with the round's own update",
        ),
        ({"personal": {"kind": "ditto", "lambda": -1.0}}, "personal.lambda: must be at least 0"),
        ({"personal": {"kind": "dito"}}, "did you mean 'ditto'?"),
    ],
)
def test_what_cannot_be_is_refused(tables, words):
    mode = tables.pop("mode", "gossip")
    with pytest.raises(ScenarioError, match=words.replace("(", r"\(").replace("?", r"\?")):
        loads(text(3, 1, mode=mode, **tables))


@pytest.mark.slow
@pytest.mark.parametrize("order", ["first", "hessian_free"])
@pytest.mark.parametrize(("seed", "alpha"), [(11, 0.03), (12, 0.08)])
def test_maml_ends_at_its_fixed_point(order, seed, alpha):
    tables = {
        "learner": {"dimension": 5, "lr": 0.05},
        "correction": {"kind": "maml", "alpha": alpha, "order": order},
    }
    record = play(5, 500, mode="central", seed=seed, **tables)
    assert np.abs(record.parameters - maml_point(record, alpha, order)).max() < 1e-8


def test_maml_that_looks_nowhere_changes_no_bit():
    plain = play(3, 5, learner={"noise": 0.2})
    record = play(3, 5, learner={"noise": 0.2}, correction={"kind": "maml", "alpha": 0.0})
    assert np.array_equal(record.parameters, plain.parameters)


def test_maml_bends_the_gradients_of_networks_and_keeps_agents_independent():
    scenario = loads(
        text(4, 1, correction={"kind": "maml", "alpha": 0.05, "order": "hessian_free"}, **CARTPOLE)
    )
    scenarios = (scenario, scenario, loads(text(4, 1, **CARTPOLE)))
    together, apart, plain = (Trainer(learning(each).stack, 4) for each in scenarios)
    for _ in range(2):
        together.update(range(4))
        plain.update(range(4))
        for group in ([2], [0, 3], [1]):
            apart.update(group)
    assert np.array_equal(together.parameters, apart.parameters)
    assert not np.array_equal(together.parameters, plain.parameters)


def test_parts_that_are_not_shared_stay_as_they_are_bit_for_bit():
    record = play(3, 1, mode="central", exchange={"shared": ["actor"]}, **CARTPOLE)
    alone = play(3, 1, mode="independent", **CARTPOLE)
    part = np.array(
        [name.split(".")[0] for name, shape in record.layout for _ in range(int(np.prod(shape)))]
    )
    assert np.array_equal(
        record.parameters[:, part == "critic"], alone.parameters[:, part == "critic"]
    )
    assert not np.array_equal(
        record.parameters[:, part == "actor"], alone.parameters[:, part == "actor"]
    )


def test_a_record_says_what_travels(tmp_path):
    scenario = loads(text(3, 2, personal=KINDS[0], **CARTPOLE))
    record = p2pfrl.run(scenario, out=tmp_path / "run")
    assert {"personal_loss", "personal_return"} <= set(record.agents)
    assert [name for name, _ in record.layout][len(record.layout) // 2].startswith("personal.")
