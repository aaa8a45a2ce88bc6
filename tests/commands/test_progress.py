"""What is printed of a run."""

import numpy as np
import pytest

from p2pfrl import run
from p2pfrl.commands.progress import Lines
from p2pfrl.commands.summaries import describe
from p2pfrl.core.options import construct
from p2pfrl.results.groups import group
from p2pfrl.results.plots.modes import problem
from p2pfrl.scenario import Scenario, loads
from p2pfrl.scenario.checks.notes import notes

QUADRATIC = {"learner": {"kind": "quadratic", "dimension": 3}}
CROSSING = {"learner": {"kind": "softmax_pg", "gamma": 0.9}, "environment": {"id": "crossing"}}


def played(options):
    plain = {
        "name": "x",
        "agents": 2,
        "mode": "central",
        "stop": {"rounds": 60},
        "evaluation": {"episodes": 0},
    }
    return run(construct(Scenario, plain | options))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (QUADRATIC, "distance to the optimum (RMS)"),
        (QUADRATIC | {"personal": {"kind": "ditto"}}, "distance to the optimum (RMS)"),
        (CROSSING, "value lost against one's own best"),
    ],
    ids=["quadratic", "ditto", "crossing"],
)
def test_where_the_optimum_is_known_summary_and_figure_say_how_far_and_from_what(options, words):
    record = played(options)
    line = describe(record.summary)["error"]
    assert line == f"{record.metrics['error'][-1]:.3g}, {words}"
    drawing = problem(group([record]))
    assert drawing.figure.axes[0].get_ylabel() == words
    assert words in drawing.caption


def test_agents_at_the_best_common_policy_still_lose_what_no_common_policy_gives():
    error = played(CROSSING | {"learner": {"kind": "softmax_pg", "gamma": 0.9, "lr": 1.0}}).metrics[
        "error"
    ][-1]
    np.testing.assert_allclose(error, 1.0 - 1.0 / 1.1, atol=1e-6)


def test_where_no_optimum_is_known_nothing_is_said_of_it():
    options = {
        "learner": {"kind": "a2c", "steps": 4, "hidden": [4]},
        "environment": {"id": "CartPole-v1"},
    }
    assert "error" not in describe(played(options | {"stop": {"rounds": 1}}).summary)


SLOW = """name = "slow"
agents = 2
mode = "independent"
stop = {rounds = 1}
environment = {id = "failing:NAME-v0", instances = 1}
learner = {kind = "ppo", steps = 4, num_minibatches = 1, hidden = [2]}
evaluation = {episodes = 1}
"""


def test_training_and_evaluation_in_slow_environments_show_agent_and_step(capsys):
    watcher = Lines(interval=0.0)
    run(loads(SLOW.replace("NAME", "Plain")), progress=watcher, working=watcher.working)
    shown = capsys.readouterr().err.splitlines()
    assert "agent 0, update 0, step 0" in shown
    assert "agent 1, update 0, step 3" in shown
    assert "agent 1, evaluation 1, step 4" in shown
    patient = Lines(interval=3600.0)
    run(loads(SLOW.replace("NAME", "Plain")), progress=patient, working=patient.working)
    assert len(capsys.readouterr().err.splitlines()) == 1


def test_observations_as_large_as_images_have_a_note_with_their_size():
    small = {"environment.resize": [84, 84], "environment.gray": True}
    (note,) = notes(loads(SLOW.replace("NAME", "Screen"), small))
    assert note.startswith("an observation of failing:Screen-v0 has 7,056 numbers")
    assert not [*notes(loads(SLOW.replace("NAME", "Plain")))]
