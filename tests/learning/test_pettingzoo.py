"""PettingZoo environments: consecutive agents are the members of one."""

import os
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import own_envs
import pytest

import p2pfrl
from p2pfrl.cli import main
from p2pfrl.core.errors import AgentError, ScenarioError
from p2pfrl.learning.environments.zoo import PettingZoo, ZooSimulator

TEXT = """name = "pairs"
agents = 4
stop = {rounds = 3}
environment = {id = "pettingzoo:own_envs:Pair", instances = 2}
learner = {kind = "ppo", steps = 12, num_minibatches = 2, hidden = [4]}
topology = {kind = "complete"}
evaluation = {episodes = 2}
"""


def scenario(**options: object) -> p2pfrl.Scenario:
    return p2pfrl.loads(TEXT, {key.replace("__", "."): value for key, value in options.items()})


def simulator(instances: int = 2, **kwargs: object) -> ZooSimulator:
    problem = PettingZoo(id="pettingzoo:own_envs:Pair", kwargs=kwargs)
    found = problem.simulator({}, instances, 1)
    assert isinstance(found, ZooSimulator)
    return found


def go(agents: list[int], steps: int, **kwargs: object) -> list:
    found = simulator(**kwargs)
    state = found.init(agents)
    found.begin(agents, [0] * len(agents))
    found.observe(agents, state)
    actions = [np.random.default_rng([a, 5]).integers(3, size=(steps, 2)) for a in agents]
    return [found.step(state, np.stack([own[t] for own in actions])) for t in range(steps)]


def test_members_of_a_world_see_one_state_and_end_together() -> None:
    steps = go([0, 1, 2, 3], 12)
    for t, step in enumerate(steps):
        seen = step.next_obs
        assert np.array_equal(seen[0, :, 0], seen[1, :, 0])
        assert (seen[0, :, 1] == 1.0).all()
        assert (seen[1, :, 1] == -1.0).all()
        assert step.finished.all() == (t == 9)
    assert steps[9].truncated[0].all()
    assert steps[9].terminated[1].all()
    assert not np.array_equal(steps[9].obs, steps[9].next_obs)
    assert steps[9].lengths.tolist() == [[10, 10]] * 4
    np.testing.assert_allclose(steps[9].returns, sum(step.reward for step in steps[:10]))


def test_a_member_that_ends_early_sees_zeros_and_gets_nothing_until_the_others_end() -> None:
    steps = go([0, 1], 10, short=4)
    assert steps[3].reward[1].all()
    assert (steps[3].next_obs[1, :, 1] == -1.0).all()
    for step in steps[4:]:
        assert not step.next_obs[1].any()
        assert not step.reward[1].any()
        assert step.next_obs[0].any(axis=-1).all()
    assert not any(step.finished.any() for step in steps[:9])
    assert steps[9].finished.all()
    np.testing.assert_allclose(steps[9].returns[1], sum(step.reward[1] for step in steps[:4]))


def test_unlike_members_have_zeros_behind_short_observations_and_a_mask_of_their_actions() -> None:
    problem = PettingZoo(id="pettingzoo:own_envs:Unlike")
    assert (problem.spec.observation, problem.spec.actions) == (3 + 3, 3)
    assert problem.spec.is_masked
    assert problem.remarks == (
        "observations have 3 numbers for all members (2 of 'a', 3 of 'b'): zeros follow",
        "actions have 3 numbers for all members (3 of 'a', 2 of 'b'): a mask leaves out the others",
    )
    found = replace(problem, kwargs={"short": 4}).simulator({}, 1, 1)
    state = found.init([0, 1])
    found.begin([0, 1], [0, 0])
    first = found.observe([0, 1], state)[:, 0]
    assert first[:, 1:].tolist() == [[1.0, 0.0, 1.0, 1.0, 1.0], [-1.0, 0.0, 1.0, 1.0, 0.0]]
    steps = [found.step(state, np.array([[2], [1]])) for _ in range(5)]
    assert steps[1].obs[1, 0, 2:].tolist() == [np.float32(0.2), 1.0, 1.0, 0.0]
    assert steps[4].obs[1, 0].tolist() == [0.0, 0.0, 0.0, 1.0, 1.0, 0.0]


