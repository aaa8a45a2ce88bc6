"""Gates and the aggregator that remembers: by themselves, and through agents, codec and network."""

import numpy as np
import pytest

from p2pfrl.consensus.aggregators import RULES as AGGREGATORS
from p2pfrl.consensus.aggregators.base import Arrived
from p2pfrl.core.rng import generator
from p2pfrl.core.turn import NoMemory, Turn
from p2pfrl.exchange.gates import RULES as GATES
from p2pfrl.laws.lag import AGENTS, descent, learner, rounds_to, uploads
from p2pfrl.laws.runs import play


def opened(rule, payloads, *, starts=None, returns=None):
    """Return in which exchanges the gate is open."""
    state, found = rule.init(np.zeros_like(payloads[0])), []
    for count, payload in enumerate(payloads):
        start = np.zeros_like(payload) if starts is None else starts[count]
        episodes = () if returns is None else returns[count]
        turn = Turn(
            0, count, "update", start, payload, 1, 0.0, episodes, 0.0, (1, 0, count), NoMemory()
        )
        is_open, state = rule.decide(payload, turn, state)
        found.append(is_open)
    return found


def numbers(*values):
    return [np.array([float(value)]) for value in values]


def test_every_opens_at_each_multiple():
    assert opened(GATES["every"](tau=3), numbers(*range(7))) == [
        False,
        False,
        True,
        False,
        False,
        True,
        False,
    ]
    assert all(opened(GATES["every"](tau=1), numbers(*range(5))))


def test_norm_opens_when_the_payload_left_what_was_sent_last():
    gate = GATES["norm"](threshold=1.0)
    assert opened(gate, numbers(0, 0.6, 1.0, 1.1, 1.9, 2.2)) == [
        True,
        False,
        False,
        True,
        False,
        True,
    ]


def test_silence_ends_after_so_many_exchanges():
    gate = GATES["norm"](threshold=1.0, max_silence=2)
    assert opened(gate, numbers(*[0] * 8)) == [True, False, False, True, False, False, True, False]


def test_performance_opens_when_the_mean_return_moved_either_way():
    gate = GATES["performance"](threshold=5.0, window=2)
    returns = [(), (10.0,), (12.0,), (), (30.0, 30.0), (), (20.0,), (20.0,)]
    # means of the last two: none, 10, 11, 11, 30, 30, 25, 20; told: none, 10, 30, 25, 20
    assert opened(gate, numbers(*[0] * 8), returns=returns) == [
        True,
        True,
        False,
        False,
        True,
        False,
        True,
        True,
    ]


def test_lag_opens_when_the_gradient_changed_by_more_than_the_moves_account_for():
    gate = GATES["lag"](alpha=0.5, agents=2, memory=2, weight=0.5)
    starts = numbers(0, 1, 3, 3, 3, 3)
    # 1 / (alpha M)^2 = 1; bounds: -, .5, 2.5, 2, 0, 0
    payloads = numbers(0, 0.7, 1.6, 3.0, 3.0, 3.0 + 1e-9)
    assert opened(gate, payloads, starts=starts) == [True, False, True, False, True, True]
    slack = GATES["lag"](alpha=0.5, memory=2, weight=0.5, variance=1.0).bind(2)
    assert opened(slack, payloads, starts=starts) == [True, False, False, True, False, False]


def test_latest_sums_or_averages_what_was_heard_last_of_everyone():
    one, two, new = (np.array([value]) for value in (1.0, 2.0, 5.0))
    for reduce, first, then, silent in (("sum", 1.0, 7.0, 7.0), ("mean", 1.0, 3.5, 3.5)):
        rule = AGGREGATORS["latest"](reduce=reduce)
        got, memory = rule.aggregate([Arrived(2, one, 1.0)], one, rule.init(one))
        assert got.tolist() == [first]
        got, memory = rule.aggregate([Arrived(0, two, 1.0), Arrived(2, new, 1.0)], one, memory)
        assert got.tolist() == [then]
        got, memory = rule.aggregate([], one, memory)
        assert got.tolist() == [silent]


