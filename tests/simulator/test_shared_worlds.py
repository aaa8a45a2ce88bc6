"""Agents that share worlds: one result for all networks and speeds, and no endless wait."""

from typing import Any

import numpy as np
import processes
import pytest
from every_key import merged

import p2pfrl
from p2pfrl.core.errors import ScenarioError
from p2pfrl.deploy.collect import collect
from p2pfrl.results.record import Record
from p2pfrl.scenario import Scenario, loads
from p2pfrl.scenario.render import to_toml

Table = dict[str, Any]
PAIRS: Table = {
    "name": "pairs",
    "agents": 4,
    "stop": {"rounds": 5},
    "environment": {"id": "spectrum", "members": 2, "instances": 1},
    "learner": {"kind": "a2c", "hidden": [2], "steps": 4},
    "compute": {"seconds_per_env_step": "2ms"},
    "evaluation": {"episodes": 0},
}
UNEVEN = {"compute": {"speed": {"kind": "cycle", "list": [1.0, 0.3, 0.6, 0.1]}}}
SPREAD = {"network": {"latency": {"kind": "lognormal", "median": "20ms", "sigma": 0.8}}}


def scenario(*tables: Table) -> Scenario:
    whole = PAIRS
    for table in tables:
        whole = merged(whole, table)
    return loads(to_toml(whole))


def run(*tables: Table) -> Record:
    return p2pfrl.run(scenario(*tables))


def digest(record: Record) -> Any:
    return record.summary["parameters_digest"]


@pytest.fixture(scope="module")
def plain() -> Record:
    return run()


@pytest.mark.parametrize(
    "table",
    [
        UNEVEN,
        SPREAD,
        merged(UNEVEN, SPREAD),
        {"compute": {"variation": {"kind": "lognormal", "sigma": 0.5}}},
        {"faults": [{"kind": "straggle", "agents": [2], "factor": 5.0, "at": "9ms"}]},
    ],
    ids=["speeds", "latency", "both", "variation", "straggler"],
)
def test_parameters_do_not_depend_on_speeds_and_latency(table: Table, plain: Record) -> None:
    found = run(table)
    assert digest(found) == digest(plain)
    assert found.summary["digest"] != plain.summary["digest"]


def test_processes_over_tcp_end_with_the_parameters_of_the_simulator(tmp_path, plain) -> None:
    homes = processes.run(scenario(), [[0, 1], [2, 3]], tmp_path / "peers")
    assert digest(collect(homes, tmp_path / "out")) == digest(plain)


@pytest.mark.slow
@pytest.mark.parametrize(
    "own",
    [
        {"environment": {"id": "spectrum", "members": 2, "instances": 1}},
        {
            "environment": {"id": "junction", "members": 2, "instances": 1},
            "learner": {"kind": "ppo", "num_minibatches": 2},
        },
        {
            "environment": {"id": "warehouse", "members": 2, "instances": 1},
            "learner": {"kind": "dqn"},
        },
        {"environment": {"id": "junction", "members": 2, "instances": 1}, "mode": "central"},
        {"environment": {"id": "congestion", "members": 2, "instances": 1}, "mode": "independent"},
    ],
    ids=["spectrum", "junction", "warehouse", "coordinator", "congestion"],
)
def test_worlds_over_tcp_at_unequal_speeds_and_with_latency_end_as_in_the_simulator(
    own: Table, tmp_path
) -> None:
    groups = [*([[-1]] if own.get("mode") == "central" else []), [0, 1], [2, 3]]
    homes = processes.run(scenario(own, UNEVEN, SPREAD), groups, tmp_path / "peers")
    found = digest(collect(homes, tmp_path / "out"))
    assert found == digest(run(own, UNEVEN, SPREAD)) == digest(run(own))


def test_updates_of_a_world_end_together_at_the_pace_of_its_slowest_member() -> None:
    found = run({"mode": "independent"}, UNEVEN)
    ends = {
        agent: [i.end for i in found.timeline if i.agent == agent and i.kind == "train"]
        for agent in range(4)
    }
    assert ends[0] == ends[1]
    assert ends[2] == ends[3]
    assert ends[2] != ends[0]
    assert ends[0][-1] == pytest.approx(5 * 4 * 0.002 / 0.3)


