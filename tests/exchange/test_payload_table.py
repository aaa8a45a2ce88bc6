"""Tables with counts: what travels, what is averaged, and that counts begin anew."""

import numpy as np
import pytest

from p2pfrl.consensus.aggregators.base import Arrived
from p2pfrl.consensus.aggregators.importance import Importance
from p2pfrl.core.errors import ScenarioError
from p2pfrl.exchange.payloads.table import Table
from p2pfrl.laws.runs import play, text
from p2pfrl.scenario import loads

WORLD = {"id": "garnet", "states": 6, "actions": 4, "branching": 3, "instances": 2}
HALVES = {"kind": "given", "policies": [[0.5, 0.5, 0.0, 0.0], [0.0, 0.0, 0.5, 0.5]]}
IMPORTANCE = {"aggregator": {"kind": "importance"}}


def learner(**options):
    return {"kind": "tabular_q", "gamma": 0.8, "lr": 0.1, "steps": 25, **options}


def average(tables, visits, rate):
    model = np.zeros(len(tables[0]))
    received = [
        Arrived(i, np.concatenate([q, n]), 1.0)
        for i, (q, n) in enumerate(zip(tables, visits, strict=True))
    ]
    return Importance(rate=rate).aggregate(received, model, {})[0]


def test_weights_are_those_of_the_paper_among_those_that_visited():
    tables = [
        np.array([1.0, 2.0, 3.0, 4.0]),
        np.array([5.0, 6.0, 7.0, 8.0]),
        np.array([9.0, 0.0, 1.0, 2.0]),
    ]
    visits = [
        np.array([3.0, 0.0, 0.0, 1e6]),
        np.array([1.0, 5.0, 0.0, 1e6]),
        np.array([2.0, 0.0, 0.0, 0.0]),
    ]
    found = average(tables, visits, 0.1)
    weights = 0.9 ** -np.array([3.0, 1.0, 2.0])
    assert found[0] == pytest.approx(weights @ [1.0, 5.0, 9.0] / weights.sum())
    assert found[1] == 6.0
    assert found[2] == pytest.approx(11 / 3)
    assert found[3] == pytest.approx(6.0)
    assert average(tables, visits, 0.0)[0] == pytest.approx(5.0)


def test_the_rate_is_the_learners_where_none_is_given():
    assert Importance().bind(0.3) == Importance(rate=0.3)
    assert Importance(rate=0.2).bind(0.3) == Importance(rate=0.2)
    with pytest.raises(ScenarioError, match="below 1"):
        Importance().bind(1.0)
    tables = {"mode": "central", "environment": WORLD, "exchange": {"payload": "table"}}
    runs = [
        play(
            4,
            5,
            **tables,
            learner=learner(behavior={"kind": "uniform"}),
            coordinator={"aggregator": {"kind": "importance", **rate}},
            evaluation={"episodes": 0},
        )
        for rate in ({}, {"rate": 0.1}, {"rate": 0.5})
    ]
    np.testing.assert_array_equal(runs[0].parameters, runs[1].parameters)
    assert np.abs(runs[0].parameters - runs[2].parameters).max() > 1e-6


def test_a_round_is_what_its_agents_would_make_of_it_alone():
    """One round by hand: what each agent learned comes from a run without exchange."""
    tables = {
        "environment": WORLD,
        "evaluation": {"episodes": 0},
        "learner": learner(behavior=HALVES),
    }
    alone = play(2, 1, mode="independent", **tables).parameters
    merged = play(
        2, 1, mode="central", exchange={"payload": "table"}, coordinator=IMPORTANCE, **tables
    )
    columns = alone.reshape(2, 6, 4)
    expected = np.concatenate([columns[0][:, :2], columns[1][:, 2:]], axis=1)
    np.testing.assert_allclose(merged.parameters[0].reshape(6, 4), expected, atol=1e-14)
    plain = play(2, 1, mode="central", **tables)
    np.testing.assert_allclose(plain.parameters[0], alone.mean(axis=0), atol=1e-14)


def test_counts_begin_anew_every_round_and_equal_counts_are_the_plain_mean():
    tables = {
        "mode": "central",
        "environment": WORLD,
        "evaluation": {"episodes": 0},
        "learner": learner(steps=3),
    }
    plain = play(3, 8, **tables)
    counted = play(3, 8, exchange={"payload": "table"}, coordinator=IMPORTANCE, **tables)
    ignored = play(3, 8, exchange={"payload": "table"}, **tables)
    np.testing.assert_allclose(counted.parameters, plain.parameters, atol=1e-13)
    np.testing.assert_array_equal(ignored.parameters, plain.parameters)
    extra = counted.summary["bytes_sent"] - plain.summary["bytes_sent"]
    assert 8 * 3 * 24 * 8 <= extra <= 8 * 3 * (24 * 8 + 16)


def test_with_asynchronous_agents_counts_are_their_own_period():
    record = play(
        4,
        30,
        mode="central",
        environment=WORLD,
        evaluation={"episodes": 0},
        schedule={"kind": "asynchronous"},
        learner=learner(behavior=HALVES),
        exchange={"payload": "table"},
        coordinator=IMPORTANCE,
        compute={"speed": {"kind": "values", "list": [1.0, 1.0, 0.5, 0.25]}},
    )
    assert record.metrics["error"][-1] < 0.5 * record.metrics["error"][0]


def test_a_stale_table_is_weakened_and_its_counts_are_not():
    model = np.array([1.0, 1.0])
    scaled = Table().scaled(np.array([3.0, 5.0, 7.0, 9.0]), model, 0.5)
    np.testing.assert_array_equal(scaled, [2.0, 3.0, 7.0, 9.0])
    np.testing.assert_array_equal(Table().target(model, scaled), [2.0, 3.0])


@pytest.mark.parametrize(
    ("tables", "reason"),
    [
        ({"mode": "central", "coordinator": IMPORTANCE}, "needs exchange.payload 'table'"),
        ({"mode": "gossip", "exchange": {"payload": "table"}}, "no meaning in mode gossip"),
        (
            {"mode": "central", "exchange": {"payload": "table"}, "learner": {"kind": "td"}},
            "no visits",
        ),
    ],
)
def test_counts_are_needed_where_they_weigh_and_refused_elsewhere(tables, reason):
    with pytest.raises(ScenarioError, match=reason):
        loads(text(3, 2, **{"learner": learner(), "environment": WORLD, **tables}))
