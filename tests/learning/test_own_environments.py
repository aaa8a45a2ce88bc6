"""Environments of users: classes and functions by their place, or given from Python."""

import functools
import os
import re
from pathlib import Path
from typing import Any

import numpy as np
import own_envs
import pytest
from gymnasium.spaces import Box, Dict, Text

import p2pfrl
from p2pfrl.cli import main
from p2pfrl.core.errors import AgentError, ScenarioError
from p2pfrl.learning.environments.cartpole import CartPole
from p2pfrl.learning.environments.gym import Gym, GymSimulator
from p2pfrl.learning.environments.makers import hint
from p2pfrl.learning.environments.spaces import Observations, Unsupported, resized
from p2pfrl.learning.learners.check import check_learner
from p2pfrl.learning.learners.dqn import DQN
from p2pfrl.learning.learners.ppo import PPO
from p2pfrl.scenario.checks.notes import notes

TEXT = """name = "own"
agents = 2
stop = {rounds = 2}
environment = {id = "own_envs:Point", instances = 2}
learner = {kind = "ppo", steps = 12, num_minibatches = 2, hidden = [4]}
evaluation = {episodes = 0}
"""


def scenario(name: str = "Point", text: str = TEXT, **options: object) -> p2pfrl.Scenario:
    overrides = {"environment.id": f"own_envs:{name}", **options}
    return p2pfrl.loads(text, {key.replace("__", "."): value for key, value in overrides.items()})


def refused(name: str, **options: object) -> str:
    """Return why a scenario or its run is refused, in one line."""
    with pytest.raises(p2pfrl.P2PFRLError) as caught:
        p2pfrl.run(scenario(name, **options))
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_class_of_a_module_is_an_environment_and_verify_imports_it(tmp_path: Path) -> None:
    record = p2pfrl.run(scenario(), out=tmp_path / "run")
    assert record.agents["size"].tolist() == [5.0] * 4
    assert 'id = "own_envs:Point"' in record.scenario
    assert p2pfrl.verify(tmp_path / "run").is_equal
    assert set(record.summary["sources"]) == {"module own_envs"}
    assert p2pfrl.run(scenario(environment__max_steps=3)).agents["episodes"][-1] == 8 * 2


def test_arguments_of_constructors_differ_between_agents() -> None:
    options = {
        "environment.kwargs_vary.size": {"kind": "choice", "choices": [3, 4]},
        "environment.kwargs_vary.gain": [1.0, 2.0],
        "agents": 2,
    }
    found = p2pfrl.run(scenario(**options)).agents
    assert set(found["size"]) <= {3.0, 4.0}
    assert found["is_float"].all()
    listed = scenario(environment__kwargs_vary={"size": [3, 8]})
    assert p2pfrl.run(listed).agents["size"].tolist() == [3.0, 8.0] * 2
    record = p2pfrl.run(listed)
    assert p2pfrl.run(p2pfrl.loads(record.scenario)).summary["digest"] == record.summary["digest"]
    assert record.problem["kwargs.size"].tolist() == [3.0, 8.0]


def test_arguments_that_a_constructor_does_not_have_are_refused() -> None:
    text = refused("Point", environment__kwargs_vary={"siz": [3, 4]})
    assert re.search(
        r"kwargs_vary\.siz: the constructor takes size, gain; did you mean 'size'", text
    )
    assert "one value per agent (2), got a list of 3" in refused(
        "Point", environment__kwargs_vary={"size": [3, 4, 5]}
    )
    text = refused(
        "Picture",
        environment__kwargs_vary={"height": [6, 7]},
        environment__kwargs={"width": 8, "height": 6},
    )
    assert re.search(
        r"agent 1.*its observation is 168, and that of the first agent 144.*\[\[groups", text
    )
    with pytest.raises(ScenarioError, match="kwargs_vary: unknown key"):
        p2pfrl.loads(
            TEXT.replace("own_envs:Point", "cartpole"), {"environment.kwargs_vary": {"x": 1}}
        )


def test_a_function_makes_the_environment_of_each_agent(tmp_path: Path) -> None:
    record = p2pfrl.run(scenario("made"), out=tmp_path / "run")
    assert record.agents["size"].tolist() == [0.0, 1.0] * 2
    assert p2pfrl.verify(tmp_path / "run").is_equal
    own = p2pfrl.run(scenario("made", environment__kwargs={"size": 10}))
    assert own.agents["size"].tolist() == [10.0, 11.0] * 2