GONE: dict[str, list[Table]] = {
    "crash": [{"kind": "crash", "agents": [1], "at": "19ms"}],
    "crash between updates": [{"kind": "crash", "agents": [1], "at": "16ms"}],
    "restart": [
        {"kind": "crash", "agents": [1], "at": "19ms"},
        {"kind": "restart", "agents": [1], "at": "26ms"},
    ],
    "restart in the same update": [
        {"kind": "crash", "agents": [1], "at": "19ms"},
        {"kind": "restart", "agents": [1], "at": "21ms"},
    ],
    "a whole world restarts": [
        {"kind": "crash", "agents": [0, 1], "at": "19ms"},
        {"kind": "restart", "agents": [0, 1], "at": "26ms"},
    ],
    "one after the other": [
        {"kind": "crash", "agents": [0], "at": "11ms"},
        {"kind": "restart", "agents": [0], "at": "19ms"},
        {"kind": "crash", "agents": [1], "at": "19ms"},
        {"kind": "restart", "agents": [1], "at": "31ms"},
    ],
    "leave": [{"kind": "leave", "agents": [1], "at": "19ms"}],
    "join": [{"kind": "join", "agents": [1], "at": "19ms"}],
}
BOTH = ("one after the other", "join")
"""Faults that are tried in every mode by default; the others in gossip alone."""
MODES: dict[str, Table] = {
    "gossip": {},
    "every message": {"mixing": {"kind": "push_sum"}},
    "asynchronous": {"schedule": {"kind": "asynchronous"}},
    "central": {"mode": "central"},
    "central asynchronous": {"mode": "central", "schedule": {"kind": "asynchronous"}},
    "independent": {"mode": "independent"},
}


@pytest.mark.parametrize(
    ("name", "mode"),
    [
        pytest.param(name, mode, marks=[pytest.mark.slow] * (mode != "gossip" and name not in BOTH))
        for name in GONE
        for mode in MODES
    ],
)
def test_whoever_is_gone_or_comes_back_the_others_train_on(name: str, mode: str) -> None:
    tables = (MODES[mode], {"faults": GONE[name]}, {"network": {"peer_timeout": "5ms"}})
    if mode == "every message" and name in ("leave", "join"):
        with pytest.raises(ScenarioError, match="push_sum"):
            run(*tables)
        return
    found = run(*tables)
    assert found.summary["stopped_by"] == "rounds"
    # A world that was away as a whole lost nothing that its neighbors or a coordinator missed.
    is_whole = name == "a whole world restarts" and "central" not in mode
    assert is_whole or digest(found) != digest(run(MODES[mode]))
    assert found.summary["digest"] == run(*tables).summary["digest"]


@pytest.mark.parametrize(
    "table",
    [
        {"mode": "pooled"},
        {"mode": "hierarchical", "hierarchy": {"groups": [[0, 2], [1, 3]]}},
        {"mode": "central", "schedule": {"kind": "buffered", "size": 3}},
        {"mode": "central", "schedule": {"quorum": 0.5, "deadline": "30ms"}},
        {"schedule": {"every": 3}},
        {"personal": {"kind": "ditto"}},
        {"personal": {"kind": "finetune"}},
        {"learner": {"kind": "dqn", "learn_start": 2, "batch_size": 2}},
        {"groups": [{"agents": [2, 3], "learner": {"lr": 0.1}}]},
        {"environment": {"vary": {"distance": {"kind": "cycle", "list": [10, 20, 30, 40]}}}},
        {"evaluation": {"episodes": 1}, "faults": GONE["crash"]},
    ],
    ids=[
        "pooled",
        "edges across worlds",
        "buffered",
        "quorum",
        "every",
        "ditto",
        "finetune",
        "dqn",
        "groups",
        "vary",
        "evaluation without a member",
    ],
)
def test_shared_worlds_go_with_other_rules_and_give_one_result(table: Table) -> None:
    first, second = (run(UNEVEN, table) for _ in range(2))
    assert first.summary["stopped_by"] == "rounds"
    assert first.summary["digest"] == second.summary["digest"]