def lazy_descent(A, x_star, x, alpha, rounds):
    """Return the model and the number of uploads after `rounds` of LAG-WK, written anew.

    D = 10 and xi = .1.
    """
    sent, moves, count = None, [], 0
    for _ in range(rounds):
        gradients = np.einsum("nij,nj->ni", A, x - x_star)
        if sent is None:
            news = np.ones(len(A), dtype=bool)
            sent = gradients.copy()
        else:
            news = (
                np.square(gradients - sent).sum(axis=1)
                > 0.1 * sum(moves[-10:]) / (alpha * len(A)) ** 2
            )
            sent[news] = gradients[news]
        count += news.sum()
        step = -alpha * sent.sum(axis=0)
        moves.append(np.square(step).sum())
        x = x + step
    return x, count


@pytest.mark.parametrize(("growth", "seed"), [(4.0, 1), (4.0, 7), (1.69, 3), (1.0, 2)])
def test_lag_does_what_its_equations_say(growth, seed):
    rounds = 25
    record = descent(growth, seed, rounds, lazy=True)
    A, x_star = record.problem["A"], record.problem["x_star"]
    alpha = 1.0 / np.linalg.eigvalsh(A.sum(axis=0))[-1]
    start = generator(seed, "start").standard_normal(A.shape[1])
    x, count = lazy_descent(A, x_star, start, alpha, rounds)
    assert np.abs(record.parameters - x).max() <= 1e-12
    assert uploads(record) == count < AGENTS * rounds


def test_rounds_in_which_nobody_answers_move_the_model_all_the_same():
    silent = descent(1.0, 1, 3, lazy=False, dropout=0.999)
    assert uploads(silent) == 0
    start = generator(1, "start").standard_normal(32)
    assert np.array_equal(silent.parameters, np.tile(start, (AGENTS, 1)))  # nothing was ever heard
    coordinator = {
        "aggregator": {"kind": "latest", "reduce": "sum"},
        "server_optimizer": {"kind": "sgd", "lr": 0.05},
    }
    record = play(
        3,
        12,
        mode="central",
        learner={**learner(1.0), "dimension": 4},
        exchange={"payload": "gradient"},
        coordinator=coordinator,
        gate={"kind": "norm", "threshold": 1e9},
    )
    A, x_star = record.problem["A"], record.problem["x_star"]
    first = generator(1, "start").standard_normal(4)
    gradient = np.einsum("nij,nj->i", A, first - x_star)
    assert uploads(record) == 3
    np.testing.assert_allclose(
        record.parameters, np.tile(first - 12 * 0.05 * gradient, (3, 1)), rtol=1e-12
    )


@pytest.mark.slow
def test_the_mean_of_what_was_heard_last_forgets_nobody_who_is_away():
    """With MIFA and deltas of equal quadratics the model goes to the mean of all optima.

    It does so whoever answers when.
    """
    tables = {
        "learner": {"dimension": 4, "curvature": [1.0, 1.0], "lr": 0.1, "spread": 3.0},
        "exchange": {"payload": "delta"},
        "availability": {"dropout": 0.5},
    }
    errors = {}
    for kind in ("mean", "latest"):
        coordinator = {"aggregator": {"kind": kind}, "server_optimizer": {"kind": "sgd", "lr": 0.5}}
        record = play(6, 600, mode="central", coordinator=coordinator, **tables)
        errors[kind] = record.metrics["error"][-50:].mean()
    assert errors["latest"] < 0.05
    assert errors["mean"] > 5 * errors["latest"]


