"""The weighted mean: what weighs, by hand and through real agents."""

import numpy as np
import pytest

from p2pfrl.consensus.aggregators.base import Arrived
from p2pfrl.consensus.aggregators.mean import Mean
from p2pfrl.consensus.aggregators.preferred import Preferred
from p2pfrl.core.errors import ScenarioError
from p2pfrl.core.turn import NoMemory, Turn
from p2pfrl.exchange.scores import SCORES, UNKNOWN
from p2pfrl.laws.runs import play, text
from p2pfrl.scenario import loads

CARTPOLE = {
    "environment": {"id": "CartPole-v1", "instances": 1},
    "evaluation": {"episodes": 0},
    "learner": {"kind": "reinforce", "episodes": 3, "hidden": [8]},
}


def mean(weights, *pairs):
    """Return the mean of scalars, given (value, score) of every agent."""
    received = [Arrived(i, np.array([value]), 1.0, score) for i, (value, score) in enumerate(pairs)]
    out, _ = Mean(weights=weights).aggregate(received, np.zeros(1), {})
    return float(out[0])


@pytest.mark.parametrize(
    ("weights", "pairs", "expected"),
    [
        ("return", [(0.0, 1.0), (4.0, 3.0)], 3.0),
        ("return", [(0.0, 1.0), (4.0, 3.0), (100.0, -50.0)], 3.0),
        ("return", [(0.0, -1.0), (4.0, -3.0)], 2.0),
        ("return", [(0.0, 1.0), (4.0, 3.0), (10.0, UNKNOWN)], (0.0 + 12.0 + 20.0) / 6.0),
        ("rank", [(0.0, -500.0), (3.0, -100.0)], 2.0),
        ("rank", [(6.0, 7.0), (0.0, 9.0), (12.0, 7.0)], (6 * 1.5 + 12 * 1.5) / 6),
        ("rank", [(0.0, 5.0), (6.0, 8.0), (1.5, UNKNOWN)], (12.0 + 1.5 * 1.5) / 4.5),
        ("inverse_variance", [(0.0, 4.0), (5.0, 1.0)], 4.0),
        ("inverse_variance", [(0.0, 4.0), (5.0, 1.0), (2.0, UNKNOWN)], (5.0 + 2.0 * 0.625) / 1.875),
        ("inverse_variance", [(0.0, 0.0), (5.0, 0.0)], 2.5),
    ],
)
def test_weights_by_hand(weights, pairs, expected):
    assert mean(weights, *pairs) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("weights", ["return", "rank", "inverse_variance"])
def test_weights_are_finite_whatever_an_agent_claims(weights):
    for claim in (1e308, -1e308, UNKNOWN, 0.0, 5e-324):
        assert 0.0 <= mean(weights, (0.0, claim), (1.0, 1.0), (0.5, 1e308)) <= 1.0
    assert mean(weights, (1.0, UNKNOWN), (3.0, UNKNOWN)) == 2.0


def test_an_agent_of_no_variance_does_not_silence_the_others_for_ever():
    """A variance of zero counts as a thousandth of the mean.

    For variances 0, 1, 1 that is about (2 / 3) / 1000.
    """
    weight = 1.0 / (1e-3 * 2.0 / 3.0)
    assert mean("inverse_variance", (1.0, 0.0), (0.0, 1.0), (0.0, 1.0)) == pytest.approx(
        weight / (weight + 2.0)
    )


def turn(returns=(), loss=0.0):
    return Turn(
        0, 0, "update", np.zeros(1), np.zeros(1), 1, loss, returns, 0.0, (0, 0, 0), NoMemory()
    )


def test_scores_say_when_nothing_is_known():
    assert SCORES["return"](turn((1.0, 4.0))) == 2.5
    assert SCORES["variance"](turn((1.0, 4.0))) == 2.25
    assert SCORES["loss"](turn(loss=-3.0)) == -3.0
    assert (
        SCORES["return"](turn())
        == SCORES["variance"](turn((1.0,)))
        == SCORES["loss"](turn(loss=np.nan))
        == UNKNOWN
    )
    assert np.isfinite(UNKNOWN)


