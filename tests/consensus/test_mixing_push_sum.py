"""Push-sum loses no mass whatever happens to messages.

Stochastic gradient push is what the paper says.
"""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2pfrl.consensus.mixing import RULES
from p2pfrl.consensus.mixing.push_sum import PushSum
from p2pfrl.consensus.topologies import RULES as TOPOLOGIES
from p2pfrl.consensus.topologies.base import TopologyView
from p2pfrl.core.errors import ScenarioError
from p2pfrl.core.graph import Graph, directed
from p2pfrl.core.turn import NoMemory, Turn
from p2pfrl.laws.runs import play, start
from p2pfrl.laws.watch import watched

GRAPHS = {
    "file": (12, {"path": "one_way_12.graphml"}),
    "star": (7, {}),
    "barabasi_albert": (9, {}),
    "one_peer_exponential": (6, {}),
}


def see(agent, own, begun, to=(), round=0):
    return Turn(
        agent, round, "update", begun, own, 1, 0.0, (), 0.0, (0, agent, round), NoMemory(), None, to
    )


def sgp(x, A, x_star, views, lr, rounds):
    """Return z after `rounds` of Assran et al., Algorithm 1, written anew.

    P is dense and column-stochastic, w are the weights.
    """
    n = len(x)
    z, w = x.copy(), np.ones(n)
    for k in range(rounds):
        P = np.zeros((n, n))
        for i, receivers in enumerate(views(k)):
            for j in (i, *receivers):
                P[j, i] = 1.0 / (1 + len(receivers))
        gradient = np.array([A[i] @ (z[i] - x_star[i]) for i in range(n)])
        x, w = P @ (x - lr * gradient), P @ w
        z = x / w[:, None]
    return z


