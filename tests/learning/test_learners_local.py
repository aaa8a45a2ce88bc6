"""Learners written for one agent, and those of Stable-Baselines3."""

import re
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import local_learners
import numpy as np
import own_networks
import processes
import pytest
import torch

import p2pfrl
from p2pfrl.core.errors import P2PFRLError, ScenarioError
from p2pfrl.deploy.collect import collect
from p2pfrl.learning.environments.base import Spec
from p2pfrl.learning.environments.cartpole import CartPole
from p2pfrl.learning.environments.matrix_game import MatrixGame
from p2pfrl.learning.environments.pendulum import Pendulum
from p2pfrl.learning.environments.vary import columns
from p2pfrl.learning.learners.actions import ActionError, fitting
from p2pfrl.learning.learners.base import Task
from p2pfrl.learning.learners.local import Local
from p2pfrl.learning.learners.sb3 import SB3
from p2pfrl.learning.trainer import Trainer

TEXT = """
name = "local"
agents = 4
stop.rounds = 3
topology.kind = "ring"
environment = {{id = "{id}", instances = 2}}
learner = {{kind = "local", make = "local_learners:{cls}", steps = 8, lr = 0.01}}
evaluation.episodes = {episodes}
"""


PPO = """
name = "net"
agents = 2
stop.rounds = 2
environment = {id = "CartPole-v1", instances = 1}
learner = {kind = "a2c", steps = 4}
evaluation.episodes = 0
"""


def unfinished(folder: Path, base: p2pfrl.Scenario, policy: type) -> Path:
    """Return the directory of a run that was interrupted after its first round."""

    def stop(row: object) -> None:
        raise KeyboardInterrupt

    found = p2pfrl.run(base, policy=policy, out=folder, progress=stop)
    assert found.summary["stopped_by"] == "interrupt"
    return folder


def scenario(cls: str = "Mine", id: str = "CartPole-v1", episodes: int = 0) -> p2pfrl.Scenario:
    return p2pfrl.loads(TEXT.format(cls=cls, id=id, episodes=episodes))


def digest(record: p2pfrl.Record) -> Any:
    return record.summary["parameters_digest"]


def test_a_learner_for_one_agent_keeps_the_contract_of_learners() -> None:
    p2pfrl.check_learner(Local(make="local_learners:Mine", steps=6), CartPole(max_steps=5))


def test_the_check_takes_a_class_and_finds_numbers_that_no_seed_draws() -> None:
    p2pfrl.check_learner(local_learners.Takes, CartPole(max_steps=5))
    again = r"the same run again: parameters of agent 0 differs; draw .* from the seed alone"
    with pytest.raises(p2pfrl.ContractError, match=again):
        p2pfrl.check_learner(local_learners.Unseeded, CartPole(max_steps=5))
    with pytest.raises(p2pfrl.ContractError, match="Takes acts in an environment; write"):
        p2pfrl.check_learner(local_learners.Takes)


def test_the_check_takes_an_environment_of_gymnasium_and_an_id() -> None:
    for environment in (local_learners.Still, "local_learners:Still"):
        p2pfrl.check_learner(p2pfrl.Local(make="local_learners:Mine", steps=2), environment)
    with pytest.raises(p2pfrl.ContractError, match="got Still, one environment"):
        p2pfrl.check_learner(local_learners.Mine, local_learners.Still())
    with pytest.raises(p2pfrl.ContractError, match="an instance of Problem, got 3"):
        p2pfrl.check_learner(local_learners.Mine, 3)  # type: ignore[arg-type]  # on purpose


def test_parameters_of_another_shape_end_a_run() -> None:
    words = r"expected 0.weight \(4, 4\), 0.bias \(4,\) as at first, got 0.weight \(5, 4\), 0.bias \(5,\); param"
    with pytest.raises(P2PFRLError, match=f"agent 0.* Grows.named_parameters: {words}"):
        p2pfrl.run(scenario("Grows"))


