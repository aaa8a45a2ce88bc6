"""What environments take is measured before a run, except in machines."""

import time
from collections.abc import Callable
from pathlib import Path

import own_envs
import pytest

from p2pfrl.build.pace import pace, what_takes_long
from p2pfrl.cli import main
from p2pfrl.commands.progress import price
from p2pfrl.core.errors import AgentError
from p2pfrl.scenario import Scenario, load, loads

TEXT = """name = "paced"
agents = 4
stop = {rounds = 2}
environment = {id = "own_envs:Point", instances = 2, max_steps = 10}
learner = {kind = "ppo", steps = 12, num_minibatches = 2, hidden = [4]}
evaluation = {episodes = 3}
"""


def scenario(**options: object) -> Scenario:
    return loads(TEXT, {f"environment.{key}": value for key, value in options.items()})


def clock(tick: float) -> Callable[[], float]:
    """Return a clock that goes on by `tick` seconds whenever it is read."""
    readings = [0.0]

    def now() -> float:
        readings[0] += tick
        return readings[0]

    return now


def test_rounds_and_evaluations_take_their_steps_times_the_time_of_one() -> None:
    # 0.3 s pass from one look at the clock to the next: 4 steps before the second is over.
    found = pace(scenario(), clock(0.3))
    assert found is not None
    seconds = 0.3
    assert found["steps_per_second"] == round(1 / seconds, 1)
    assert found["seconds_per_round"] == pytest.approx(4 * 24 * seconds)
    # A reset takes 0.3 s, too.
    assert found["seconds_per_evaluation_at_most"] == pytest.approx(2 * 4 * 3 * 11 * seconds)
    assert found["seconds_per_reset"] == seconds


def test_slow_resets_are_priced_by_episodes_and_not_by_steps(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    time_ = [0.0]
    reset = own_envs.Point.reset

    def slow(self: own_envs.Point, **options: object) -> object:
        time_[0] += 3.0
        return reset(self, **options)

    monkeypatch.setattr(own_envs.Point, "reset", slow)
    found = pace(scenario(), lambda: time_[0])
    assert found is not None
    assert found["seconds_per_reset"] == 3.0
    assert found["seconds_per_evaluation_at_most"] == pytest.approx(2 * 4 * 3 * 3.0)
    # Of 4 agents, 2 instances and 12 steps, one in ten ends an episode.
    assert found["seconds_per_round"] == pytest.approx(4 * 24 * 3.0 / 10)
    assert "a reset takes 3 s: a greedy evaluation up to 72 s" in what_takes_long(scenario(), found)
    # Without an end of an episode, a reset is measured again: the first one was also made.
    monkeypatch.setattr(
        own_envs.Point, "take", lambda self, action: time_.__setitem__(0, time_[0] + 1)
    )
    found = pace(scenario(), lambda: time_[0])
    assert found is not None
    assert (found["steps_per_second"], found["seconds_per_reset"]) == (1.0, 3.0)


def test_a_fast_environment_takes_a_hundred_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    taken = []
    monkeypatch.setattr(own_envs.Point, "take", lambda self, action: taken.append(action))
    assert pace(scenario(), clock(1e-9)) is not None
    assert len(taken) == 100


def test_machines_and_arrays_are_not_stepped() -> None:
    assert pace(scenario(is_real=True)) is None
    assert pace(load("ring_16")) is None


def test_an_environment_that_fails_says_so_before_the_run() -> None:
    made = scenario(id="own_envs:Flaky")
    with pytest.raises(AgentError, match=r"agent 0, measurement 0, step 6.*ConnectionError"):
        pace(made)


def test_agents_of_one_world_share_the_time_of_its_step() -> None:
    options = {"id": "pettingzoo:own_envs:Pair", "max_steps": None}
    found = pace(scenario(**options), clock(0.3))
    assert found is not None
    assert found["steps_per_second"] == round(2 / 0.3, 1)


def test_an_own_time_limit_that_cuts_all_episodes_at_one_length_bounds_an_evaluation() -> None:
    # 0.01 s pass from one look at the clock to the next: a hundred steps, ten episodes of ten.
    options = {"id": "pettingzoo:own_envs:Pair", "max_steps": None}
    found = pace(scenario(**options), clock(0.01))
    assert found is not None
    assert found["seconds_per_evaluation_at_most"] == pytest.approx(2 * 4 * 3 * 10 * 0.005)


def test_a_run_and_validate_say_what_takes_long(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    made = scenario()
    found = {"steps_per_second": 1.8, "seconds_per_reset": 0.0, "seconds_per_round": 279.4}
    slow = what_takes_long(made, {**found, "seconds_per_evaluation_at_most": 218_288.0})
    assert slow == (
        "environment.id: own_envs:Point makes 1.8 steps a second: a round 279 s, a greedy evaluation "
        "up to 218,288 s; set learner.steps, evaluation.episodes (0: none), environment.max_steps"
    )
    quick = {"seconds_per_round": 2.0, "seconds_per_evaluation_at_most": 59.0}
    assert not what_takes_long(made, found | quick)
    price(scenario(max_steps=10**6), Path(), draws=False)
    assert "note: environment.id: own_envs:Point makes" in capsys.readouterr().err
    (tmp_path / "slow.toml").write_text(TEXT)
    file = str(tmp_path / "slow.toml")
    assert main(["validate", file, "--set", "environment.max_steps=1000000"]) == 0
    assert "note: environment.id: own_envs:Point makes" in capsys.readouterr().err
    price(scenario(id="own_envs:Flaky"), Path(), draws=False)
    assert not capsys.readouterr().err, "the run itself says what is wrong"


def test_a_first_step_that_does_not_end_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[str] = []
    monkeypatch.setattr(own_envs.Point, "take", lambda self, action: time.sleep(0.1))
    pace(scenario(), clock(1.0), tell=told.append, patience=0.02)
    assert told == [
        "agent 0: its environment has not been reset and stepped in 0.02 s; waiting for it"
    ]
    pace(scenario(), clock(1.0), tell=told.append, patience=60.0)
    assert len(told) == 1