@pytest.mark.parametrize(
    ("table", "complaint"),
    [
        ({"agents": 5}, "2 agents share a world: expected a multiple of 2, got 5; give 6"),
        ({"availability": {"dropout": 0.2}}, "availability: 2 agents share a world and would wait"),
        (
            {"mode": "central", "coordinator": {"participation": {"kind": "uniform"}}},
            "participation: 2 agents share a world and would wait for one that was not chosen",
        ),
        (
            {"groups": [{"agents": [1, 2, 3], "learner": {"lr": 0.1}}]},
            "groups.0: agents 0 to 1 share a world; put them into one group",
        ),
        (
            {"groups": [{"agents": [0, 1], "environment": {"id": "CartPole-v1"}}]},
            "worlds of 1 and of 2 agents do not go together",
        ),
        ({"learner": {"episodes": 2}}, "2 agents share a world"),
    ],
)
def test_what_would_make_members_wait_forever_is_refused_with_the_reason(table, complaint) -> None:
    with pytest.raises(ScenarioError) as caught:
        scenario(table)
    assert complaint in str(caught.value)


# --- passengers: the trainer alone ---------------------------------------------------------------


@pytest.fixture
def trainer():
    from p2pfrl.build.assembly import Assembly

    return Assembly(scenario()).trainer(range(4))


def test_a_passenger_acts_and_learns_nothing_and_its_world_moves(trainer) -> None:
    before, world = trainer.parameters.copy(), trainer.state["state"].copy()
    trainer.update([0, 2, 3])
    moved = (trainer.parameters != before).any(axis=1)
    assert moved.tolist() == [True, False, True, True]
    assert (trainer.state["state"] != world).any(axis=(1, 2)).all()
    assert np.array_equal(trainer.state["state"][0], trainer.state["state"][1])
    assert trainer.index.tolist() == [1, 1, 1, 1]


def test_a_member_that_crashes_in_an_update_acts_in_it_as_if_it_had_not(trainer) -> None:
    def update(*, crashes: bool) -> tuple[Any, Any]:
        for agent in (0, 1):
            trainer.freeze(agent)
        trainer.begin([0, 1])
        if crashes:
            trainer.cancel(1)
            trainer.write(1, np.zeros(trainer.stack.layout.size))
        trainer.commit(0)
        if not crashes:
            trainer.commit(1)
        return trainer.read(0).copy(), trainer.state["state"][1].copy()

    start = trainer.save()
    kept = {name: values.copy() for name, values in start["state"].items()}
    parameters = start["parameters"].copy()
    ours = update(crashes=False)
    trainer.load({**start, "parameters": parameters, "state": kept, "index": np.zeros(4)})
    theirs = update(crashes=True)
    assert all(np.array_equal(a, b) for a, b in zip(ours, theirs, strict=True))
    assert not trainer.read(1).any()


def test_an_update_that_all_its_members_give_up_has_not_happened(trainer) -> None:
    world = trainer.state["state"].copy()
    trainer.freeze(0)
    trainer.begin([0])
    trainer.cancel(0)
    assert not trainer.pending
    assert np.array_equal(trainer.state["state"], world)
    trainer.update([0, 1])
    assert trainer.index.tolist() == [1, 1, 0, 0]


def test_a_world_does_not_go_back_when_a_member_is_restored(trainer) -> None:
    trainer.update(range(4))
    kept = trainer.snapshot(1)
    trainer.update(range(4))
    world = trainer.state["state"].copy()
    trainer.restore(1, kept)
    assert np.array_equal(trainer.read(1), kept.parameters)
    assert np.array_equal(trainer.state["state"], world)
    assert trainer.index.tolist() == [2, 2, 2, 2]


def test_a_new_process_goes_on_with_the_world_of_the_member_that_got_furthest(trainer) -> None:
    trainer.update(range(4))
    early = trainer.snapshot(0)
    trainer.update(range(4))
    late, world = trainer.snapshot(1), trainer.state["state"].copy()
    for order in ([(0, early), (1, late)], [(1, late), (0, early)]):
        trainer.index[:] = 0
        trainer.state["state"][:] = 0
        for agent, snapshot in order:
            trainer.restore(agent, snapshot)
        assert trainer.index.tolist() == [2, 2, 0, 0]
        assert np.array_equal(trainer.state["state"][:2], world[:2])
        assert np.array_equal(trainer.read(0), early.parameters)
