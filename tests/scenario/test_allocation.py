"""Allocation of speed and bandwidth: what it gives, says, records and refuses."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import p2pfrl
from p2pfrl.build.preview import preview
from p2pfrl.core.allocation import allocate
from p2pfrl.core.errors import ScenarioError
from p2pfrl.laws.runs import text
from p2pfrl.scenario import Scenario, loads
from p2pfrl.scenario.checks.notes import notes, without_effect
from p2pfrl.scenario.resources import resources, shares

LOG = {"utility": "log", "weights": [1.0, 2.0, 3.0, 4.0]}


def made(mode: str = "gossip", **tables: dict[str, object]) -> Scenario:
    return loads(text(4, 2, mode=mode, **tables))


@given(
    st.lists(st.tuples(st.floats(0.01, 100), st.floats(0, 1), st.floats(0, 2)), min_size=1),
    st.floats(0.01, 5),
    st.sampled_from([0.0, 0.1, 1.0, 3.0]),
)
def test_shares_keep_their_bounds_and_use_all_there_is(
    agents: list[tuple[float, float, float]], more: float, alpha: float
) -> None:
    weights, low, room = np.array(agents).T
    total, high = float(low.sum()) + more, low + room
    found = allocate(weights, low, high, total, alpha)
    assert ((low <= found) & (found <= high)).all()
    assert found.sum() == pytest.approx(min(total, high.sum()), rel=1e-12)
    order = np.argsort(weights)
    same = np.full(len(low), low.max()), np.full(len(low), low.max() + 1.0)
    even = allocate(weights, *same, float(same[0].sum()) + more, alpha)
    assert (np.diff(even[order]) >= -1e-12).all(), "a greater weight gets no less"


def test_agents_of_one_weight_share_alike_what_a_linear_utility_leaves() -> None:
    weights, low = np.array([3.0, 1.0, 1.0, 0.5]), np.array([0.0, 0.0, 0.5, 0.1])
    found = allocate(weights, low, np.array([1.0, 9.0, 9.0, 9.0]), 4.1, 0.0)
    np.testing.assert_allclose(found, [1.0, 1.5, 1.5, 0.1], rtol=1e-14)


def test_shares_multiply_what_an_agent_has() -> None:
    own = {"speed": [1.0, 1.0, 2.0, 2.0]}
    found = resources(made(compute=own, allocation=LOG))
    np.testing.assert_allclose(found.speed, [0.4, 0.8, 2.4, 3.2])
    found = resources(made(compute=own, allocation={**LOG, "resource": "bandwidth", "total": 10}))
    assert found.speed.tolist() == own["speed"]
    np.testing.assert_allclose(found.bandwidth, 1.25e8 * np.array([1.0, 2.0, 3.0, 4.0]))
    assert shares(made()).tolist() == [1.0] * 4


@pytest.mark.parametrize("kind", ["synchronous", "asynchronous"])
def test_an_agent_with_a_larger_share_is_faster(kind: str) -> None:
    table = {**LOG, "weights": [1.0, 1.0, 1.0, 5.0]}
    compute = {"seconds_per_env_step": 1.0}
    run = p2pfrl.run(made(compute=compute, allocation=table, schedule={"kind": kind}))
    spent = {i.agent: i.end - i.start for i in run.timeline if i.kind == "train"}
    assert spent == pytest.approx({0: 2.0, 1: 2.0, 2: 2.0, 3: 0.4}, abs=1e-6)
    last = run.agents["share"][-4:]
    np.testing.assert_allclose(last, [0.5, 0.5, 0.5, 2.5])
    assert "share" not in run.summary["fairness"]


def test_weights_by_speed_follow_the_shares() -> None:
    aggregator = {"aggregator": {"kind": "mean", "weights": "speed"}}
    alone = p2pfrl.run(loads(text(4, 1, mode="independent"))).parameters
    run = p2pfrl.run(loads(text(4, 1, mode="central", coordinator=aggregator, allocation=LOG)))
    expected = np.average(alone, axis=0, weights=[1.0, 2.0, 3.0, 4.0])
    np.testing.assert_allclose(run.parameters[0], expected, rtol=0, atol=1e-14)


def test_validate_says_the_shares() -> None:
    found = preview(made(allocation={**LOG, "high": 1.2}))
    assert found["shares"] == [0.533333, 1.066667, 1.2, 1.2]
    assert found["shares_sum"] == pytest.approx(4.0)
    assert found["allocated"] == "speed"
    many = preview(loads(text(100, 2, allocation={"utility": "log"})))
    assert many["shares"] == {"min": 1.0, "max": 1.0}
    assert "shares" not in preview(made())


@pytest.mark.parametrize(
    ("table", "what"),
    [
        ({**LOG, "low": 2.0}, r"allocation.low: lower bounds sum to 8, more than the total of 4"),
        ({**LOG, "low": 0.5, "high": 0.4}, r"agent 0: expected at least its lower bound 0.5"),
        ({**LOG, "utility": "linear"}, r"agent 0 would get nothing and never end a round"),
        ({**LOG, "weights": [1.0]}, r"allocation.weights: expected one value per agent \(4\)"),
        ({**LOG, "weights": 0.0}, r"must be above 0"),
        ({"utility": "alpha_fair", "alpha": 0.0}, r"at least 0.1"),
        ({**LOG, "total": 0.0}, r"above 0"),
    ],
)
def test_what_has_no_optimum_is_refused(table: dict[str, object], what: str) -> None:
    with pytest.raises(ScenarioError, match=what):
        made(allocation=table)


@pytest.mark.parametrize(
    ("mode", "tables", "what"),
    [
        ("gossip", {"allocation": {"total": 3.0}}, "'none' without effect: allocation.total"),
        ("gossip", {"allocation": {**LOG, "alpha": 3.0}}, "'log' without effect: allocation.alpha"),
        (
            "independent",
            {"allocation": {**LOG, "resource": "bandwidth"}},
            "allocation of bandwidth",
        ),
        ("gossip", {"allocation": {**LOG, "low": 0.3}}, "allocation.low has no effect"),
        ("gossip", {"allocation": {**LOG, "high": 1.7}}, "allocation.high has no effect"),
        (
            "gossip",
            {"allocation": LOG, "compute": {"seconds_per_env_step": 0.0}},
            "changes no time",
        ),
    ],
)
def test_a_note_names_what_has_no_effect(
    mode: str, tables: dict[str, dict[str, object]], what: str
) -> None:
    assert any(what in note for note in notes(made(mode, **tables)))


def test_over_tcp_shares_take_no_time() -> None:
    assert "[allocation]" in without_effect(made(allocation=LOG))
    assert not without_effect(made())
