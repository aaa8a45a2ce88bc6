"""Assigned work: every agent's own number of local updates, by speed or by its own clock."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import processes
import pytest

import p2pfrl
from p2pfrl.build.preview import preview
from p2pfrl.consensus.aggregators.base import Arrived
from p2pfrl.consensus.aggregators.normalized import Normalized
from p2pfrl.consensus.schedules.workload import Quota, Workload
from p2pfrl.core.errors import ScenarioError
from p2pfrl.core.types import Finish, Started, Train, Trained, Update
from p2pfrl.deploy.collect import collect
from p2pfrl.laws.runs import text
from p2pfrl.scenario import Scenario, loads
from p2pfrl.scenario.checks.notes import notes
from p2pfrl.scenario.resources import assigned

SPEEDS = [1.0, 2.0, 4.0, 8.0]
COMPUTE = {"seconds_per_env_step": 0.25, "speed": SPEEDS}
BY_SPEED = {"compute": COMPUTE, "schedule": {"every": 8}, "work": {"assign": "speed"}}


class Once:
    """A schedule of one update, after which it ends."""

    messages_late = deadlines_expired = 0

    def handle(self, event, now):
        return [Train()] if isinstance(event, Started) else [Finish()]

    def waits_for(self):
        return "its own update"

    def awaits(self):
        return ()

    def save(self):
        return {}

    def restore(self, state):
        pass


def made(quota: Quota, took: list[int]) -> int:
    """Return how many updates a schedule with this quota makes if they take so long."""
    now, machine, ended = 5, Workload(Once(), quota), Trained(Update(0, 1, 0.0, ()))
    (action,) = machine.handle(Started(), now)
    for number, duration in enumerate(took):
        assert isinstance(action, Train)
        now += duration
        again = Workload(Once(), quota)
        again.restore(machine.save())
        (action,) = again.handle(ended, now)
        machine = again
        if isinstance(action, Finish):
            return number + 1
    raise AssertionError("more updates than were expected")


@pytest.mark.parametrize(
    ("quota", "took", "expected"),
    [
        (Quota(3, 3), [1, 1, 1, 1], 3),
        (Quota(time=10), [3, 3, 3, 3], 3),
        (Quota(time=10), [5, 5, 5], 2),
        (Quota(time=10), [4, 7], 2),
        (Quota(time=10), [30], 1),
        (Quota(time=10, most=2), [1, 1, 1], 2),
        (Quota(time=10), [6, 1], 1),
    ],
)
def test_updates_are_made_until_the_quota_is_met(
    quota: Quota, took: list[int], expected: int
) -> None:
    assert made(quota, took) == expected


@pytest.mark.parametrize(
    ("speeds", "every", "expected"),
    [
        (SPEEDS, 8, [2, 4, 9, 17]),
        ([1.0, 1.0, 1.0], 5, [5, 5, 5]),
        ([1.0, 100.0], 4, [1, 7]),
        ([1.0, 1.0, 2.0], 1, [1, 1, 1]),
        ([2.0, 1.0, 1.0], 2, [3, 2, 1]),
    ],
)
def test_work_in_proportion_to_speed_is_shared_out_whole(
    speeds: list[float], every: int, expected: list[int]
) -> None:
    scenario = loads(text(len(speeds), 2, schedule={"every": every}, work={"assign": "speed"}))
    found = assigned(scenario, np.array(speeds))
    assert found.tolist() == expected
    assert found.sum() == len(speeds) * every


def scenario(mode: str, **tables: dict[str, object]) -> Scenario:
    return loads(text(4, 3, mode=mode, **{**BY_SPEED, **tables}))


@pytest.mark.parametrize("mode", ["gossip", "central", "hierarchical", "independent"])
@pytest.mark.parametrize("kind", ["synchronous", "asynchronous"])
def test_agents_make_their_updates_in_every_mode(mode: str, kind: str) -> None:
    if (mode, kind) == ("hierarchical", "asynchronous"):
        return
    schedule = {"schedule": {"every": 8, "kind": kind}}
    run = p2pfrl.run(scenario(mode, **schedule))
    steps = {
        (int(a), int(s)) for a, s in zip(run.agents["agent"], run.agents["env_steps"], strict=True)
    }
    assert all(s % [2, 4, 9, 17][a] == 0 for a, s in steps)
    rounds = run.agents["round"][-1]
    assert (3, 17 * rounds) in steps or kind == "asynchronous"


def test_work_by_speed_is_as_if_every_agent_had_its_own_every() -> None:
    tables = {"compute": COMPUTE, "schedule": {"every": 3}}
    plain = loads(text(4, 3, **tables))
    even = loads(text(4, 3, compute={**COMPUTE, "speed": 1.0}, schedule={"every": 3}))
    quota = {"work": {"assign": "time", "time": 100.0, "most": 3}}
    assert (
        p2pfrl.run(loads(text(4, 3, compute=COMPUTE, **quota))).summary["digest"]
        == (p2pfrl.run(plain).summary["digest"])
    )
    by_speed = loads(
        text(
            4, 3, compute=COMPUTE | {"speed": 1.0}, schedule={"every": 3}, work={"assign": "speed"}
        )
    )
    assert p2pfrl.run(by_speed).summary["digest"] == p2pfrl.run(even).summary["digest"]


@pytest.mark.parametrize("rule", ["gradient_tracking", "pairwise"])
def test_rules_that_wait_for_neighbors_have_assigned_work_too(rule: str) -> None:
    kind = "asynchronous" if rule == "pairwise" else "synchronous"
    tables = {"mixing": {"kind": rule}, "schedule": {"every": 8, "kind": kind}}
    run = p2pfrl.run(scenario("gossip", learner={"lr": 0.01}, **tables))
    last = run.agents["env_steps"][-4:]
    assert last[3] > last[0] > 0


def test_an_agent_that_slows_down_makes_fewer_updates_by_the_clock() -> None:
    faults = ({"at": 4.2, "kind": "straggle", "agents": [3], "factor": 8.0},)
    work = {"assign": "time", "time": 2.0}
    run = p2pfrl.run(loads(text(4, 4, mode="central", faults=faults, compute=COMPUTE, work=work)))
    steps = np.diff(run.agents["env_steps"][run.agents["agent"] == 3], prepend=0)
    assert steps[[0, 1, 3]].tolist() == [64, 64, 8]


def test_validate_says_what_agents_are_assigned() -> None:
    found = preview(scenario("central", energy={"per_step": SPEEDS}))
    assert found["updates_per_exchange"] == [2, 4, 9, 17]
    assert found["env_steps_per_round"] == 32
    assert found["joules_per_round_of_updates"] == 2 + 2 * 4 + 4 * 9 + 8 * 17
    timed = loads(text(4, 2, work={"assign": "time", "time": 1.0}))
    assert preview(timed)["env_steps_per_round"] == {"at least": 4.0, "at most": None}


def test_changes_per_step_are_averaged() -> None:
    received = [Arrived(0, np.array([2.0]), 2.0), Arrived(1, np.array([-6.0]), 6.0)]
    found, _ = Normalized().aggregate(received, np.zeros(1), {})
    assert found.tolist() == [0.0]
    alike = [Arrived(0, np.array([2.0]), 3.0), Arrived(1, np.array([4.0]), 3.0)]
    assert Normalized().aggregate(alike, np.zeros(1), {})[0].tolist() == pytest.approx([3.0])


@pytest.mark.parametrize(
    ("mode", "tables", "what"),
    [
        ("gossip", {"work": {"assign": "time"}}, 'assign = "time" needs a duration'),
        (
            "central",
            {
                "work": {"assign": "speed"},
                "exchange": {"payload": "gradient"},
                "coordinator": {"server_optimizer": {"kind": "sgd", "lr": 0.1}},
            },
            "is that of one local update",
        ),
        (
            "central",
            {"coordinator": {"aggregator": {"kind": "normalized"}}},
            "it divides changes by steps",
        ),
        (
            "hierarchical",
            {
                "exchange": {"payload": "delta"},
                "coordinator": {"aggregator": {"kind": "normalized"}},
            },
            "needs one coordinator",
        ),
    ],
)
def test_what_cannot_be_is_refused(mode: str, tables: dict[str, object], what: str) -> None:
    with pytest.raises(ScenarioError, match=what):
        loads(text(4, 2, mode=mode, **tables))  # type: ignore[arg-type]


def test_members_of_a_shared_world_train_together() -> None:
    tables = {"environment": {"id": "spectrum", "members": 2}, "work": {"assign": "speed"}}
    learner = {"kind": "reinforce", "hidden": [2], "steps": 12}
    with pytest.raises(ScenarioError, match="2 agents share a world and train together"):
        loads(text(4, 2, learner=learner, **tables))


@pytest.mark.parametrize(
    ("tables", "what"),
    [
        ({"work": {"time": 1.0}}, "'equal' without effect: work.time"),
        ({"work": {"assign": "speed", "most": 3}}, "'speed' without effect: work.most"),
        ({"work": {"assign": "speed"}}, "all agents make 1 updates"),
        (
            {"work": {"assign": "time", "time": 1.0}, "schedule": {"every": 2}},
            "without effect: schedule.every",
        ),
    ],
)
def test_a_note_names_what_has_no_effect(tables: dict[str, dict[str, object]], what: str) -> None:
    assert any(what in note for note in notes(loads(text(4, 2, **tables))))


@pytest.mark.slow
def test_processes_are_assigned_the_work_of_the_simulator(tmp_path: Path) -> None:
    tables = scenario("central", energy={"per_step": 2.0, "per_byte": 0.5})
    found = collect(
        processes.run(tables, [[-1], [0, 1], [2, 3]], tmp_path / "peers"), tmp_path / "out"
    )
    run = p2pfrl.run(tables)
    assert np.array_equal(found.parameters, run.parameters)
    orders = [np.lexsort((r.agents["agent"], r.agents["round"])) for r in (found, run)]
    for name in ("env_steps", "joules"):
        own, other = (r.agents[name][o] for r, o in zip((found, run), orders, strict=True))
        assert own.tolist() == other.tolist()
    assert found.summary["energy"] == run.summary["energy"]
