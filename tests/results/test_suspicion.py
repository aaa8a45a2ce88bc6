"""Who is suspected: scores of senders under robust rules, their columns, summary and figure."""

import numpy as np
import pytest

import p2pfrl
from p2pfrl.consensus.suspicion import scores
from p2pfrl.results.groups import Group
from p2pfrl.results.plots.suspicion import suspicion
from p2pfrl.results.suspects import suspects
from p2pfrl.scenario import loads

SCENARIO = """
name = "suspects"
agents = 8
mode = "{mode}"
stop = {{rounds = 6}}
learner = {{kind = "quadratic", dimension = 16, spread = 1.0, noise = 0.5, lr = 0.05}}
topology = {{kind = "complete"}}
{more}
"""
GOSSIP = 'mixing = {kind = "bridge"}\n'
CENTRAL = 'coordinator = {aggregator = {kind = "median"}}\n'
EDGES = CENTRAL + "hierarchy = {groups = [[0, 1, 2, 3], [4, 5, 6, 7]]}\n"
FAR = "groups = [{agents = [3], learner = {lr = 1.0}}]\n"


def run(mode="gossip", more=GOSSIP):
    return p2pfrl.run(loads(SCENARIO.format(mode=mode, more=more)))


def test_scores_are_distances_in_units_of_the_median_and_cosines():
    received = {4: np.array([1.0, 0.0]), 1: np.array([3.0, 0.0]), 7: np.array([0.0, 0.0])}
    found = scores(received, np.array([1.0, 1.0]), np.array([0.0, 1.0]))
    assert list(found) == [1, 4, 7]
    unit = 2.0**0.5
    assert [d for d, _ in found.values()] == pytest.approx([5**0.5 / unit, 1 / unit, 1.0])
    assert [c for _, c in found.values()] == pytest.approx([3 / 10**0.5, 1 / unit, 0.0])
    assert scores({}, np.zeros(2), np.zeros(2)) == {}


def test_scores_of_equal_and_of_enormous_vectors_are_finite():
    same = scores({0: np.ones(2), 1: np.ones(2)}, np.ones(2), np.ones(2))
    assert same == {0: (1.0, 0.0), 1: (1.0, 0.0)}
    huge = scores(
        {0: np.full(2, 1e300), 1: np.ones(2), 2: np.zeros(2)}, np.full(2, 0.5), np.zeros(2)
    )
    assert all(np.isfinite(huge[0]))
    assert huge[0][0] > 1e100


@pytest.mark.parametrize(
    ("mode", "rule"), [("gossip", GOSSIP), ("central", CENTRAL), ("hierarchical", EDGES)]
)
def test_an_agent_that_is_far_from_the_others_is_suspected_and_nobody_else(mode, rule):
    far, alike = run(mode, rule + FAR), run(mode, rule)
    assert far.summary["suspicion"]["suspects"] == [3]
    assert far.summary["suspicion"]["alarms"] >= 1 / 8
    assert alike.summary["suspicion"] == {
        "threshold": 3.0,
        "alarms": 0.0,
        "false_alarms": 0.0,
        "suspects": [],
    }
    rows = far.agents["agent"] == 3
    assert (far.agents["suspicion"][rows] > 3.0).all()
    assert (far.agents["suspicion"][~rows] < 3.0).all()
    assert np.isfinite(far.agents["suspicion_cosine"]).all()


def test_runs_without_robust_rules_have_no_scores():
    record = run("gossip", "")
    assert "suspicion" not in record.agents
    assert "suspicion" not in record.summary
    assert suspicion([Group("", (record,))]) is None


def test_agents_without_rounds_have_their_scores_too():
    more = GOSSIP + 'schedule = {kind = "asynchronous"}\ncompute = {seconds_per_env_step = 0.01}\n'
    record = run("gossip", more + FAR)
    assert np.isfinite(record.agents["suspicion"]).any()
    assert record.summary["suspicion"]["suspects"] == [3]


def test_the_figure_shows_agents_against_rounds():
    drawing = suspicion([Group("", (run("gossip", GOSSIP + FAR),))])
    assert drawing is not None
    axis = drawing.figure.axes[0]
    image = axis.images[0].get_array()
    assert image.shape == (8, 6)
    assert image[3].min() > 3.0
    assert "alarm" in drawing.caption


def test_rounds_without_scores_raise_no_alarm():
    nothing = np.array([np.nan, np.nan])
    found = suspects({"agent": np.array([0, 1]), "suspicion": nothing})
    nobody = {"threshold": 3.0, "alarms": 0.0, "false_alarms": 0.0, "suspects": []}
    assert found == nobody


@pytest.mark.parametrize(
    ("mode", "rule"), [("gossip", GOSSIP), ("central", CENTRAL), ("hierarchical", EDGES)]
)
def test_attackers_are_suspected_from_the_first_round_of_their_attack_on(mode, rule):
    attack = 'attacks = [{kind = "noise", agents = [5], from = 3}]\n'
    record = run(mode, rule + attack)
    rows = record.agents["agent"] == 5
    before = record.agents["round"] <= 3
    assert (record.agents["suspicion"][rows & before] < 3.0).all()
    assert (record.agents["suspicion"][rows & ~before] > 100.0).all()
    found = record.summary["suspicion"]
    assert found["false_alarms"] == 0.0
    assert found["alarms"] == pytest.approx(3 / 48)
    drawing = suspicion([Group("", (record,))])
    red = [
        label.get_text()
        for label in drawing.figure.axes[0].get_yticklabels()
        if label.get_color() == "crimson"
    ]
    assert red == ["5"]
