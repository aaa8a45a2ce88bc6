"""CHOCO follows its equations, through agents, codec and network.

It refuses what its equations do not hold with.
"""

import numpy as np
import pytest

from p2pfrl.consensus.mixing import RULES
from p2pfrl.core.errors import ScenarioError, TopologyError
from p2pfrl.core.graph import Graph
from p2pfrl.core.turn import NoMemory, Turn
from p2pfrl.laws.runs import play, start, text
from p2pfrl.results.record import Record
from p2pfrl.scenario import loads


def metropolis(record: Record) -> np.ndarray:
    n = record.graph.n
    degree = [len(to) for to in record.graph.successors]
    W = np.zeros((n, n))
    for i, j in record.graph.edges:
        W[i, j] = 1 / (1 + max(degree[i], degree[j]))
    return W + np.diag(1 - W.sum(axis=1))


def top(x: np.ndarray, count: int) -> np.ndarray:
    kept = np.argsort(-np.abs(x), kind="stable")[:count]
    out = np.zeros_like(x)
    out[kept] = x[kept]
    return out


def sign(x: np.ndarray) -> np.ndarray:
    return np.abs(x).sum() / len(x) * np.where(x < 0, -1.0, 1.0)


def nearest(x: np.ndarray) -> np.ndarray:
    low, step = x.min(), (x.max() - x.min()) / 15
    return low + step * np.floor((x - low) / step + 0.5) if step else x


CODES = {
    "topk": ({"kind": "topk", "count": 3}, lambda x: top(x, 3)),
    "sign": ({"kind": "sign"}, sign),
    "quantize": ({"kind": "quantize", "bits": 4}, nearest),
}


def choco_sgd(Q, W, A, x_star, x, lr, gamma, rounds, after):
    """CHOCO-SGD of Koloskova, Stich and Jaggi, algorithm 2, written anew: every agent a row."""
    known = np.zeros_like(x)
    for _ in range(rounds):
        gradient = np.einsum("nij,nj->ni", A, x - x_star)
        half = x if after else x - lr * gradient
        known = known + np.array([Q(row) for row in half - known])
        x = half + gamma * (W @ known - known)  # the rows of W sum to 1
        if after:
            x = x - lr * gradient
    return x


@pytest.mark.parametrize("code", CODES)
@pytest.mark.parametrize(
    ("topology", "seed", "order"),
    [
        ({"kind": "erdos_renyi", "probability": 0.5}, 5, "adapt_then_combine"),
        ({"kind": "star"}, 2, "combine_while_adapting"),
        ({"kind": "ring"}, 9, "adapt_then_combine"),
    ],
)
def test_with_learning_it_is_choco_sgd(code, topology, seed, order):
    options, Q = CODES[code]
    learner = {"dimension": 12, "lr": 0.03, "curvature": [1.0, 4.0], "initial_spread": 0.5}
    record = play(
        7,
        15,
        seed=seed,
        topology=topology,
        learner=learner,
        exchange={"order": order},
        mixing={"kind": "choco", "gamma": 0.2},
        compressor={"kind": "difference", "compressor": options},
    )
    x = choco_sgd(
        Q,
        metropolis(record),
        record.problem["A"],
        record.problem["x_star"],
        start(record, seed, 0.5, 12),
        0.03,
        0.2,
        15,
        order == "combine_while_adapting",
    )
    assert np.abs(record.parameters - x).max() <= 1e-12
    assert record.metrics["mean_drift"][-1] <= 1e-12


def test_a_single_message_of_the_record_has_the_bytes_that_its_code_claims():
    sent = {}
    for size in (200, 400):
        for kind in ("none", "difference"):
            mixing = {"kind": "choco"} if kind == "difference" else {"kind": "metropolis"}
            code = (
                {"kind": kind, "compressor": {"kind": "qsgd"}}
                if kind == "difference"
                else {"kind": kind}
            )
            record = play(4, 3, learner={"dimension": size}, mixing=mixing, compressor=code)
            sent[size, kind] = record.metrics["bytes_sent"][-1] / (3 * 8)
    assert sent[400, "none"] - sent[200, "none"] == pytest.approx(200 * 8, abs=1)
    assert sent[400, "difference"] - sent[200, "difference"] == pytest.approx(200 * 6 / 8, abs=2)


def test_agents_in_float32_agree_too():
    record = play(
        4,
        12,
        learner={"kind": "reinforce"},
        environment={"id": "CartPole-v1", "instances": 1},
        evaluation={"episodes": 0},
        mixing={"kind": "choco", "gamma": 0.8},
        topology={"kind": "ring"},
        compressor={"kind": "difference", "compressor": {"kind": "quantize", "bits": 4}},
    )
    assert record.parameters.dtype == np.float32
    assert record.metrics["mean_drift"][-1] < 1e-4
    assert record.metrics["consensus_distance"][-1] < 0.2


def test_it_moves_by_what_neighbors_know_and_not_by_what_is():
    own, sent = np.array([1.0, 2.0]), np.array([0.5, 0.0])
    turn = Turn(1, 0, "update", own, own, 1, 0.0, (), 0.0, (1, 1, 0), NoMemory(), sent=sent)
    received = {0: np.array([1.5, 0.0]), 2: np.array([0.5, 4.0])}
    mixed, _ = RULES["choco"](gamma=0.5).mix(turn, received, {0: 0.2, 1: 0.5, 2: 0.3}, ())
    np.testing.assert_allclose(
        mixed, own + 0.5 * (0.2 * (received[0] - sent) + 0.3 * (received[2] - sent)), rtol=1e-15
    )
    alone, _ = RULES["choco"]().mix(turn, {}, {1: 1.0}, ())
    assert np.array_equal(alone, own)
    assert alone is not own


def test_a_graph_with_a_one_way_edge_is_refused():
    with pytest.raises(TopologyError, match="choco"):
        RULES["choco"]().check(Graph(((1,), (2,), (0,))))


@pytest.mark.parametrize(
    ("tables", "reason"),
    [
        ({"compressor": {"kind": "topk"}}, "difference"),
        ({"compressor": {"kind": "difference"}, "network": {"loss": 0.1}}, "needs every message"),
        (
            {"compressor": {"kind": "difference"}, "schedule": {"kind": "asynchronous"}},
            "needs every message",
        ),
    ],
)
def test_what_it_cannot_hold_on_is_refused(tables, reason):
    with pytest.raises(ScenarioError, match=reason):
        loads(text(4, 3, mixing={"kind": "choco"}, **tables))