@pytest.mark.parametrize(
    ("taken", "best", "message"),
    [
        (
            9,
            0,
            r"update 0, step 0: learn: expected actions \(3,\), whole numbers from 0 to 1; got 9",
        ),
        (0.7, 0, r"whole numbers from 0 to 1; got 0\.7"),
        (0, 7, r"Takes.act: expected actions \(2,\), whole numbers from 0 to 1; got 7"),
        (0, "nan", r"Takes.act: expected actions \(2,\), whole numbers from 0 to 1; got nan"),
    ],
)
def test_an_action_that_is_none_of_the_space_ends_a_run(taken, best, message) -> None:
    kwargs = {"taken": float(taken), "best": float(best)}
    learner = Local(make="local_learners:Takes", kwargs=kwargs, steps=2)
    with pytest.raises(P2PFRLError) as caught:
        p2pfrl.check_learner(learner, CartPole(max_steps=5))
    assert re.search(message, str(caught.value))


def test_a_continuous_action_lies_within_the_bounds() -> None:
    spec = Pendulum().spec
    assert fitting(np.array([[2.0], [-2]]), spec, 2).dtype == np.float32
    for bad in (2.1, float("inf"), float("nan")):
        with pytest.raises(ActionError, match=r"numbers from -2 to 2, clipped to env\.single"):
            fitting(np.array([[bad]]), spec, 1)
    several = Spec(observation=1, state=1, heads=(3, 2))
    assert fitting(np.array([[2, 1]]), several, 1).tolist() == [[2, 1]]
    with pytest.raises(ActionError, match="whole numbers from 0 to 2 and 0 to 1; got"):
        fitting(np.array([[1, 2]]), several, 1)


@pytest.mark.slow
def test_a_learner_for_one_agent_from_a_file_and_from_python_give_one_result(tmp_path) -> None:
    first = p2pfrl.run(scenario(), out=tmp_path / "run")
    again = p2pfrl.run(scenario(), learner=Local(make="local_learners:Mine", steps=8, lr=0.01))
    assert digest(first) == digest(again)
    assert p2pfrl.verify(tmp_path / "run").is_equal
    named = p2pfrl.run(scenario(), learner=local_learners.Mine)
    assert digest(named) != digest(first)
    assert "local_learners:Mine" in (tmp_path / "run" / "scenario.toml").read_text()


def test_parts_are_named_by_the_learner_and_alone_travel() -> None:
    base = p2pfrl.loads(
        TEXT.format(cls="Mine", id="CartPole-v1", episodes=0), {"exchange.shared": ["2"]}
    )
    whole, part = p2pfrl.run(scenario()), p2pfrl.run(base)
    assert part.summary["bytes_sent"] < whole.summary["bytes_sent"]
    assert len(np.unique(part.parameters[:, :16].round(6), axis=0)) == 4


@pytest.mark.slow
def test_processes_train_learners_for_one_agent_to_the_parameters_of_the_simulator(tmp_path):
    homes = processes.run(scenario(), [[0, 1], [2, 3]], tmp_path / "peers")
    assert digest(collect(homes, tmp_path / "out")) == digest(p2pfrl.run(scenario()))


def goes_on(learner: Any, environment: Any = None) -> tuple[Trainer, Trainer]:
    """Return trainers after three updates: in one process, and where another has the last one."""

    def trainer() -> Trainer:
        made = environment or CartPole(max_steps=6)
        table = columns(made, {}, 1, [0, 1], 2)
        simulator = made.simulator(made.physics(1, [0, 1], table), 2, 1)
        return Trainer(learner.prepare(Task(1, 2, simulator, simulator)), 2)

    first, second = trainer(), trainer()
    first.update([0, 1])
    first.update([0, 1])
    for agent in (0, 1):
        second.restore(agent, first.snapshot(agent))
    for each in (first, second):
        each.update([0, 1])
    assert first.stack.traits.is_saved_whole == second.stack.traits.is_saved_whole
    return first, second


@pytest.mark.parametrize(("cls", "is_saved"), [("Kept", True), ("Mine", False)])
def test_what_a_learner_says_it_remembers_is_there_after_a_crash(cls: str, is_saved: bool) -> None:
    first, second = goes_on(Local(make=f"local_learners:{cls}", steps=6, lr=0.1))
    assert np.array_equal(first.parameters, second.parameters) == is_saved
    assert first.stack.traits.is_saved_whole == is_saved