@pytest.mark.parametrize(
    ("given", "sizes"),
    [
        (own_envs.Point, [5.0, 5.0]),
        (own_envs.made, [0.0, 1.0]),
        (functools.partial(own_envs.Point, size=9), [9.0, 9.0]),
        (lambda agent: own_envs.Point(size=3 + agent), [3.0, 4.0]),
        (lambda number: own_envs.Point(size=6 + number), [6.0, 7.0]),
        ("own_envs:Point", [5.0, 5.0]),
        ({"id": "own_envs:Point", "kwargs": {"size": 8}}, [8.0, 8.0]),
    ],
)
def test_environments_are_given_from_python(given: object, sizes: list[float]) -> None:
    record = p2pfrl.run(scenario("Texts"), environment=given)
    assert record.agents["size"].tolist() == sizes * 2


def test_arrays_are_given_from_python_with_physics_that_vary() -> None:
    for given in (CartPole(max_steps=6), "CartPole-v1"):
        record = p2pfrl.run(scenario(), environment=given, vary={"gravity": [9.0, 10.0]})
        assert record.problem["gravity"].tolist() == [9.0, 10.0]
    record = p2pfrl.run(scenario(), vary={"gain": 2.0})
    assert record.problem["gain"].tolist() == [2.0, 2.0]
    assert record.agents["size"].tolist() == [5.0] * 4


def test_what_cannot_be_imported_is_given_again(tmp_path: Path) -> None:
    given = lambda agent: own_envs.Point(size=3 + agent)  # noqa: E731
    p2pfrl.run(scenario(), environment=given, out=tmp_path / "run")
    with pytest.raises(ScenarioError, match=r"<lambda>' is a lambda, from where it cannot be"):
        p2pfrl.verify(tmp_path / "run")
    assert p2pfrl.verify(tmp_path / "run", environment=given).is_equal
    other = lambda agent: own_envs.Point(size=5, gain=3.0)  # noqa: E731
    assert not p2pfrl.verify(tmp_path / "run", environment=other).is_equal


def test_an_interrupted_run_goes_on_with_what_is_given_again(tmp_path: Path) -> None:
    given = lambda: own_envs.Point(size=7)  # noqa: E731

    def stop(row: object) -> None:
        raise KeyboardInterrupt

    out = tmp_path / "run"
    p2pfrl.run(scenario(), environment=given, out=out, progress=stop)
    with pytest.raises(ScenarioError, match="is a lambda"):
        p2pfrl.resume(out)
    assert p2pfrl.resume(out, environment=given).summary["rounds"] == 2


@pytest.mark.parametrize(
    ("given", "complaint"),
    [
        (own_envs.Point(), "one environment, and every agent needs copies.*give its class"),
        (3, "expected an environment of arrays, a class or function.*got 3"),
        (own_envs.nothing, "made None; expected an environment of Gymnasium"),
        (own_envs.arrays, "made an environment of arrays; name its class"),
        ({"id": "CartPole-v1", "max_step": 3}, r"environment\.max_step: unknown key.*max_steps"),
        (lambda: 1 / 0, r"raised|ZeroDivisionError: division by zero \(\S*test_own_env"),
    ],
)
def test_what_is_no_environment_is_refused_in_words(given: object, complaint: str) -> None:
    with pytest.raises(ScenarioError, match=complaint) as caught:
        p2pfrl.run(scenario(), environment=given)
    assert "\n" not in str(caught.value)


def test_ids_that_are_nothing_are_refused_in_one_sentence() -> None:
    assert re.search("own_envs has no class Nope; it has Allowing, .*registers no", refused("Nope"))
    assert "own_envs:NUMBER' is 3; expected a class or function" in refused("NUMBER")
    assert "cannot be imported" in refused("Point", environment__id="no_such_module:Point")
    assert hint("ALE/Breakout-v5") == "; write ale_py:ALE/Breakout-v5"
    assert hint("MiniGrid-Empty-5x5-v0") == "; write minigrid:MiniGrid-Empty-5x5-v0"
    assert hint("CartPole-v7") == ""
    with pytest.raises(
        ScenarioError, match=r"Namespace ALE not found.*; write ale_py:ALE/Breakout"
    ):
        scenario(environment__id="ALE/Breakout-v5")