@pytest.mark.parametrize("kind", GRAPHS)
@pytest.mark.parametrize("seed", [3, 8])
def test_a_run_is_stochastic_gradient_push(kind, seed):
    n, options = GRAPHS[kind]
    run = play(
        n,
        20,
        seed=seed,
        learner={"lr": 0.03, "initial_spread": 1.0},
        topology={"kind": kind, **options},
        mixing={"kind": "push_sum"},
    )
    view = TopologyView(TOPOLOGIES[kind](**options), n, seed)
    first = start(run, seed)
    expected = sgp(
        first, run.problem["A"], run.problem["x_star"], lambda k: view.at(k).successors, 0.03, 20
    )
    np.testing.assert_allclose(run.parameters, expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@given(data=st.data())
def test_mass_is_kept_and_the_mean_found_whatever_is_lost_repeated_or_overtaken(dtype, data):
    n, k = data.draw(st.integers(2, 6)), 3
    rng = np.random.default_rng(data.draw(st.integers(0, 999)))
    x = rng.standard_normal((n, k)).astype(dtype)
    rule, z = PushSum(least_weight=0.0), x.copy()
    states, everything, sent = [rule.init(own) for own in x], [], 0
    trained = x.astype(np.float64).sum(axis=0)
    for round in range(12):
        graph = directed(
            n, [(i, j) for i in range(n) for j in range(n) if i != j and rng.random() < 0.5]
        )
        own = (z + (0.1 * rng.standard_normal((n, k))).astype(dtype)).astype(dtype)
        trained += np.subtract(own, z, dtype=np.float64).sum(axis=0)
        turns = [see(i, own[i], z[i], graph.successors[i], round) for i in range(n)]
        states = [rule.prepare(turns[i], states[i]) for i in range(n)]
        everything += [(i, j, rule.payload(turns[i], states[i], j)) for i, j in graph.edges]
        came = [rng.integers(len(everything)) for _ in range(2 * n)] if everything else []
        for i in range(n):
            received = {everything[m][0]: everything[m][2] for m in came if everything[m][1] == i}
            z[i], states[i] = rule.mix(turns[i], received, {i: 1.0}, states[i])
        on_the_way = [
            np.subtract(total, states[j].had.get(i, states[i].nothing), dtype=np.float64)
            for i in range(n)
            for j, total in states[i].given.items()
        ]
        mass = sum(state.own for state in states) + sum(on_the_way)
        np.testing.assert_allclose(mass, [*trained, n], rtol=0, atol=1e-12)
        assert all(state.own[-1] > 0 for state in states)
        assert all(difference[-1] >= 0 for difference in on_the_way)
        sent += len(graph.edges)


def test_what_travels_are_sums_so_the_last_message_says_everything():
    rule = PushSum()
    x = np.array([4.0, -2.0])
    giver, taker = rule.init(x), rule.init(np.zeros(2))
    for round in range(3):
        turn = see(0, x, x, (1,), round)
        giver = rule.prepare(turn, giver)
        if round == 0:
            first = rule.payload(turn, giver, 1)
    last = rule.payload(turn, giver, 1)
    np.testing.assert_array_equal(last, [3.5, -1.75, 0.875])  # 1/2 + 1/4 + 1/8 of it
    z, taker = rule.mix(see(1, np.zeros(2), np.zeros(2)), {0: last}, {0: 0.5, 1: 0.5}, taker)
    np.testing.assert_array_equal(z, np.array([3.5, -1.75]) / 1.875)
    for late in (last, first):
        again, taker = rule.mix(see(1, z, z), {0: late}, {0: 0.5, 1: 0.5}, taker)
        np.testing.assert_array_equal(again, z)


def test_an_agent_keeps_the_least_weight_until_it_hears_again():
    rule = PushSum(least_weight=0.1)
    x = np.array([1.0])
    state, kept = rule.init(x), []
    for round in range(20):
        turn = see(0, x, x, (1, 2), round)
        state = rule.prepare(turn, state)
        kept.append(state.own[-1])
        _, state = rule.mix(turn, {}, {0: 1 / 3, 1: 0.5}, state)
    np.testing.assert_allclose(kept[:4], [1 / 3, 1 / 9, 0.1, 0.1], rtol=1e-12)
    assert kept[-1] == pytest.approx(0.1)
    z, state = rule.mix(see(0, x, x), {1: np.array([5.0, 1.0])}, {0: 1.0, 1: 0.5}, state)
    before = state.own[-1]
    state = rule.prepare(see(0, z, z, (1, 2), 20), state)
    assert state.own[-1] == pytest.approx(before / 3)


@given(seed=st.integers(0, 999), n=st.integers(1, 8))
def test_columns_of_its_matrix_sum_to_one_on_any_graph(seed, n):
    rng = np.random.default_rng(seed)
    graph = directed(
        n, [(i, j) for i in range(n) for j in range(n) if i != j and rng.random() < 0.4]
    )
    rule = PushSum()
    rule.check(graph)
    assert rule.is_doubly_stochastic(graph)  # in the sense that the mean is kept
    rows = rule.weights(graph)
    assert all(row[j] == 1.0 / (1 + len(graph.successors[j])) for row in rows for j in row)


def test_it_trains_under_loss_and_without_rounds_and_every_step_counts_once():
    for schedule in ({}, {"kind": "asynchronous", "staleness": {"kind": "constant"}}):
        with watched(PushSum, "prepare") as calls, watched(PushSum, "mix") as mixings:
            run = play(
                12,
                100,
                learner={"lr": 0.01},
                topology={"kind": "file", "path": "one_way_12.graphml"},
                mixing={"kind": "push_sum"},
                schedule=schedule,
                network={"loss": 0.2, "duplicate": 0.1, "jitter": "3ms"},
            )
        states = {turn.agent: state for (turn, *_), (_, state) in mixings}
        mass = sum(state.own for state in states.values())
        for i, state in states.items():
            for j, total in state.given.items():
                mass = mass + total - states[j].had.get(i, state.nothing)
        steps = sum(turn.own - turn.start for (turn, _), _ in calls)
        first = start(run, 1, 0.0)
        np.testing.assert_allclose(mass, [*(first.sum(axis=0) + steps), 12.0], rtol=0, atol=1e-11)
        optimum = np.linalg.solve(
            run.problem["A"].sum(axis=0),
            np.einsum("nij,nj->i", run.problem["A"], run.problem["x_star"]),
        )
        assert np.linalg.norm(run.parameters.mean(axis=0) - optimum) < 0.5 * np.linalg.norm(
            first[0] - optimum
        )


def test_a_message_is_one_number_longer():
    run = play(6, 5, mixing={"kind": "push_sum"})
    plain = play(6, 5)
    assert (
        run.summary["bytes_sent"] - plain.summary["bytes_sent"] == 8 * run.summary["messages_sent"]
    )


def test_it_takes_no_choice_of_what_loss_does():
    with pytest.raises(ScenarioError, match="fold"):
        RULES["push_sum"](on_loss="renormalize")
    assert PushSum().effective({0: 0.5, 1: 0.5}, 0, {}) == {0: 0.5, 1: 0.5}
    PushSum().check(Graph(((1,), (2,), (0,))))