@pytest.mark.parametrize(
    "learner",
    [{}, {"learner": {"kind": "dqn", "steps": 6, "train_every": 2, "learn_start": 4}}],
    ids=["ppo", "dqn"],
)
def test_unlike_members_do_what_they_can(learner: dict) -> None:
    table = TEXT.replace("own_envs:Pair", "own_envs:Unlike")
    if learner:
        table = "\n".join(line for line in table.splitlines() if not line.startswith("learner"))
    record = p2pfrl.run(p2pfrl.loads(table, learner))
    assert np.isfinite(record.parameters).all()
    if not learner:
        assert any("zeros follow" in note for note in record.summary["notes"])


def test_members_with_more_and_fewer_numbers_in_an_action_use_their_own() -> None:
    problem = PettingZoo(id="pettingzoo:own_envs:Steered")
    assert problem.spec.action_low == (-1.0, -1.0)
    assert not problem.spec.is_masked
    (*_, remark) = problem.remarks
    assert (
        remark
        == "actions have 2 numbers for all members (1 of 'a', 2 of 'b'): nobody uses the others"
    )
    found = problem.simulator({}, 1, 1)
    assert isinstance(found, ZooSimulator)
    found.init([0, 1])
    roles = problem.roles(own_envs.Steered())
    taken = [roles.take(member, np.array([0.5, -1.0], np.float32)).tolist() for member in (0, 1)]
    assert taken == [[0.5], [3.0, 0.0]]
    table = TEXT.replace("own_envs:Pair", "own_envs:Steered")
    assert np.isfinite(p2pfrl.run(p2pfrl.loads(table)).parameters).all()


def test_a_world_does_not_depend_on_who_shares_the_batch() -> None:
    for ours, theirs in zip(go([2, 3], 12), go([0, 1, 2, 3], 12), strict=True):
        for name in ("obs", "next_obs", "reward", "returns", "finished"):
            assert np.array_equal(getattr(ours, name), getattr(theirs, name)[2:])


def test_worlds_at_another_tick_start_anew() -> None:
    found = simulator()
    state = found.init([0, 1])
    found.begin([0, 1], [0, 0])
    kept = {name: values.copy() for name, values in state.items()}
    found.step(state, np.zeros((2, 2), dtype=np.int64))
    again = found.step(kept, np.zeros((2, 2), dtype=np.int64))
    assert again.lengths.tolist() == [[1, 1]] * 2
    alone = found.init([1])  # of a part of a world: it goes on
    assert not alone["tick"].any()
    assert found.step(kept, np.zeros((2, 2), dtype=np.int64)).lengths.tolist() == [[2, 2]] * 2
    found.close()


def test_a_run_is_verified_and_does_not_depend_on_speeds(tmp_path: Path) -> None:
    record = p2pfrl.run(scenario(), out=tmp_path / "run")
    assert p2pfrl.verify(tmp_path / "run").is_equal
    uneven = {"compute.speed": [0.5, 2.0, 1.0, 0.7], "network.latency": "30ms"}
    assert np.array_equal(p2pfrl.run(scenario(**uneven)).parameters, record.parameters)
    assert record.summary["env_steps"] == 4 * 3 * 24
    assert np.isfinite(record.agents["clock"]).all()
    assert p2pfrl.run(scenario(environment__max_steps=3)).agents["episodes"][-1] == 3 * 8


@pytest.mark.parametrize(
    ("wrong", "expected"),
    [
        (
            "raises",
            r"agent 0, .*step 2, instance 0 of world 0 of .*raised ConnectionError: no more",
        ),
        ("nan", r"agent 1, .*step 3, instance 0 of world 0 of .*returned reward nan of 'b'"),
    ],
)
def test_errors_name_the_member_the_step_and_the_line(wrong: str, expected: str) -> None:
    with pytest.raises(AgentError) as caught:
        p2pfrl.run(scenario(environment__kwargs={"wrong": wrong}))
    assert re.search(expected, str(caught.value)), str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("wrong", ["raises", "stuck", "nan"])
