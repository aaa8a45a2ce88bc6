"""The terms of convergence bounds: their numbers, and where they are known."""

import numpy as np
import pytest

import p2pfrl
from p2pfrl.build.preview import preview
from p2pfrl.commands.summaries import describe
from p2pfrl.consensus.constants import constants, disagreement_bound, local_bias
from p2pfrl.laws.runs import play, text
from p2pfrl.scenario import loads

A = np.array([[[1.0, 0.0], [0.0, 3.0]], [[3.0, 0.0], [0.0, 1.0]]])
OWN = np.array([[1.0, 0.0], [-1.0, 0.0]])
b = np.matmul(A, OWN[..., None])[..., 0]


def test_the_constants_of_two_small_quadratics():
    found = constants(A, b)
    best = np.array([-0.5, 0.0])  # 2 x = mean of (1, -3)
    assert found.mu == pytest.approx(2.0)
    assert pytest.approx(3.0) == found.L
    assert found.condition == pytest.approx(1.5)
    fields = [A[i] @ (best - OWN[i]) for i in range(2)]
    assert found.dissimilarity == pytest.approx(np.sqrt(np.mean([f @ f for f in fields])))
    assert found.own_optima == pytest.approx(np.sqrt((1.5**2 + 0.5**2) / 2))


def test_a_field_that_is_not_symmetric_has_the_mu_of_its_symmetric_part():
    turning = np.array([[[1.0, 5.0], [-5.0, 1.0]]])
    found = constants(turning, np.zeros((1, 2)))
    assert found.mu == pytest.approx(1.0)
    assert pytest.approx(np.sqrt(26.0)) == found.L
    assert constants(-turning, np.zeros((1, 2))).condition == np.inf


def test_what_would_take_long_is_not_computed():
    wide = np.broadcast_to(np.eye(100), (101, 100, 100))
    assert constants(wide, np.zeros((101, 100))) is None


def test_one_local_step_and_equal_fields_have_no_bias():
    assert local_bias(A, b, 0.1, 1) == pytest.approx(0.0, abs=1e-14)
    assert local_bias(A, b, 0.1, 5) > 0.05
    assert local_bias(A[[0, 0]], b, 0.1, 5) == pytest.approx(0.0, abs=1e-14)


def test_the_bound_of_the_disagreement_is_known_for_symmetric_weights_and_small_steps():
    halves = ({0: 0.75, 1: 0.25}, {0: 0.25, 1: 0.75})
    above = sum(0.5 * (OWN[i] @ A[i] @ OWN[i]) for i in range(2))
    expected = 0.1 * np.sqrt(2 * 3.0 * above) / 0.5
    assert disagreement_bound(A, b, np.zeros(2), halves, 0.1) == pytest.approx(expected)
    assert disagreement_bound(A, b, np.zeros(2), halves, 0.51) is None
    assert disagreement_bound(A, b, np.zeros(2), ({0: 0.9, 1: 0.1}, {0: 0.5, 1: 0.5}), 0.1) is None
    assert disagreement_bound(A, b, np.zeros(2), ({0: 1.0}, {1: 1.0}), 0.1) is None


QUADRATIC = {"learner": {"kind": "quadratic", "dimension": 3}}
CWA = {"exchange": {"order": "combine_while_adapting"}}


@pytest.mark.parametrize(
    ("mode", "tables", "terms"),
    [
        ("gossip", QUADRATIC, {"spectral_gap"}),
        ("gossip", {**QUADRATIC, **CWA}, {"spectral_gap", "disagreement"}),
        ("gossip", {**QUADRATIC, **CWA, "network": {"loss": 0.1}}, {"spectral_gap"}),
        (
            "gossip",
            {**QUADRATIC, **CWA, "topology": {"kind": "random_matchings"}},
            {"spectral_gap"},
        ),
        ("gossip", {**QUADRATIC, **CWA, "schedule": {"every": 2}}, {"spectral_gap"}),
        ("central", QUADRATIC, {"bias"}),
        ("central", {**QUADRATIC, "correction": {"kind": "control_variate"}}, set()),
        ("central", {**QUADRATIC, "coordinator": {"aggregator": {"kind": "median"}}}, set()),
        ("independent", {"learner": {**QUADRATIC["learner"], "noise": 0.5}}, {"sigma"}),
        ("central", {"learner": {"kind": "td"}, "environment": {"id": "garnet"}}, {"bias"}),
    ],
)
def test_terms_are_those_that_hold_in_the_scenario(mode, tables, terms):
    scenario = loads(text(4, 2, mode=mode, **tables))
    found = p2pfrl.run(scenario).summary["bound"]
    own = {"mu", "L", "condition", "dissimilarity", "own_optima"}
    assert {*found} == own | terms
    assert preview(scenario)["bound"] == pytest.approx(found, rel=1e-12)


def test_learners_of_other_problems_have_no_terms():
    record = play(
        2,
        1,
        learner={"kind": "reinforce", "hidden": [2], "steps": 4},
        environment={"id": "cartpole"},
    )
    assert "bound" not in record.summary
    assert "bound's terms" not in describe(record.summary)


def test_the_terminal_shows_the_terms():
    shown = describe(play(3, 1, **QUADRATIC).summary)["bound's terms"]
    assert shown.startswith("mu ")
    assert "spectral gap" in shown
