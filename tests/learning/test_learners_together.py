"""Learners written for one agent in worlds that agents share: they run by turns."""

import random
import threading
from typing import Any

import local_learners  # noqa: F401  # named in scenarios
import numpy as np
import processes
import pytest
import torch

import p2pfrl
from p2pfrl.core.errors import AgentError, P2PFRLError, ScenarioError
from p2pfrl.deploy.collect import collect
from p2pfrl.learning.environments.matrix_game import MatrixGame
from p2pfrl.learning.learners.local import Local
from p2pfrl.learning.learners.turns import Turns

TEXT = """
name = "together"
agents = 4
stop.rounds = 3
topology.kind = "ring"
environment = {id = "matrix_game", game = "stag_hunt", instances = 2}
learner = {kind = "local", make = "local_learners:Mine", steps = 6, lr = 0.01}
compute.seconds_per_env_step = "2ms"
evaluation.episodes = 0
"""
UNEVEN = {
    "compute.speed": {"kind": "cycle", "list": [1.0, 0.3, 0.6, 0.1]},
    "network.latency": {"kind": "lognormal", "median": "20ms", "sigma": 0.8},
}


def scenario(cls: str = "Mine", **more: object) -> p2pfrl.Scenario:
    return p2pfrl.loads(TEXT, {"learner.make": f"local_learners:{cls}", **more})


def digest(record: p2pfrl.Record) -> Any:
    return record.summary["parameters_digest"]


def test_learners_for_one_agent_keep_the_contract_in_a_shared_world() -> None:
    p2pfrl.check_learner(Local(make="local_learners:Mine", steps=2), MatrixGame())


def test_members_meet_at_every_step_and_each_gets_its_own_part() -> None:
    rows: list[list[int]] = []

    def together(brought: list[int]) -> list[int]:
        rows.append(brought)
        return [sum(brought) - own for own in brought]

    turns = Turns[int, int](together)
    heard: dict[int, list[int]] = {0: [], 1: [], 2: []}

    def member(number: int) -> None:
        for step in range(4):
            heard[number].append(turns.meet(number, 10 * step + number))

    turns.run([lambda n=n: member(n) for n in range(3)])
    assert rows == [[10 * step, 10 * step + 1, 10 * step + 2] for step in range(4)]
    assert heard[1] == [20 * step + 2 for step in range(4)]


def test_each_member_has_the_global_generators_to_itself() -> None:
    def drawn(meet: Any) -> list[float]:
        random.seed(3)
        np.random.seed(4)  # noqa: NPY002
        torch.manual_seed(5)
        found = []
        for _ in range(3):
            meet()
            found += [random.random(), float(np.random.rand()), float(torch.rand(()))]  # noqa: NPY002
        return found

    outside = random.getstate()
    alone = drawn(lambda: None)
    random.setstate(outside)
    turns = Turns[int, int](lambda brought: brought)
    found: dict[int, list[float]] = {}

    def member(number: int) -> None:
        found[number] = drawn(lambda: turns.meet(number, 0))

    turns.run([lambda n=n: member(n) for n in range(2)])
    assert found == {0: alone, 1: alone}
    assert random.getstate() == outside


@pytest.mark.parametrize("error", [ZeroDivisionError("x"), KeyboardInterrupt()])
def test_if_one_fails_the_others_are_stopped_and_their_blocks_are_left(error) -> None:
    left: list[int] = []

    def member(number: int) -> None:
        try:
            turns.meet(number, 0)
            if number == 1:
                raise error
            turns.meet(number, 0)
        finally:
            left.append(number)

    turns = Turns[int, int](lambda brought: brought)
    before = threading.active_count()
    with pytest.raises(type(error)):
        turns.run([lambda n=n: member(n) for n in range(3)])
    assert sorted(left) == [0, 1, 2]
    assert threading.active_count() == before


def test_an_environment_that_fails_stops_all_members() -> None:
    def fails(brought: list[int]) -> list[int]:
        raise AgentError(3, "no")

    turns = Turns[int, int](fails)
    before = threading.active_count()
    with pytest.raises(AgentError, match="agent 3"):
        turns.run([lambda n=n: turns.meet(n, 0) for n in range(2)])
    assert threading.active_count() == before


@pytest.mark.parametrize(
    ("cls", "message"),
    [
        ("SecondFails", r"agent 1.*learn of SecondFails raised ZeroDivisionError: sensor failed"),
        ("Short", r"agent 0.*Short.learn took 1 steps of each copy; expected 6"),
        ("Long", r"agent 0.*learn took more than 6 steps of each copy"),
    ],
)
def test_errors_name_the_member(cls: str, message: str) -> None:
    with pytest.raises(P2PFRLError, match=message):
        p2pfrl.run(scenario(cls))


def test_neither_speeds_nor_latency_change_what_members_learn() -> None:
    plain, uneven = p2pfrl.run(scenario()), p2pfrl.run(scenario(**UNEVEN))
    assert digest(plain) == digest(uneven)
    assert plain.summary["digest"] != uneven.summary["digest"]


@pytest.mark.slow
def test_processes_end_with_the_parameters_of_the_simulator(tmp_path) -> None:
    homes = processes.run(scenario(), [[0, 1], [2, 3]], tmp_path / "peers")
    assert digest(collect(homes, tmp_path / "out")) == digest(p2pfrl.run(scenario()))


def test_the_others_train_on_without_a_member_that_is_gone() -> None:
    faults = [{"kind": "crash", "agents": [1], "at": "30ms"}]
    runs = [
        p2pfrl.run(scenario(faults=faults, **{"network.peer_timeout": "5ms"})) for _ in range(2)
    ]
    assert digest(runs[0]) == digest(runs[1])
    ends = [
        sum(i.kind == "train" for i in runs[0].timeline if i.agent == agent) for agent in range(4)
    ]
    assert ends[0] == ends[2] == ends[3] == 3 > ends[1]


def test_in_self_play_a_learner_says_what_it_remembers() -> None:
    game = {"environment.opponents": "last_known", "topology.kind": "complete"}
    with pytest.raises(ScenarioError, match="does not say all that it remembers"):
        scenario(**game)
    assert len(p2pfrl.run(scenario("Kept", **game)).parameters) == 4