@pytest.mark.parametrize("name", ["Together", "Told"])
def test_a_vector_environment_is_stepped_as_one_and_gives_the_same_episodes(name: str) -> None:
    record = p2pfrl.run(scenario(name, evaluation__episodes=3))
    plain = p2pfrl.run(scenario("Point", evaluation__episodes=3))
    for column in ("episodes", "size"):
        assert np.array_equal(record.agents[column], plain.agents[column])
    assert (
        p2pfrl.run(scenario(name, evaluation__episodes=3)).summary["digest"]
        == record.summary["digest"]
    )
    simulator = simulator_of(Gym(id=f"own_envs:{name}"), 2)
    state = simulator.init([0])
    simulator.begin([0], [0])
    before = simulator.observe([0], state)
    for t in range(12):
        step = simulator.step(state, np.full((1, 2), 2))
        assert step.truncated.all() == (t == 9)
        if t == 9:  # the true successor is where the point was pushed to
            np.testing.assert_allclose(step.next_obs, before + np.float32(0.1), rtol=1e-5)
            assert not np.allclose(step.obs, step.next_obs)
        before = step.next_obs
    simulator.close()


def test_a_list_that_a_constructor_does_not_take_is_answered_with_values_per_agent() -> None:
    told = refused("made", environment__kwargs={"size": [3, 4]})
    assert "TypeError" in told
    assert told.endswith(
        "a list is one value for all agents; environment.kwargs_vary gives each its own"
    )


def test_vector_environments_that_do_not_fit_are_refused() -> None:
    assert "autoreset mode NEXT_STEP" in refused("Late")
    assert "asked for num_envs = 1, it made 2" in refused("Fewer")
    assert "its own time limit: leave this out" in refused("Together", environment__max_steps=3)


@pytest.mark.parametrize("name", ["Several", "Bits", "Free"])
def test_several_discrete_actions_and_boxes_without_bounds_are_acted_in(name: str) -> None:
    record = p2pfrl.run(scenario(name, evaluation__episodes=1))
    assert np.isfinite(record.parameters).all()


def test_spaces_are_translated() -> None:
    several, bits, free = (Gym(id=f"own_envs:{name}").spec for name in ("Several", "Bits", "Free"))
    assert (several.heads, bits.heads, free.actions) == ((3, 2), (2, 2, 2, 2), 0)
    assert free.action_low == (-np.inf, 0.0, -1.0)
    assert free.action_high == (np.inf, np.inf, 1.0)
    view = Gym(id="own_envs:Free").view(own_envs.Free())
    taken = view.actions.take(np.array([700.0, -3.0, 0.5], np.float32))
    assert taken.tolist() == [700.0, 0.0, 2.0]
    (note,) = notes(scenario("Free"))
    assert note.startswith("own_envs:Free: actions have one bound or none in 2 coordinates: a")
    assert note.endswith("not scaled, and clipped to the bound that is there")


def test_texts_are_left_out_with_a_notice() -> None:
    made = scenario("Texts")
    assert Gym(id="own_envs:Missions").spec.observation == 2
    assert [*notes(made)] == ["own_envs:Texts: texts in observations are left out: ['mission']"]
    assert made.environment.rule.spec.observation == 2
    assert p2pfrl.run(made).agents["size"].tolist() == [5.0] * 4


def simulator_of(problem: Gym, instances: int = 1) -> GymSimulator:
    physics = {name: np.array([value]) for name, value in problem.spec.physics.items()}
    found = problem.simulator(physics, instances, 1)
    assert isinstance(found, GymSimulator)
    return found


def seen_by(problem: Gym) -> np.ndarray:
    simulator = simulator_of(problem)
    obs = simulator.observe([0], simulator.init([0]))[0, 0]
    simulator.close()
    return obs


@pytest.mark.parametrize("first", [False, True])
def test_images_become_gray_and_small(first: bool) -> None:
    kwargs = {"first": first}
    problem = Gym(id="own_envs:Picture", resize=(3, 4), gray=True, kwargs=kwargs)
    assert problem.spec.image == (3, 4, 1)
    np.testing.assert_allclose(seen_by(problem), np.tile([0.299, 0.299, 0, 0], 3), rtol=1e-5)
    colored = Gym(id="own_envs:Picture", resize=(1, 2), kwargs=kwargs)
    np.testing.assert_allclose(seen_by(colored), [1, 0, 0, 0, 0, 0], rtol=1e-5)
    whole = Gym(id="own_envs:Picture", kwargs=kwargs)
    assert whole.spec.image == (60, 80, 3)
    assert seen_by(whole).reshape(60, 80, 3)[5, 39].tolist() == [1.0, 0.0, 0.0]