def test_a_run_of_a_learner_with_a_state_is_that_without_but_for_what_is_saved(tmp_path) -> None:
    kept = p2pfrl.run(scenario("Kept"), out=tmp_path / "run")
    assert digest(kept) == digest(p2pfrl.run(scenario()))


@pytest.mark.slow
def test_a_class_from_a_function_runs_is_verified_and_resumed(tmp_path) -> None:
    class Own(local_learners.Kept):
        """Cannot be imported."""

    base = scenario()
    record = p2pfrl.run(base, learner=Own, out=tmp_path / "run")
    with pytest.raises(ScenarioError, match="was defined inside a function"):
        p2pfrl.verify(tmp_path / "run")
    assert p2pfrl.verify(tmp_path / "run", learner=Own).is_equal
    assert digest(p2pfrl.run(base, learner=Local(make="local_learners:Kept"))) == digest(record)

    class Net(own_networks.Plain):
        """Nor this."""

    ppo = p2pfrl.loads(PPO)
    p2pfrl.run(ppo, policy=Net, out=tmp_path / "net")
    assert p2pfrl.verify(tmp_path / "net", policy=Net).is_equal
    with pytest.raises(P2PFRLError, match="was defined inside a function"):
        p2pfrl.resume(unfinished(tmp_path / "open", ppo, Net))
    assert digest(p2pfrl.resume(tmp_path / "open", policy=Net)) == digest(
        p2pfrl.run(ppo, policy=Net)
    )


def test_gymnasium_environments_go_on_from_update_to_update() -> None:
    id = "gymnasium.envs.classic_control:CartPole-v1"
    record = p2pfrl.run(scenario(id=id, episodes=1))
    assert record.summary["env_steps"] == 4 * 2 * 8 * 3
    assert record.summary["evaluation"]["own"] > 0


def test_what_it_draws_from_global_generators_is_put_back() -> None:
    import random

    import torch

    def drawn() -> tuple[object, ...]:
        legacy = np.random.get_state()[1].sum()  # noqa: NPY002
        return random.getstate(), legacy, torch.random.get_rng_state().sum()

    before = drawn()
    p2pfrl.run(scenario())
    assert before == drawn()


@pytest.mark.parametrize(
    ("cls", "message"),
    [
        ("Fails", "agent 0"),
        ("Fails", "update 0: learn of Fails raised ZeroDivisionError: sensor failed"),
        ("Fails", "local_learners.py:"),
        ("Short", "Short.learn took 1 steps of each copy; expected 8 (learner.steps)"),
        ("Words", "Words.learn: expected a loss or None, got"),
        ("Wide", "Wide.act: expected actions (1,), got"),
        ("Growing", "Growing.state: 'seen' was ('<f8', (1,)) at first and is ('<f8', (2,)) now"),
    ],
)
def test_errors_of_a_learner_name_agent_method_and_line(cls: str, message: str) -> None:
    with pytest.raises(P2PFRLError) as caught:
        p2pfrl.run(scenario(cls, episodes=1))
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("cls", "message"),
    [
        ("Bare", "Bare.named_parameters: expected pairs of name and tensor"),
        ("Told", "Told.state: expected arrays by name, got"),
        ("Double", "Double: x is float64; expected float32"),
        ("Absent", "local_learners has no class Absent"),
        ("np", "is no class"),
    ],
)
def test_a_class_that_is_no_learner_is_refused_with_the_reason(cls: str, message: str) -> None:
    with pytest.raises(ScenarioError) as caught:
        scenario(cls)
    assert message in str(caught.value)


def test_a_learner_for_one_agent_as_kind_is_told_how_it_is_written() -> None:
    text = TEXT.format(cls="Mine", id="CartPole-v1", episodes=0)
    text = text.replace('kind = "local", make = "local', 'kind = "local')
    with pytest.raises(ScenarioError, match='write kind = "local", make = "local_learners:Mine"'):
        p2pfrl.loads(text)


# --- Stable-Baselines3 ----------------------------------------------------------------------------

has_sb3 = pytest.mark.skipif(find_spec("stable_baselines3") is None, reason="needs the extra [sb3]")