def test_a_gate_by_count_lets_neighbors_average_every_so_many_rounds():
    learner = {"lr": 0.0, "initial_spread": 1.0}
    record = play(
        8, 12, learner=learner, gate={"kind": "every", "tau": 4}, topology={"kind": "complete"}
    )
    distance = record.metrics["consensus_distance"]
    assert np.ptp(distance[:3]) == 0.0
    assert distance[2] > 0.1
    assert distance[3] < 1e-12
    plain = play(8, 12, learner=learner, topology={"kind": "complete"})
    # a message of eight numbers is 64 bytes longer than one that says there is nothing
    assert plain.metrics["bytes_sent"][-1] - record.metrics["bytes_sent"][-1] > 9 * 8 * 7 * 64


def test_a_gate_by_change_saves_messages_once_little_changes():
    tables = {
        "learner": {"lr": 0.2, "curvature": [1.0, 1.0], "spread": 0.1, "dimension": 100},
        "topology": {"kind": "ring"},
    }
    plain = play(8, 60, **tables)
    gated = play(
        8, 60, gate={"kind": "norm", "threshold": 0.03}, mixing={"on_loss": "last_known"}, **tables
    )
    assert gated.metrics["bytes_sent"][-1] < 0.75 * plain.metrics["bytes_sent"][-1]
    assert gated.metrics["consensus_distance"][-1] < plain.metrics["consensus_distance"][-1] + 0.05


def test_a_gate_by_performance_saves_messages_where_returns_stand_still():
    tables = {
        "environment": {"id": "CartPole-v1", "instances": 1},
        "learner": {"kind": "reinforce", "episodes": 2},
        "evaluation": {"episodes": 0},
    }
    plain = play(4, 6, **tables)
    gated = play(4, 6, gate={"kind": "performance", "threshold": 1e6}, **tables)
    assert 3 * gated.metrics["bytes_sent"][-1] < plain.metrics["bytes_sent"][-1]


def test_reached_is_open_while_the_mean_return_is_high_enough_or_from_then_on():
    returns = [(), (9.0,), (11.0,), (), (5.0,), (8.0, 8.0, 12.0), (10.0, 9.0)]
    # means of the last two: -, -, 10, 10, 8, 10, 9.5; one episode is not enough
    for once in (False, True):
        gate = GATES["reached"](value=10.0, window=2, once=once)
        found = opened(gate, numbers(*[0] * 7), returns=returns)
        assert found == [False, False, True, True, once, True, once]


@pytest.mark.slow
def test_agents_send_in_the_rounds_in_which_their_return_has_reached_the_value():
    tables = {
        "environment": {"id": "CartPole-v1", "instances": 1},
        "learner": {"kind": "reinforce", "episodes": 10, "hidden": [4]},
        "evaluation": {"episodes": 0},
    }
    gate = {"kind": "reached", "value": 22.0, "window": 20}
    record = play(4, 8, gate=gate, **tables)
    agents = record.agents
    is_high = (agents["episodes"] >= 20) & (agents["return"] >= gate["value"])
    bytes_sent = np.diff(agents["bytes_sent"].reshape(8, 4), axis=0, prepend=0.0)
    assert np.array_equal(bytes_sent > 2 * bytes_sent.min(), is_high.reshape(8, 4))
    assert 0.2 < is_high.mean() < 0.8
    silent = play(4, 2, gate={**gate, "value": 1e6}, **tables)
    alone = play(4, 2, mode="independent", **tables)
    assert silent.summary["messages_empty"] == 4 * 2 * 2
    assert np.array_equal(silent.parameters, alone.parameters)


def test_rounds_to_a_tolerance_are_counted_from_the_start():
    record = descent(1.0, 1, 30, lazy=False)
    assert rounds_to(record, 1, 1.0) == 1
    assert 1 < rounds_to(record, 1, 1e-4) < rounds_to(record, 1, 1e-8) <= 30
    assert rounds_to(descent(1.0, 1, 2, lazy=False), 1, 1e-8) == 3


def test_headers_without_a_payload_are_counted_apart():
    run = play(4, 6, gate={"kind": "every", "tau": 3})
    assert run.summary["messages_sent"] == 6 * 8
    assert run.summary["messages_empty"] == 4 * 8