def test_resizing_keeps_the_mean_and_is_a_mean_of_blocks() -> None:
    image = np.random.default_rng(1).uniform(0, 255, (12, 10, 3)).astype(np.float32)
    small = resized(image, 5, 7)
    np.testing.assert_allclose(small.mean(axis=(0, 1)), image.mean(axis=(0, 1)), rtol=1e-5)
    blocks = image.reshape(6, 2, 5, 2, 3).mean(axis=(1, 3))
    np.testing.assert_allclose(resized(image, 6, 5), blocks, rtol=1e-5)


def test_large_images_are_refused_with_the_size_of_messages() -> None:
    kwargs = {"height": 84, "width": 84}
    text = refused("Picture", environment__kwargs=kwargs, learner__hidden=[64])
    assert re.search(
        r"an image of 84 x 84 x 3 is 21,168 numbers.*messages of 5\.4 MB.*resize = \[84", text
    )
    small = {"environment.resize": [10, 10], "environment.gray": True}
    assert (
        p2pfrl.run(scenario("Picture", environment__kwargs=kwargs, **small)).summary["rounds"] == 2
    )
    assert 'or learner.encoder = "nature_cnn", or wrap' in text
    encoded = scenario("Picture", environment__kwargs=kwargs, learner__encoder="nature_cnn")
    assert not [*notes(encoded)]
    assert "resize needs an image" in refused("Point", environment__resize=[2, 2])


@pytest.mark.parametrize("name", ["Masked", "MaskedInside"])
@pytest.mark.parametrize("learner", ["ppo", "a2c", "reinforce", "dqn"])
def test_a_masked_action_is_never_taken(name: str, learner: str) -> None:
    kinds = {"ppo": {"num_minibatches": 2}, "dqn": {"learn_start": 8, "epsilon_start": 0.5}}
    table = {"kind": learner, "steps": 12, "hidden": [4], **kinds.get(learner, {})}
    text = re.sub("learner = .*", "", TEXT)
    options = {"learner": table, "evaluation.episodes": 2, "environment.action_mask": True}
    made = scenario(name, text, **options)
    assert made.environment.rule.spec.mask == 3
    record = p2pfrl.run(made)  # the environment raises where a forbidden action is taken
    assert record.summary["rounds"] == 2
    obs = np.array([[0.0, 0.0, 1.0, 0.0, 0.0], [0.0, 0.0, 0.0, 0.0, 1.0]])
    assert record.policy(0).act(obs).tolist() == [0, 2]


def test_masks_that_are_not_heeded_are_noted_and_those_that_do_not_fit_refused() -> None:
    with pytest.warns(
        p2pfrl.ScenarioWarning, match=r"info has an 'action_mask': set environment\.action_m"
    ):
        p2pfrl.run(scenario("Allowing", environment__kwargs={"mask": [1, 1, 1]}))
    (note,) = notes(scenario("MaskedInside"))
    assert "observations have an 'action_mask': set environment.action_mask = true" in note
    for mask, expected in (
        ([0, 0, 0], "which allows no action"),
        ([1, 1], "expected 3 numbers"),
        ([1, 2, 0], "expected 3 numbers, 1 where"),
        (None, "info without 'action_mask', and environment.action_mask is true"),
    ):
        kwargs = {} if mask is None else {"mask": mask}
        text = refused("Allowing", environment__kwargs=kwargs, environment__action_mask=True)
        assert expected in text, text
    assert "masks are of discrete actions" in refused("Free", environment__action_mask=True)


@pytest.mark.parametrize(
    ("wrong", "expected"),
    [
        ("shape", r"an observation with \['x'\] of shape \(3,\); expected one of Box"),
        ("text", r"an observation with \['x'\] \['a', 'b'\], no numbers"),
        ("nan", r"an observation with \['x'\] whose number 1 is nan"),
        ("number", r"an observation with \['pair'\]\[0\] 4; expected one of Discrete\(4\)"),
        ("float", r"an observation with \['pair'\]\[0\] of type float64; expected one of Disc"),
        ("length", r"an observation with \['pair'\] \(1,\); expected a tuple of 2"),
        ("missing", r"an observation \{.*expected a dict with 'pair', 'x'"),
    ],
)
def test_parts_of_observations_that_do_not_fit_are_named(wrong: str, expected: str) -> None:
    text = refused("Nested", environment__kwargs={"wrong": wrong})
    assert text.startswith("agent 0, start of episodes, instance 0 of environment")
    assert re.search(expected, text), text


