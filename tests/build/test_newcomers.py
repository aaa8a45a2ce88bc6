"""Newcomers: agents that took no part, with the learned model and after updates of their own."""

import json

import numpy as np
import pytest

import p2pfrl
from p2pfrl.build import newcomers
from p2pfrl.commands.summaries import describe
from p2pfrl.core.errors import AgentError, ScenarioError
from p2pfrl.results.groups import group
from p2pfrl.results.plots import Look, draw
from p2pfrl.scenario import loads
from p2pfrl.scenario.checks.notes import notes

GRID = """
name = "grid"
agents = 3
[stop]
rounds = 4
[environment]
id = "gridworld"
instances = 1
rows = 3
columns = 3
start = [0, 0]
[environment.vary]
slip = 0.0
[learner]
kind = "tabular_q"
steps = 3
lr = 0.5
[evaluation]
episodes = 1
newcomers = 2
adaptation = 3
"""
CARTS = """
name = "carts"
agents = 2
[stop]
rounds = 1
[environment]
id = "cartpole"
instances = 1
max_steps = 9
[environment.vary]
length = {kind = "uniform", low = 0.3, high = 1.2}
[learner]
kind = "reinforce"
hidden = [3]
steps = 12
normalize_observations = true
lr = 0.0
[evaluation]
episodes = 1
newcomers = 2
adaptation = 1
"""


@pytest.fixture(scope="module")
def grid():
    return p2pfrl.run(loads(GRID))


def curve(record, name):
    return record.newcomers[name].reshape(-1, record.summary["newcomers"]["agents"])


def test_newcomers_play_the_mean_model_and_leave_the_run_as_it_is(grid):
    mean = grid.metrics["evaluation_mean_parameters"][-1]
    assert np.array_equal(curve(grid, "learned")[0], [mean, mean])
    assert np.ptp([mean, *curve(grid, "scratch")[0]]) > 0.1
    without = p2pfrl.run(loads(GRID, {"evaluation.newcomers": 0, "evaluation.adaptation": 0}))
    assert without.summary["digest"] == grid.summary["digest"]
    assert without.newcomers == {}


def test_a_newcomer_from_scratch_is_a_further_agent_that_learns_alone(grid):
    options = {"mode": "independent", "agents": 5, "evaluation.newcomers": 0}
    for updates in (1, 2):
        alone = p2pfrl.run(
            loads(GRID, {**options, "evaluation.adaptation": 0, "stop.rounds": updates})
        )
        last = alone.agents["round"] == updates
        found = alone.agents["evaluation_own"][last][3:]
        assert np.array_equal(curve(grid, "scratch")[updates], found)


def test_newcomers_have_the_physics_of_further_agents_and_no_update_without_a_rate():
    record = p2pfrl.run(loads(CARTS, {"learner.normalize_observations": False}))
    whole = p2pfrl.run(loads(CARTS, {"agents": 4, "evaluation": None}))
    assert np.array_equal(record.newcomers["agent"], [2, 3, 2, 3])
    assert np.array_equal(
        record.newcomers["physics_length"][:2], whole.agents["physics_length"][2:]
    )
    for name in ("learned", "scratch"):
        assert np.array_equal(curve(record, name)[0], curve(record, name)[1]), name


@pytest.mark.parametrize(
    "more",
    [
        {"personal": {"kind": "ditto"}},
        {"learner.statistics": "personal"},
        {"mode": "pooled", "learner.normalize_observations": False},
        {"mode": "central", "correction": {"kind": "maml"}},
        {
            "mode": "central",
            "exchange": {"payload": "gradient"},
            "coordinator.server_optimizer": {"kind": "sgd", "lr": 0.1},
        },
    ],
    ids=["personal", "own statistics", "pooled", "maml", "gradient"],
)
def test_newcomers_take_plain_updates_whatever_the_run_did(more):
    record = p2pfrl.run(loads(CARTS, {"learner.lr": 0.5, **more}))
    assert np.isfinite(record.newcomers["learned"]).all()
    trainer = p2pfrl.build.newcomers.held_out(loads(CARTS, more))
    assert trainer.exchange.payload == "parameters"
    assert trainer.agents == 4