@has_sb3
@pytest.mark.parametrize(
    ("learner", "environment"),
    [
        (SB3(steps=8, kwargs={"batch_size": 8, "n_epochs": 1}), CartPole(max_steps=6)),
        (SB3(algorithm="A2C", steps=8, kwargs={"n_steps": 4}), Pendulum(max_steps=6)),
        (
            SB3(algorithm="DQN", steps=8, kwargs={"learning_starts": 4, "buffer_size": 60}),
            CartPole(max_steps=6),
        ),
        (
            SB3(algorithm="SAC", steps=4, kwargs={"learning_starts": 4, "buffer_size": 60}),
            Pendulum(max_steps=6),
        ),
        (SB3(steps=8, kwargs={"batch_size": 8, "n_epochs": 1}), MatrixGame()),
    ],
    ids=["ppo", "a2c", "dqn", "sac", "ppo in pairs"],
)
def test_algorithms_of_stable_baselines3_keep_the_contract(learner, environment) -> None:
    p2pfrl.check_learner(learner, environment)


@has_sb3
@pytest.mark.parametrize(
    ("algorithm", "kwargs", "is_saved"),
    [
        ("PPO", {"batch_size": 8, "n_epochs": 1}, True),
        ("A2C", {"n_steps": 4}, True),
        ("DQN", {"learning_starts": 4, "buffer_size": 60, "target_update_interval": 10}, True),
        ("SAC", {"learning_starts": 4, "buffer_size": 60}, True),
        ("TD3", {"learning_starts": 4, "buffer_size": 60}, True),
        ("TD3", {"learning_starts": 4, "buffer_size": 400_000}, False),
    ],
)
@pytest.mark.filterwarnings("ignore:.*replay buffer:p2pfrl.ScenarioWarning")
def test_optimizers_counters_and_small_buffers_are_saved(algorithm, kwargs, is_saved) -> None:
    environment = Pendulum(max_steps=6) if algorithm in ("SAC", "TD3") else CartPole(max_steps=6)
    first, second = goes_on(SB3(algorithm=algorithm, steps=8, lr=0.01, kwargs=kwargs), environment)
    assert np.array_equal(first.parameters, second.parameters) == is_saved
    assert first.stack.traits.is_saved_whole == is_saved


@pytest.mark.parametrize("name", ["seed", "verbose", "policy", "learning_rate"])
def test_what_a_run_sets_is_no_argument_of_an_algorithm(name) -> None:
    base = p2pfrl.load("ring_16.toml")
    with pytest.raises(ScenarioError, match=rf"learner\.kwargs\.{name}: it is set by the run"):
        p2pfrl.run(base, learner=SB3(kwargs={name: 1}))


@has_sb3
def test_the_ten_lines_of_a_user_of_stable_baselines3_run() -> None:
    base = p2pfrl.load("ring_16.toml", {"agents": 3, "stop.rounds": 2, "evaluation.episodes": 1})
    learner = p2pfrl.SB3(algorithm="PPO", steps=16, kwargs={"batch_size": 16, "n_epochs": 1})
    first, second = (p2pfrl.run(base, learner=learner) for _ in range(2))
    assert first.summary["digest"] == second.summary["digest"]
    assert {"actor", "critic"} <= {name.partition(".")[0] for name in first.state_dict(0)}


@pytest.mark.skipif(find_spec("stable_baselines3") is not None, reason="the extra is there")
def test_without_the_extra_the_message_says_what_to_install() -> None:
    base = p2pfrl.load("ring_16.toml")
    with pytest.raises(ScenarioError, match=r"pip install .*\[sb3\]"):
        p2pfrl.run(base, learner=SB3())


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"learner": object.__new__(local_learners.Mine)}, "learner: got one Mine; give its class"),
        ({"policy": torch.nn.Linear(1, 1)}, "policy: expected a class of .*, got Linear; give its"),
        (
            {"mode": "central"},
            r"mode: .*; other keys are overrides: .*overrides=\{'mode': \.\.\.\}",
        ),
    ],
    ids=["learner", "policy", "mode"],
)
def test_what_run_does_not_take_is_refused_in_one_line_with_what_to_write(given, message) -> None:
    with pytest.raises(ScenarioError) as caught:
        p2pfrl.run(p2pfrl.loads(PPO), **given)
    assert re.search(message, str(caught.value)), str(caught.value)
    assert "\n" not in str(caught.value)