@pytest.mark.parametrize(
    ("weights", "weigh"),
    [
        ("return", lambda returns: returns),
        ("rank", lambda returns: np.argsort(np.argsort(returns)) + 1.0),
        (
            "samples",
            lambda returns: returns,
        ),  # CartPole pays 1 per step, and an update is 3 whole episodes
        ("uniform", np.ones_like),
    ],
)
def test_a_coordinator_weighs_real_agents(weights, weigh):
    alone = play(4, 1, mode="independent", seed=3, **CARTPOLE)
    together = play(
        4,
        1,
        mode="central",
        seed=3,
        coordinator={"aggregator": {"kind": "mean", "weights": weights}},
        **CARTPOLE,
    )
    returns = np.asarray(alone.agents["return"])
    assert len(set(returns.tolist())) == 4
    shares = weigh(returns) / weigh(returns).sum()
    expected = shares @ alone.parameters
    assert np.abs(together.parameters - expected).max() < 1e-6
    if weights != "uniform":
        assert np.abs(together.parameters - alone.parameters.mean(axis=0)).max() > 1e-5


@pytest.mark.parametrize(
    ("options", "kept"),
    [
        ({}, [1, 3]),
        ({"first": "lowest"}, [0, 4]),
        ({"fraction": 0.1}, [3]),
        ({"fraction": 0.9}, [0, 1, 2, 3, 4]),
        ({"fraction": 0.7}, [0, 1, 3, 4]),
        ({"by": "samples"}, [2, 4]),
        ({"by": "samples", "first": "lowest", "fraction": 0.6}, [0, 1, 3]),
    ],
)
def test_updates_that_rank_first_are_preferred(options, kept):
    """Halves are rounded up, equals go by their position, and no score comes last."""
    scores, samples = (2.0, 5.0, UNKNOWN, 7.0, 2.0), (1.0, 1.0, 4.0, 1.0, 2.0)
    pairs = enumerate(zip(scores, samples, strict=True))
    received = [Arrived(i, np.zeros(1), steps, score) for i, (score, steps) in pairs]
    rule = Preferred(**{"fraction": 0.4, **options})
    assert list(rule.prefer(received)) == kept


def test_the_agents_of_the_highest_returns_make_the_model_and_only_they_count():
    whole = {"mode": "central", "seed": 3, **CARTPOLE}
    alone = play(4, 1, mode="independent", seed=3, **CARTPOLE)
    best = np.sort(np.argsort(np.asarray(alone.agents["return"]))[-2:])
    preferred = {"kind": "preferred", "fraction": 0.5}
    record = play(4, 1, coordinator={"aggregator": preferred}, **whole)
    assert np.abs(record.parameters[0] - alone.parameters[best].mean(axis=0)).max() < 1e-6
    assert np.abs(record.parameters[0] - alone.parameters.mean(axis=0)).max() > 1e-5
    assert record.staleness.tolist() == [2]
    everyone = play(2, 2, coordinator={"aggregator": {**preferred, "fraction": 1.0}}, **whole)
    assert np.array_equal(everyone.parameters, play(2, 2, **whole).parameters)


@pytest.mark.parametrize(
    ("tables", "reason"),
    [
        ({"schedule": {"kind": "asynchronous"}}, "'preferred' needs several updates for one model"),
        ({"schedule": {"kind": "buffered", "size": 1}}, r"schedule\.size: .* use at least 2"),
        ({"mode": "hierarchical"}, "'preferred' needs one coordinator"),
        ({"learner": {"kind": "quadratic"}}, "'preferred' needs returns of episodes"),
        (
            {"coordinator": {"participation": {"kind": "power_of_choice", "by": "loss"}}},
            "a message has only one",
        ),
    ],
)
def test_preferring_without_a_choice_or_a_score_is_refused(tables, reason):
    base = {"mode": "central", **CARTPOLE, **tables}
    if base["learner"]["kind"] == "quadratic":
        del base["environment"]
    coordinator = {"aggregator": {"kind": "preferred"}, **base.pop("coordinator", {})}
    with pytest.raises(ScenarioError, match=reason):
        loads(text(4, 2, coordinator=coordinator, **base))


def test_a_buffer_has_a_choice():
    loads(
        text(
            4,
            2,
            mode="central",
            schedule={"kind": "buffered", "size": 2},
            coordinator={"aggregator": {"kind": "preferred", "by": "loss"}},
        )
    )
