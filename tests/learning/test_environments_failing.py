"""Environments of users that raise or return what does not fit: one line, and all are closed."""

import json
import re
from pathlib import Path

import failing
import numpy as np
import pytest

import p2pfrl
from p2pfrl.cli import main
from p2pfrl.commands.summaries import describe
from p2pfrl.core.errors import AgentError, P2PFRLError, ScenarioError
from p2pfrl.experiment.jobs import Job, is_complete
from p2pfrl.learning.environments.gym import Gym
from p2pfrl.results.record import load_summary

TEXT = """name = "failing"
agents = 2
stop = {rounds = 3}
environment = {id = "failing:Plain-v0", instances = 1}
learner = {kind = "ppo", steps = 8, num_minibatches = 1}
evaluation = {episodes = 0}
"""


def scenario(name: str, **options: object) -> p2pfrl.Scenario:
    overrides = {"environment.id": f"failing:{name}-v0", **options}
    return p2pfrl.loads(TEXT, {key.replace("__", "."): value for key, value in overrides.items()})


def error_of(name: str, **options: object) -> str:
    with pytest.raises(P2PFRLError) as caught:
        p2pfrl.run(scenario(name, **options))
    message = str(caught.value)
    assert "\n" not in message
    return message


@pytest.mark.parametrize(
    "error", ["RuntimeError", "exit", "memory", "generator", "cancelled", "group", "own"]
)
def test_an_error_of_an_environment_names_agent_round_step_instance_action_and_line(
    error: str,
) -> None:
    message = error_of("Raising", environment__kwargs={"updates": 1, "error": error})
    place = (
        r"agent 0, round 2, update 1, step 2, instance 0 of environment 'failing:Raising-v0': "
        r"step\([01]\) raised \w+: the socket is closed( \(1 sub-exception\))? \(\S*failing\.py:\d+\)"
    )
    assert re.fullmatch(place, message), message


def test_an_interrupt_in_an_environment_ends_the_run_with_what_it_has(tmp_path) -> None:
    given = scenario("Raising", environment__kwargs={"updates": 1, "error": "interrupt"})
    record = p2pfrl.run(given, out=tmp_path / "run")
    assert record.summary["stopped_by"] == "interrupt"
    assert record.summary["rounds"] == 1


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("OldReset", "reset.* one value, array.*expected observation and info.*since 0.26"),
        ("OldStep", "returned 4 values; expected observation, reward, terminated, truncated, info"),
        ("WrongShape", r"an observation of shape \(3,\); expected one of Box\(.*\(2,\)"),
        ("NoReward", "returned reward None.*expected a number"),
        ("TextReward", "returned reward '1.0'.*expected a number and two truth values"),
        ("TextEnd", "terminated 'False'.*expected a number and two truth values"),
        ("NoEnd", "terminated None.*expected a number and two truth values"),
        (
            "HugeReward",
            r"returned reward 1000.*\.\.\., term.*expected a number and two truth values",
        ),
        (
            "Unreadable",
            r"raised UnreadableError: its text cannot be read: ValueError \(.*failing.py:",
        ),
    ],
)
def test_results_that_do_not_fit_are_named(name: str, expected: str) -> None:
    assert re.search(expected, error_of(name))


