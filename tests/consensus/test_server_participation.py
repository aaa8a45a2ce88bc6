"""Who is asked: each rule alone, and what real agents' rounds make of it."""

from collections import Counter

import numpy as np
import pytest

from p2pfrl.consensus.participation import RULES
from p2pfrl.consensus.participation.base import Standing
from p2pfrl.consensus.participation.lag import Lag
from p2pfrl.consensus.participation.selection import PowerOfChoice, RoundRobin, Uniform, Weighted
from p2pfrl.core.errors import ScenarioError
from p2pfrl.exchange.scores import UNKNOWN
from p2pfrl.laws.runs import play, start
from p2pfrl.laws.watch import watched

OPTIONS = {"lag": {"smoothness": [1.0] * 9, "lr": 0.1}}


def standing(**known):
    return Standing(4, np.zeros(3), **known)


@pytest.mark.parametrize("kind", RULES)
def test_a_choice_is_some_of_those_present_in_order_and_the_same_again(kind):
    rule = RULES[kind](**OPTIONS.get(kind, {}))
    present = [0, 2, 3, 5, 8]
    for round in range(20):
        known = standing(
            samples={0: 5.0, 2: 0.0}, scores={3: -2.0, 8: UNKNOWN}, moves=(1.0,) * round
        )
        chosen = rule.choose(round, present, known)
        assert chosen
        assert set(chosen) <= set(present)
        assert list(chosen) == sorted(chosen)
        assert list(chosen) == list(rule.choose(round, present, known))
    assert 1.0 <= rule.expected(9) <= 9.0
    assert rule.choose(0, [7], standing()) == [7]


def test_weighted_draws_come_in_proportion_to_samples_and_may_repeat():
    known, rule = standing(samples={0: 10.0, 1: 30.0, 2: 60.0}), Weighted(fraction=1.0)
    draws = Counter(i for round in range(3000) for i in rule.choose(round, [0, 1, 2], known))
    total = sum(draws.values())
    assert total == 9000
    for agent, probability in enumerate((0.1, 0.3, 0.6)):
        assert abs(draws[agent] / total - probability) < 4 * np.sqrt(
            probability * (1 - probability) / total
        )
    assert any(len(set(rule.choose(round, [0, 1, 2], known))) < 3 for round in range(5))


def test_whoever_has_sent_nothing_yet_counts_like_the_mean():
    known, rule = standing(samples={0: 1.0, 1: 3.0}), Weighted(fraction=1.0)
    draws = Counter(i for round in range(2000) for i in rule.choose(round, [0, 1, 2], known))
    assert draws[2] / sum(draws.values()) == pytest.approx(1 / 3, abs=0.03)


def test_expected_number_of_different_agents_is_that_of_draws_with_replacement():
    rule = Weighted(fraction=0.4)
    sizes = [len(set(rule.choose(round, range(10), standing()))) for round in range(3000)]
    assert np.mean(sizes) == pytest.approx(rule.expected(10), abs=0.05)


def test_an_agent_that_is_drawn_twice_counts_twice_in_the_mean():
    learner = {"steps": 3, "dimension": 5}
    with watched(Weighted, "choose") as calls:
        run = play(
            4,
            6,
            mode="central",
            seed=2,
            learner=learner,
            coordinator={"participation": {"kind": "weighted"}},
        )
    chosen = [list(result) for _, result in calls]
    assert any(len(set(c)) < len(c) for c in chosen), "no draw came twice"
    x, A, optima = (
        start(run, 2, spread=0.0, dimension=5)[0],
        run.problem["A"],
        run.problem["x_star"],
    )
    for agents in chosen:
        ends = []
        for i in agents:
            y = x
            for _ in range(3):
                y = y - 0.05 * A[i] @ (y - optima[i])
            ends.append(y)
        x = np.mean(ends, axis=0)
    assert np.abs(run.parameters - x).max() < 1e-12
    assert run.summary["messages_sent"] == 2 * sum(len(set(c)) for c in chosen) + 4


def test_the_worst_of_all_candidates_are_asked_and_the_unheard_first():
    scores = {0: 1.0, 1: 9.0, 2: 5.0, 3: 7.0}
    rule = PowerOfChoice(fraction=0.5, candidates=4)
    assert rule.choose(0, range(4), standing(scores=scores)) == [1, 3]
    assert PowerOfChoice(fraction=0.5, candidates=4, by="return").choose(
        0, range(4), standing(scores=scores)
    ) == [0, 2]
    assert rule.choose(0, range(4), standing(scores={**scores, 0: UNKNOWN})) == [0, 1]
    assert rule.score == "loss"