def test_nested_observations_are_those_of_gymnasiums_flatten() -> None:
    import gymnasium

    env = own_envs.Nested()
    seen, _ = env.reset(seed=1)
    view = Gym(id="own_envs:Nested").view(env)
    expected = gymnasium.spaces.flatten(env.observation_space, seen)
    np.testing.assert_array_equal(view.observations.vector(seen), expected.astype(np.float32))


def test_an_observation_far_outside_of_its_box_is_noted_once() -> None:
    with pytest.warns(p2pfrl.ScenarioWarning) as caught:
        record = p2pfrl.run(scenario("Far"))
    (found,) = [str(w.message) for w in caught if "own_envs:Far" in str(w.message)]
    assert "agent 0, update 0, step 0: number 1 of an observation is 57" in found
    assert "its box goes from -2 to 2" in found
    assert record.summary["rounds"] == 2


@pytest.mark.parametrize("stuck", [False, True])
def test_with_on_error_reset_errors_are_counted_and_a_new_episode_starts(stuck: bool) -> None:
    assert "ConnectionError: the simulator is gone (" in refused("Flaky")
    own_envs.Flaky.made = 0
    kwargs = {"stuck": stuck}
    with pytest.warns(p2pfrl.ScenarioWarning) as caught:
        record = p2pfrl.run(
            scenario("Flaky", environment__on_error="reset", environment__kwargs=kwargs)
        )
    assert len(caught) == 2  # once for each agent
    expected = r"agent 0, update 0, step 6, instance 0.*gone.*; a new episode starts"
    assert re.match(expected, str(caught[0].message))
    # 24 steps of each instance. A stuck object is made anew, and the new one begins to count.
    assert record.agents["environment_errors"].tolist() == [2.0, 2.0, 6.0, 6.0]
    assert record.agents["episodes"][-2:].tolist() == [6.0, 6.0]
    assert own_envs.Flaky.made == (1 + 4 + 12 if stuck else 1 + 4)


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("Nested", {}),
        ("Masked", {"action_mask": True}),
        pytest.param("Told", {}, marks=pytest.mark.slow),
        pytest.param("Several", {}, marks=pytest.mark.slow),
        pytest.param("Picture", {"resize": (4, 4), "gray": True}, marks=pytest.mark.slow),
    ],
)
def test_the_learners_contract_holds_for_each_kind(name: str, options: dict[str, Any]) -> None:
    learner = PPO(steps=4, num_minibatches=1, update_epochs=1, hidden=(4,))
    check_learner(learner, Gym(id=f"own_envs:{name}", **options))
    if options.get("action_mask"):
        learner = DQN(steps=4, learn_start=8, batch_size=4, capacity=64, hidden=(4,))
        check_learner(learner, Gym(id=f"own_envs:{name}", **options))


@p2pfrl.rule
class Line(p2pfrl.Environment):
    """A point on a line; `breaks` says how it breaks the contract."""

    breaks: str = ""

    @property
    def spec(self) -> p2pfrl.Spec:
        sizes = {"observation": 1, "state": 1, "actions": 2, "reset_noise": 1, "max_steps": 2}
        return p2pfrl.Spec(**sizes, physics={"push": 0.1})

    def reset(self, physics: Any, noise: Any) -> Any:
        return np.repeat(noise, 2, axis=-1) if self.breaks == "reset" else noise * 1.0

    def observe(self, state: Any, physics: Any) -> Any:
        seen = np.repeat(state, 2, axis=-1) if self.breaks == "width" else state
        return seen if self.breaks == "type" else seen.astype(np.float32)

    def step(self, state: Any, action: Any, physics: Any, noise: Any) -> Any:
        if self.breaks == "writes":
            state += 1.0
        if self.breaks == "raises":
            raise RuntimeError("no power")
        reward, over = -state[..., 0], np.zeros(state.shape[:2], dtype=bool)
        made = (state, reward, over, {})  # the state itself: it was not to be written to
        return {
            "three": made[:3],
            "states": (np.repeat(state, 2, axis=-1), *made[1:]),
            "rewards": (state, reward[..., None], over, {}),
            "floats": (state, reward, over * 1.0, {}),
            "measure": (state, reward, over, {"x": reward[0]}),
        }.get(self.breaks, made)