def test_with_on_error_reset_the_episode_of_all_members_ends_and_each_counts(wrong: str) -> None:
    options = {"environment__on_error": "reset", "environment__kwargs": {"wrong": wrong}}
    with pytest.warns(p2pfrl.ScenarioWarning) as caught:
        record = p2pfrl.run(scenario(evaluation__episodes=0, **options))
    assert len(caught) == 2, "once for each world"
    assert re.match(
        r"agent [01], update 0, step \d, .*; a new episode starts", str(caught[0].message)
    )
    # 36 steps of two instances; the error ends an episode in step 3, or in step 4.
    errors = 2.0 * (36 // (4 if wrong == "nan" else 3))
    assert record.agents["environment_errors"][-4:].tolist() == [errors] * 4
    assert np.isfinite(record.agents["return"][-4:]).all()


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"agents": 3}, "2 agents share a world: expected a multiple of 2, got 3"),
        (
            {"environment.id": "pettingzoo:own_envs:Mixed"},
            r"actions of member 1 are Box.*, and those of member 0 Discrete\(3\): expected discrete "
            r"ones of all members, or bounded boxes of all; wrap the environment",
        ),
        ({"environment.kwargs": {"shorter": 3}}, r"environment\.kwargs: .*argument 'shorter'"),
        ({"environment.id": "pettingzoo:own_envs:Nope"}, "own_envs has no Nope; expected an env"),
        ({"environment.id": "pettingzoo:own_envs:Point"}, "got <.*expected an environment of Pet"),
        ({"environment.id": "own_envs:Pair"}, "one of PettingZoo is named 'pettingzoo:own_envs:Pa"),
        ({"environment.id": "mpe2.no_v3"}, "one of PettingZoo is named 'pettingzoo:mpe2.no_v3'"),
        ({"environment.id": "pettingzoo:no_such"}, "No module named 'no_such'"),
        ({"environment.kwargs_vary": {"short": 3}}, "kwargs_vary: unknown key"),
    ],
)
def test_what_does_not_work_is_refused_in_words(options: dict, expected: str) -> None:
    with pytest.raises(ScenarioError) as caught:
        p2pfrl.loads(TEXT, options)
    assert re.search(expected, str(caught.value)), str(caught.value)
    assert "\n" not in str(caught.value)


def test_simple_spread_runs_with_agents_of_one_environment() -> None:
    pytest.importorskip("mpe2")
    kwargs = {"N": 3, "max_cycles": 5}
    made = scenario(
        agents=3, environment__id="pettingzoo:mpe2.simple_spread_v3", environment__kwargs=kwargs
    )
    record, again = p2pfrl.run(made), p2pfrl.run(made)
    assert made.environment.rule.spec.members == 3
    assert record.summary["digest"] == again.summary["digest"]
    for name, members, padded in (("simple_tag_v3", 4, 16), ("simple_speaker_listener_v4", 2, 16)):
        problem = PettingZoo(id=f"pettingzoo:mpe2.{name}")
        assert (problem.spec.members, problem.spec.observation) == (members, padded)
        assert problem.spec.is_masked == (members == 2)


def test_a_class_is_given_from_python_and_checked(tmp_path: Path) -> None:
    class Mine(own_envs.Pair):
        pass

    record = p2pfrl.run(scenario(), environment=own_envs.Pair)
    assert record.summary["digest"] == p2pfrl.run(scenario()).summary["digest"]
    options = {"stop__rounds": 1, "evaluation__episodes": 0}
    p2pfrl.run(scenario(**options), environment=Mine, out=tmp_path / "run")
    assert p2pfrl.verify(tmp_path / "run", environment=Mine).is_equal
    p2pfrl.check_environment(Mine, steps=5)


def test_the_other_api_is_converted() -> None:
    pytest.importorskip("mpe2")
    problem = PettingZoo(id="pettingzoo:mpe2.simple_spread_v3:env", kwargs={"N": 2})
    assert problem.spec.members == 2
    assert problem.spec.actions == 5


@pytest.mark.slow
def test_simulator_and_processes_agree_on_worlds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folders = (str(Path(own_envs.__file__).parent), os.environ.get("PYTHONPATH", ""))
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, folders)))
    file, out = tmp_path / "pairs.toml", tmp_path / "out"
    file.write_text(TEXT)
    words = ["scenario", str(file), "--transport", "tcp", "-j", "2", "--quiet", "--out", str(out)]
    assert main(words) == 0
    assert np.array_equal(p2pfrl.load_record(out).parameters, p2pfrl.run(file).parameters)
