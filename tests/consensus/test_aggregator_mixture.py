"""The mean of policies is not the policy of mean parameters, and both are what they say."""

import numpy as np
import pytest

from p2pfrl.consensus.aggregators import RULES
from p2pfrl.consensus.aggregators.base import Arrived
from p2pfrl.consensus.aggregators.distilled import Distilled
from p2pfrl.consensus.aggregators.mean import Mean
from p2pfrl.consensus.aggregators.mixture import Mixture
from p2pfrl.core.errors import ScenarioError
from p2pfrl.laws.runs import play, text
from p2pfrl.scenario import loads
from p2pfrl.scenario.bind import acting


def softmax(x):
    e = np.exp(x - x.max(axis=-1, keepdims=True))
    return e / e.sum(axis=-1, keepdims=True)


def arrived(tables, samples=None):
    return [
        Arrived(i, t.ravel(), 1.0 if samples is None else samples[i]) for i, t in enumerate(tables)
    ]


@pytest.mark.parametrize("states", [1, 5])
@pytest.mark.parametrize("scale", [0.1, 3.0, 300.0])
def test_the_mixture_is_the_mean_of_the_policies(states, scale):
    tables = scale * np.random.default_rng(states).standard_normal((4, states, 3))
    model = np.zeros(states * 3)
    mixed, _ = Mixture(actions=3).aggregate(arrived(tables), model, {})
    assert np.isfinite(mixed).all()
    assert np.allclose(softmax(mixed.reshape(states, 3)), softmax(tables).mean(axis=0), atol=1e-12)
    assert np.allclose(np.exp(mixed.reshape(states, 3)).sum(axis=1), 1.0)


def test_it_weighs_by_samples():
    tables, samples = np.random.default_rng(0).standard_normal((3, 2, 4)), np.array([1.0, 5.0, 0.0])
    mixed, _ = Mixture(actions=4, weights="samples").aggregate(
        arrived(tables, samples), np.zeros(8), {}
    )
    want = (softmax(tables) * (samples / 6)[:, None, None]).sum(axis=0)
    assert np.allclose(softmax(mixed.reshape(2, 4)), want, atol=1e-12)


def test_mean_of_policies_and_policy_of_means_are_distinct_operators():
    """One agent is nearly sure, the other does not care: chances 3/4 and nearly 1."""
    tables = np.array([[[20.0, 0.0]], [[0.0, 0.0]]])
    mixture, _ = Mixture(actions=2).aggregate(arrived(tables), np.zeros(2), {})
    mean, _ = Mean().aggregate(arrived(tables), np.zeros(2), {})
    assert softmax(mixture)[0] == pytest.approx(0.75, abs=1e-8)
    assert softmax(mean)[0] == pytest.approx(1 / (1 + np.exp(-10)), abs=1e-12)


def test_equal_policies_mix_to_themselves_whatever_their_logits():
    table = np.random.default_rng(1).standard_normal((4, 3))
    mixed, _ = Mixture(actions=3).aggregate(arrived([table, table + 7.0]), np.zeros(12), {})
    assert np.allclose(softmax(mixed.reshape(4, 3)), softmax(table), atol=1e-12)


def scenario(learner, aggregator):
    return f"""
name = "x"
agents = 2
mode = "central"
[stop]
rounds = 2
[environment]
id = "gridworld"
[learner]
{learner}
[coordinator]
aggregator = {aggregator}
"""


def test_it_is_for_tables_of_logits():
    assert RULES["mixture"] is Mixture
    loads(scenario('kind = "softmax_pg"', '{kind = "mixture", actions = 4}'))
    with pytest.raises(ScenarioError, match="one table of logits with 3 actions"):
        loads(scenario('kind = "softmax_pg"', '{kind = "mixture", actions = 3}'))
    for learner in ('kind = "ppo"', 'kind = "tabular_q"'):
        with pytest.raises(ScenarioError, match="one table of logits"):
            loads(scenario(learner, '{kind = "mixture", actions = 4}'))


CART = {
    "environment": {"id": "CartPole-v1", "instances": 2},
    "learner": {"kind": "a2c", "hidden": [8], "steps": 8},
    "evaluation": {"episodes": 0},
}
DISTILLED = {"aggregator": {"kind": "distilled", "states": 16, "steps": 5}}


def test_networks_are_fitted_to_the_mixture_and_critics_are_averaged():
    alone = play(3, 1, mode="independent", **CART)
    mean = play(3, 2, mode="central", **CART)
    first = play(3, 1, mode="central", coordinator=DISTILLED, **CART)
    moved = np.abs(first.parameters[0] - alone.parameters.mean(axis=0)) > 1e-6
    actor = 8 * (4 + 1) + 2 * (8 + 1)
    assert moved[:actor].all()
    assert not moved[actor:].any()  # the critic
    record = play(3, 2, mode="central", coordinator=DISTILLED, **CART)
    again = play(3, 2, mode="central", coordinator=DISTILLED, **CART)
    assert record.summary["digest"] == again.summary["digest"]
    # visiting public states leaves the agents' own environments alone
    assert record.agents["loss"][:3].tolist() == mean.agents["loss"][:3].tolist()


@pytest.mark.parametrize("weights", ["uniform", "samples"])
def test_one_network_imitates_the_others_by_their_shares(weights):
    stack = acting(loads(text(3, 1, mode="independent", **CART)), 0)[0]
    rows = stack.start(range(3), same=False) * np.float32(12.0)
    vectors = list(stack.layout.pack(rows))
    received = [Arrived(i, vector, float(i)) for i, vector in enumerate(vectors)]
    shares = np.array([0.0, 1.0, 2.0]) / 3.0 if weights == "samples" else np.full(3, 1.0 / 3.0)
    rule = Distilled(states=16, steps=1000, weights=weights).with_policies(stack.imitation)
    made, _ = rule.aggregate(received, vectors[0], {})
    shown = stack.imitation._teachers[16]

    def policy(vector):
        row = stack.layout.zeros(1)
        stack.layout.unpack(vector, row[0])
        return shown.offer("logits", 0, row, {})

    mixture = shares @ np.array([policy(vector) for vector in vectors])
    plain = np.abs(policy((shares @ np.array(vectors)).astype(np.float32)) - mixture).max()
    assert np.abs(policy(made) - mixture).max() < 0.25 * plain


@pytest.mark.parametrize(
    ("tables", "reason"),
    [
        ({"learner": {"kind": "dqn"}}, "needs networks of policies with discrete actions"),
        ({"environment": {"id": "Pendulum-v1"}}, "needs networks of policies"),
        (
            {"exchange": {"shared": ["actor"]}},
            r"exchange\.shared: 'distilled' needs whole networks",
        ),
        ({"exchange": {"payload": "delta"}}, "it mixes policies"),
        ({"learner": {"kind": "a2c", "moments": "average"}}, "moments have no policy"),
        ({"schedule": {"kind": "asynchronous"}}, "needs several updates for one model"),
        ({"mode": "hierarchical"}, "needs one coordinator"),
    ],
)
def test_where_there_are_no_policies_to_imitate_it_is_refused(tables, reason):
    with pytest.raises(ScenarioError, match=reason):
        loads(text(3, 1, **{"mode": "central", **CART, **tables}, coordinator=DISTILLED))