def test_of_d_candidates_the_worst_is_asked_with_the_probability_of_order_statistics():
    """The worst of 2 out of 5, drawn alike, is the j-th worst with probability (5 - j) / 10."""
    rule, known = PowerOfChoice(fraction=0.2), standing(scores={i: -float(i) for i in range(5)})
    asked = Counter(rule.choose(round, range(5), known)[0] for round in range(4000))
    for agent in range(5):
        assert asked[agent] / 4000 == pytest.approx((4 - agent) / 10, abs=0.035)


def test_power_of_choice_asks_real_agents_of_the_highest_loss():
    with watched(PowerOfChoice, "choose") as calls:
        run = play(
            6,
            8,
            mode="central",
            seed=5,
            learner={"lr": 1e-9},
            coordinator={
                "participation": {"kind": "power_of_choice", "fraction": 0.17, "candidates": 6}
            },
        )
    x, A, optima = start(run, 5, spread=0.0)[0], run.problem["A"], run.problem["x_star"]
    losses = [0.5 * (x - o) @ a @ (x - o) for a, o in zip(A, optima, strict=True)]
    assert sorted(i for _, result in calls[:6] for i in result) == list(
        range(6)
    )  # everyone once, being unknown
    assert [result for _, result in calls[6:]] == [[int(np.argmax(losses))]] * 2


def test_round_robin_asks_everyone_equally_often():
    rule = RoundRobin(fraction=0.3)
    rounds = [rule.choose(round, range(10), standing()) for round in range(10)]
    assert Counter(i for asked in rounds for i in asked) == dict.fromkeys(range(10), 3)
    assert rounds[:4] == [
        [0, 1, 2],
        [3, 4, 5],
        [6, 7, 8],
        [0, 1, 9],
    ]  # nobody twice before all were once


def test_uniform_takes_sets_of_its_size():
    assert {
        len(set(Uniform(fraction=0.3).choose(r, range(10), standing()))) for r in range(50)
    } == {3}


def test_lag_asks_those_whose_gradient_may_have_changed_more_than_the_model_moves():
    rule = Lag(smoothness=(1.0, 2.0, 1.0), lr=0.5, memory=2, xi=0.5)
    trained = {0: np.array([3.0, 0, 0]), 1: np.array([3.0, 0, 0])}
    # the bound is 0.5 (10 + 10) / (0.5 3)^2 = 4.44 for moves 10, 10 and a third that is beyond
    # memory
    known = standing(trained=trained, moves=(10.0, 10.0, 1e9))
    assert rule.choose(1, range(3), known) == [0, 1, 2]
    known = standing(
        trained={**trained, 2: np.zeros(3)}, moves=(40.0, 40.0)
    )  # 17.8: L^2 d^2 = 9, 36, 0
    assert rule.choose(1, range(3), known) == [1]
    known = standing(trained={**trained, 2: np.zeros(3)}, moves=(400.0, 40.0))
    assert rule.choose(1, range(3), known) == [1], "at least one"


def test_lag_needs_one_smoothness_per_agent():
    with pytest.raises(ScenarioError, match="one number for each of 4 agents, got 3"):
        play(
            4,
            1,
            mode="central",
            coordinator={"participation": {"kind": "lag", "smoothness": [1.0] * 3, "lr": 0.1}},
        )


def test_lag_reaches_the_optimum_with_fewer_uploads_than_asking_everyone():
    lr = 1.0 / sum(1.4**m for m in range(8))
    tables = {
        "learner": {"dimension": 4, "curvature": [0.2, 1.0], "curvature_growth": 1.4},
        "exchange": {"payload": "gradient"},
    }
    server = {
        "aggregator": {"kind": "latest", "reduce": "sum"},
        "server_optimizer": {"kind": "sgd", "lr": lr},
    }
    lag = {"kind": "lag", "smoothness": [1.4**m for m in range(8)], "lr": lr, "xi": 0.1}
    everyone = play(8, 100, mode="central", coordinator=server, **tables)
    asked = play(8, 100, mode="central", coordinator={**server, "participation": lag}, **tables)
    assert asked.metrics["error"][-1] < 1e-6
    assert everyone.metrics["error"][-1] < 1e-6
    assert asked.summary["messages_sent"] < 0.4 * everyone.summary["messages_sent"]