def test_episodes_without_end_are_counted_and_why_there_is_no_final_return_is_said(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("p2pfrl.learning.rollout.LONGEST", 20)
    options = {"stop.rounds": 1, "evaluation.episodes": 1, "learner.hidden": [4]}
    summary = p2pfrl.run(scenario("Endless", **options)).summary
    assert summary["evaluation"]["own"] == 20
    assert summary["evaluation"]["episodes_without_end"] == 4  # of two agents and of their mean
    lines = describe(summary)
    assert lines["final return"] == "none: no episode of training has ended"
    assert lines["episodes without end"] == (
        "4, which count as they stand; set environment.max_steps"
    )
    stacked = p2pfrl.run(scenario("Endless", **options, **{"learner.frame_stack": 2})).summary
    assert stacked["evaluation"]["episodes_without_end"] == 4
    ends = p2pfrl.run(scenario("Plain", **options)).summary
    assert "episodes_without_end" not in ends["evaluation"]
    assert describe(ends)["final return"].startswith("5.0")


def test_an_observation_of_too_many_numbers_is_refused_for_dense_layers() -> None:
    expected = (
        r"an observation is 100,000 numbers, so that .* messages of 1\.6 MB; wrap .* such as the "
        "coordinates .*, or set learner.policy to a network with an embedding"
    )
    assert re.search(expected, error_of("Words", **{"learner.hidden": [4]}))


@pytest.mark.parametrize("mode", ["gossip", "central", "independent"])
@pytest.mark.parametrize(
    ("what", "value", "expected"),
    [
        ("reward", "nan", "returned reward nan"),
        ("reward", "-inf", "returned reward -inf"),
        ("observation", "nan", "an observation whose number 1 is nan"),
        ("observation", "1e300", "an observation whose number 1 is inf"),
    ],
)
def test_numbers_that_are_not_finite_end_the_run_in_every_mode(
    mode: str, what: str, value: str, expected: str
) -> None:
    kwargs = {"what": what, "value": value}
    message = error_of("NotANumber", mode=mode, environment__kwargs=kwargs)
    assert message.startswith("agent 0, round 1, update 0, step 2, instance 0")
    assert expected in message


@pytest.mark.slow
def test_the_record_until_an_error_is_kept_and_does_not_count_as_complete(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "failing.toml"
    file.write_text(TEXT)
    out = tmp_path / "out"
    overrides = (("environment.id", "failing:Raising-v0"), ("environment.kwargs.updates", 2))
    words = [f"--set={key}={value}" for key, value in overrides]
    assert main(["scenario", str(file), *words, "--out", str(out), "--quiet", "--json"]) == 1
    shown = capsys.readouterr()
    assert "agent 0, round 3, update 2, step 2" in shown.err
    assert f"{out} holds the record of the 2 rounds before" in shown.err
    assert "agent 0, round 3" in json.loads(shown.out)["error"]["message"]
    summary = load_summary(out)
    assert summary["stopped_by"] == "failure"
    assert summary["failure"].startswith("agent 0, round 3, update 2, step 2")
    assert summary["rounds"] == 2
    assert not is_complete(Job(str(file), overrides, out))
    assert main(["report", str(out)]) == 0
    assert main(["verify", str(out)]) == 1
    assert "the run failed: agent 0, round 3" in capsys.readouterr().err


def test_an_error_from_python_carries_the_record() -> None:
    with pytest.raises(AgentError) as caught:
        p2pfrl.run(scenario("Raising", environment__kwargs={"updates": 2}))
    record = caught.value.record
    assert isinstance(record, p2pfrl.Record)
    assert record.metrics["round"].tolist() == [1, 2]
    assert record.summary["stopped_by"] == "failure"


def test_a_constructor_that_raises_and_spaces_that_do_not_fit_are_refused_with_their_place(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "failing.toml"
    file.write_text(TEXT)
    for key, value, expected in (
        ("environment.kwargs.level", "9", "ValueError: levels are 1 to 3, got 9 "),
        ("environment.kwargs.levl", "9", "unexpected keyword argument 'levl'"),
    ):
        arguments = ["--set=environment.id=failing:Leveled-v0", f"--set={key}={value}"]
        assert main(["validate", str(file), *arguments]) == 2
        shown = capsys.readouterr().err
        assert shown.startswith("--set environment.kwargs: Gymnasium cannot make 'failing:Lev")
        assert expected in shown
    grouped = TEXT.replace("Plain", "Leveled") + (
        "[[groups]]\nagents = [1]\nenvironment = {kwargs = {level = 7}}\n"
    )
    with pytest.raises(
        ScenarioError, match=r"<text>:9:16: groups\.0\.environment\.kwargs: .*got 7"
    ):
        p2pfrl.loads(grouped)
    with pytest.raises(ScenarioError, match=r"environment\.id: .*Sequence.*cannot be flattened"):
        scenario("Sequences")
    with pytest.raises(ScenarioError, match=r"environment\.id: .* are None: no space of Gymnasium"):
        scenario("NoSpace")
    with pytest.raises(ScenarioError, match=r"unknown key; .* set in environment\.kwargs"):
        scenario("Leveled", environment__lvl=2)
    both = (
        r"did you mean 'environment\.kwargs\.low', for the constructor, or 'environment\.vary\.low'"
    )
    with pytest.raises(ScenarioError, match=both):
        scenario("Valve", environment__low=2)


@pytest.mark.parametrize("command", ["validate", "scenario"])
def test_what_an_environment_prints_is_not_among_the_json(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], command: str
) -> None:
    file = tmp_path / "talking.toml"
    file.write_text(TEXT.replace("Plain", "Talking"))
    more = [] if command == "validate" else ["--out", str(tmp_path / "run"), "--no-report"]
    assert main([command, str(file), "--quiet", "--json", *more]) == 0
    shown = capsys.readouterr()
    assert json.loads(shown.out)["name"] == "failing"
    assert {"made", "stepped"} <= set(shown.err.splitlines())


def test_constructors_take_lists() -> None:
    run = p2pfrl.run(scenario("Leveled", environment__kwargs={"gates": [1, 2]}))
    assert run.summary["stopped_by"] == "rounds"
    again = p2pfrl.loads(run.scenario)
    assert again.environment.rule.kwargs == {"gates": [1, 2]}


def test_names_of_info_get_a_name_of_their_own_beside_columns_of_ours() -> None:
    agents = p2pfrl.run(scenario("Names")).agents
    assert agents["return"][-1] == 5.0
    assert agents["loss"][-1] != 8.0
    assert agents["measure.return"][-1] == 7.0
    assert agents["measure.loss"][-1] == 8.0
    assert agents["measure.physics_g"][-1] == 3.0
    assert agents["speed"][-1] == 2.0
    assert agents["error"][-1] == 0.5
    assert 5 not in agents
    assert np.isnan(agents["huge"]).all()


@pytest.mark.parametrize("personal", ["none", "ditto"])
def test_all_environments_are_closed(personal: str) -> None:
    for episodes, name, kwargs in ((0, "Plain", {}), (2, "Plain", {}), (2, "Raising", {})):
        failing.Plain.opened = failing.Plain.closed = 0
        options = {"evaluation.episodes": episodes, "personal.kind": personal}
        made = scenario(name, environment__kwargs=kwargs, **options)
        try:
            p2pfrl.run(made)
            assert name == "Plain"
        except AgentError:
            assert name == "Raising"
        assert failing.Plain.opened == failing.Plain.closed > 0


def test_checking_and_binding_a_scenario_opens_one_environment_and_takes_no_step() -> None:
    options = {"environment__kwargs": {"level": 2}}
    failing.Plain.opened = failing.Plain.closed = failing.Plain.steps = 0
    for _ in range(3):
        scenario("Leveled", **options)
    assert (failing.Plain.opened, failing.Plain.closed, failing.Plain.steps) == (1, 1, 0)


def test_an_environment_that_cannot_be_closed_is_reported_and_the_run_is_whole() -> None:
    with pytest.warns(
        p2pfrl.ScenarioWarning, match=r"close\(\) raised OSError: it is gone already"
    ):
        record = p2pfrl.run(scenario("Unclosable"))
    assert record.summary["rounds"] == 3


@pytest.mark.parametrize(("low", "high"), [(0.0, 1.0), (0.0, 1000.0), (0.0, 0.01), (-5e307, 5e307)])
def test_policies_act_from_bound_to_bound(low: float, high: float) -> None:
    made = scenario("Valve", environment__kwargs={"low": low, "high": high})
    returns = p2pfrl.run(made).agents["return"]
    unit = p2pfrl.run(scenario("Valve")).agents["return"]
    assert returns == pytest.approx(unit, abs=1e-5)
    assert np.ptp(unit) > 0


def test_bytes_of_observations_are_between_0_and_1() -> None:
    simulator = Gym(id="failing:Pixels-v0").simulator({"clock": np.zeros(1)}, 1, 0)
    assert simulator.spec.observation == 48
    assert simulator.observe([0], simulator.init([0])) == pytest.approx(np.full((1, 1, 48), 0.2))
    simulator.close()