def test_a_personal_model_of_a_newcomer_begins_at_the_shared_one_and_its_statistics_at_the_mean():
    from p2pfrl.build.assembly import Assembly

    options = {"personal": {"kind": "ditto"}, "learner.statistics": "personal"}
    stack = Assembly(loads(CARTS, options)).plan.stack
    rows = stack.layout.zeros(2)
    rows[0], rows[1] = 1.0, 4.0
    rows[:, stack.layout.stride // 2 :] = 7.0
    packed = stack.layout.pack(newcomers._model(stack, rows))
    assert np.array_equal(packed, np.full_like(packed, 2.5))


def test_a_run_with_newcomers_is_saved_shown_drawn_and_verified(grid, tmp_path):
    saved = p2pfrl.run(loads(GRID), out=tmp_path / "run")
    again = p2pfrl.load_record(tmp_path / "run")
    assert all(np.array_equal(again.newcomers[k], v) for k, v in saved.newcomers.items())
    assert p2pfrl.verify(tmp_path / "run").is_equal
    shown = describe(grid.summary)["of newcomers"]
    assert "after 3 updates" in shown
    assert "from scratch" in shown
    none = {**grid.summary["newcomers"], "updates": 0}
    assert "untrained" in describe({**grid.summary, "newcomers": none})["of newcomers"]
    (picture,) = draw(group([again]), Look(("svg",), only=("adaptation",)))
    assert b"from scratch" in picture.files["svg"]
    path = tmp_path / "run" / "newcomers.csv"
    path.write_text(path.read_text(encoding="utf-8").replace("scratch", "scratched"))
    with pytest.raises(p2pfrl.core.errors.RecordError, match=r"newcomers\.csv"):
        p2pfrl.load_record(tmp_path / "run")


def test_what_the_summary_says_follows_from_the_table(grid):
    found = grid.summary["newcomers"]
    assert (found["agents"], found["updates"]) == (2, 3)
    for name in ("learned", "scratch"):
        values = curve(grid, name)
        expected = {"before": values[0].mean(), "after": values[3].mean(), "worst": values[3].min()}
        assert found[name] == expected
    assert found["optimum"] == grid.newcomers["optimum"][:2].mean()
    assert json.dumps(found)


def test_an_update_that_fails_ends_the_curve_and_not_the_run(monkeypatch):
    def update(self, agents):
        raise AgentError(3, "training left nan")

    monkeypatch.setattr(newcomers.Trainer, "update", update)
    record = p2pfrl.run(loads(GRID))
    assert np.isfinite(curve(record, "learned")[0]).all()
    assert np.isnan(curve(record, "learned")[1:]).all()
    assert "training left nan" in record.summary["newcomers"]["failure"]
    assert record.summary["newcomers"]["learned"]["after"] is None
    assert describe(record.summary)["of newcomers"].endswith("-)")
    assert len(draw(group([record]), Look(("svg",), only=("adaptation",)))) == 1


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (
            {"environment.vary.slip": [0.0, 0.1, 0.2]},
            r"environment.vary.slip: kind 'values' has values for the agents of the run alone",
        ),
        (
            {"environment.vary.slip": {"kind": "linspace", "low": 0.0, "high": 0.1}},
            r"kind 'linspace' has values for the agents of the run alone",
        ),
        ({"evaluation.episodes": 0}, "evaluation.episodes is 0: newcomers would play no episode"),
        ({"learner": {"kind": "td"}}, "learner 'td' has no policy that newcomers could play"),
        ({"groups": [{"agents": [0], "learner": {"steps": 1}}]}, "agents are in groups"),
    ],
)
def test_newcomers_that_cannot_be_are_refused_with_the_reason(options, says):
    with pytest.raises(ScenarioError, match=says):
        loads(GRID.replace("lr = 0.5\n", "").replace("steps = 3\n", ""), options)


def test_worlds_of_newcomers_are_whole():
    text = CARTS.replace('id = "cartpole"', 'id = "spectrum"\nmembers = 2')
    text = text.replace('length = {kind = "uniform", low = 0.3, high = 1.2}', "")
    with pytest.raises(ScenarioError, match="2 agents share a world: expected a multiple of 2"):
        loads(text, {"evaluation.newcomers": 3})
    record = p2pfrl.run(loads(text))
    assert np.isfinite(record.newcomers["learned"]).all()
    assert "baseline_wmmse" in record.newcomers


def test_adaptation_without_newcomers_is_noted():
    found = [*notes(loads(GRID, {"evaluation.newcomers": 0}))]
    assert any("without effect: evaluation.adaptation" in note for note in found)