@pytest.mark.parametrize(
    ("breaks", "expected"),
    [
        ("reset", "reset: expected an array (2, 4, 1) of float64, got an array (2, 4, 2) of"),
        ("width", "observe: expected an array (2, 4, 1) of float32, got an array (2, 4, 2) of"),
        ("type", "observe: expected an array (2, 4, 1) of float32, got an array (2, 4, 1) of flo"),
        ("three", "step: expected (states, rewards, terminated, measures), got (an array"),
        ("states", "step: states: expected an array (2, 4, 1) of float64, got an array (2, 4, 2)"),
        ("rewards", "step: rewards: expected an array (2, 4) of float64, got an array (2, 4, 1)"),
        ("floats", "step: terminated: expected an array (2, 4) of bool, got an array (2, 4) of"),
        ("measure", "step: measure 'x': expected an array (2, 4) of float64, got an array (4,)"),
        ("raises", "step raised RuntimeError: no power ("),
        ("writes", "inputs are not changed: make a new array"),
    ],
)
def test_arrays_that_break_the_contract_end_a_simulator_with_agent_step_and_method(
    breaks: str, expected: str
) -> None:
    environment = Line(breaks=breaks)
    simulator = environment.simulator({}, 4, 1)

    def play() -> None:
        state = simulator.init([3, 5])
        simulator.begin([3, 5], [7, 8])
        simulator.observe([3, 5], state)
        simulator.step(state, np.zeros((2, 4), dtype=np.int64))

    with pytest.raises(AgentError) as caught:
        play()
    when = "start of episodes" if breaks == "reset" else "update 7, step 0"
    assert str(caught.value).startswith(f"agent 3, {when}, Line.")
    assert expected in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_run_with_arrays_that_keep_the_contract_may_return_the_state_that_it_got() -> None:
    record = p2pfrl.run(scenario(), environment=Line())
    assert record.summary["env_steps"] == 2 * 2 * 12 * 2
    for breaks in ("reset", "three", "raises"):
        with pytest.raises(p2pfrl.P2PFRLError, match=r"^agent 0, probe .* Line\.(reset|step)"):
            p2pfrl.run(scenario(), environment=Line(breaks=breaks))


@pytest.mark.slow
def test_simulator_and_processes_agree_on_an_own_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folders = (str(Path(own_envs.__file__).parent), os.environ.get("PYTHONPATH", ""))
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, folders)))
    file, out = tmp_path / "own.toml", tmp_path / "out"
    file.write_text(TEXT.replace("instances = 2", "instances = 2, kwargs_vary = {size = [3, 8]}"))
    words = ["scenario", str(file), "--transport", "tcp", "-j", "2", "--quiet", "--out", str(out)]
    assert main(words) == 0
    record = p2pfrl.load_record(out)
    plain = p2pfrl.run(file)
    assert np.array_equal(record.parameters, plain.parameters)
    assert record.agents["size"].tolist() == plain.agents["size"].tolist() == [3.0, 8.0] * 2


@pytest.mark.slow
def test_over_tcp_an_update_takes_the_time_that_a_plant_takes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folders = (str(Path(own_envs.__file__).parent), os.environ.get("PYTHONPATH", ""))
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, folders)))
    file, out = tmp_path / "slow.toml", tmp_path / "out"
    file.write_text(
        TEXT.replace("Point", "Slow").replace("instances = 2", "instances = 1, is_real = true")
    )
    words = ["scenario", str(file), "--transport", "tcp", "-j", "2", "--quiet", "--out", str(out)]
    assert main(words) == 0
    record = p2pfrl.load_record(out)
    assert record.summary["deadlines_expired"] == 0
    assert record.summary["virtual_seconds"] >= 2 * 12 * 0.02


def test_observations_without_a_number_are_refused_for_what_they_are() -> None:
    empty, text = Box(0.0, 1.0, (0,)), Text(5)
    for space, reason in ((empty, "shape has a 0"), (text, "but texts")):
        with pytest.raises(Unsupported, match=reason):
            Observations(space)
    assert Observations(Dict(a=Box(0.0, 1.0, (2,)), b=text, c=empty)).dropped == ["['b']"]
