"""Self-play: agents train in worlds of their own against what they know of the other members."""

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
ALONE: Table = {"environment": {"opponents": "last_known"}}
PAIRS: Table = {
    "name": "pairs",
    "agents": 4,
    "stop": {"rounds": 4},
    "environment": {"id": "spectrum", "members": 2, "instances": 1},
    "learner": {"kind": "a2c", "hidden": [2], "steps": 4, "same_start": False},
    "compute": {"seconds_per_env_step": "2ms"},
    "topology": {"kind": "complete"},
    "mixing": {"kind": "by_role", "roles": 4},
    "evaluation": {"episodes": 0},
}
UNEVEN = {"compute": {"speed": {"kind": "cycle", "list": [1.0, 0.3, 0.6, 0.1]}}}
SPREAD = {"network": {"latency": {"kind": "lognormal", "median": "20ms", "sigma": 0.8}}}


def scenario(*tables: Table) -> Scenario:
    whole = merged(PAIRS, ALONE)
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
        {},
        {"learner": {"kind": "ppo", "critic_sees": "world", "shared_trunk": False}},
        {"learner": {"normalize_observations": True, "statistics": "averaged"}},
        {
            "environment": {"id": "matrix_game", "game": "pennies", "opponents": "last_known"},
            "learner": {"kind": "npg", "gamma": 0.0, "logits": [1.0, 0.0]},
        },
    ],
    ids=["a2c", "global critic", "normalization", "npg"],
)
def test_who_hears_of_everyone_after_every_update_plays_in_the_shared_world(table: Table) -> None:
    together = {"environment": {"opponents": "present"}}
    same = {"learner": {"same_start": True}, "compute": {"speed": 1.0}}
    assert digest(run(table, same)) == digest(run(table, same, together))


def test_at_first_the_others_have_the_agents_own_start_parameters() -> None:
    together = {"environment": {"opponents": "present"}}
    assert digest(run({"stop": {"rounds": 1}})) != digest(run(together, {"stop": {"rounds": 1}}))


@pytest.mark.parametrize("table", [UNEVEN, SPREAD, merged(UNEVEN, SPREAD)])
def test_parameters_do_not_depend_on_speeds_and_latency(table: Table, plain: Record) -> None:
    assert digest(run(table)) == digest(plain)


@pytest.mark.slow
def test_members_of_a_world_live_in_different_processes(tmp_path, plain) -> None:
    homes = processes.run(scenario(), [[0, 2], [1, 3]], tmp_path / "peers")
    assert digest(collect(homes, tmp_path / "out")) == digest(plain)


OTHERS: dict[str, Table] = {
    "central": {"mode": "central", "mixing": None, "topology": None},
    "chosen": {
        "mode": "central",
        "mixing": None,
        "topology": None,
        "coordinator": {"participation": {"kind": "uniform", "fraction": 0.5}},
    },
    "asynchronous": {"schedule": {"kind": "asynchronous"}, **UNEVEN},
    "pairwise": {
        "mixing": {"kind": "pairwise", "roles": None},
        "schedule": {"kind": "asynchronous"},
        **UNEVEN,
    },
    "dropout": {"availability": {"dropout": 0.4}},
    "moments": {"learner": {"moments": "average"}, "mixing": {"kind": "uniform", "roles": None}},
    "evaluated": {"evaluation": {"episodes": 1, "every": 2}},
    "restart": {
        "faults": [
            {"kind": "crash", "agents": [1], "at": "19ms"},
            {"kind": "restart", "agents": [1], "at": "26ms"},
        ]
    },
}


@pytest.mark.parametrize("name", OTHERS)
def test_nobody_waits_and_runs_are_repeatable(name: str) -> None:
    table = OTHERS[name]
    found = run(table)
    assert found.summary["stopped_by"] == "rounds"
    assert found.summary["digest"] == run(table).summary["digest"]


@pytest.fixture
def trainer():
    from p2pfrl.build.assembly import Assembly

    return Assembly(scenario()).trainer(range(4))


def test_an_update_under_way_keeps_what_it_knew_and_the_next_one_heard_more(trainer) -> None:
    start, parts = trainer.snapshot(0), trainer.stack.layout.parts
    trainer.update([0])
    expected = trainer.read(0).copy()
    trainer.restore(0, start)
    trainer.freeze(0)
    trainer.hear(0, {1: trainer.stack.layout.pack(trainer.read(2)), 2: np.zeros(1)}, parts)
    saved = trainer.save()
    trainer.cancel(0)
    trainer.load(saved)
    trainer.commit(0)
    assert np.array_equal(trainer.read(0), expected)
    assert np.array_equal(trainer.state["known"][0, 1], trainer.read(2))
    assert np.array_equal(trainer.state["known"][0, 0], start.parameters)


@pytest.mark.parametrize(
    ("table", "message"),
    [
        (
            {"topology": {"kind": "ring"}, "agents": 4, "environment": {"members": 4}},
            "0 and 2 share",
        ),
        ({"mode": "independent", "mixing": None, "topology": None}, "tells nobody"),
        ({"mode": "pooled", "mixing": None, "topology": None}, "tells nobody"),
        ({"groups": [{"agents": [2, 3], "learner": {"lr": 0.1}}]}, "one learner"),
        ({"personal": {"kind": "ditto"}}, "no second model"),
        ({"learner": {"memory": "gru"}}, "what opponents remember"),
        ({"learner": {"kind": "dqn", "learn_start": 2, "batch_size": 2}}, "learns while it acts"),
        ({"learner": {"normalize_observations": True}}, "statistics = 'averaged'"),
        ({"exchange": {"shared": ["critic"]}}, "by the part 'actor', which does not travel"),
        (
            {
                "environment": {"id": "matrix_game", "opponents": "last_known"},
                "mixing": {"kind": "metropolis"},
            },
            "let those of one role mix: mixing kind = 'by_role', roles = 2, on topology",
        ),
        ({"mixing": {"kind": "push_sum", "roles": None}}, "something else than parameters"),
        (
            {"environment": {"id": "CartPole-v1", "members": None, "opponents": "last_known"}},
            "CartPole-v1 has one agent",
        ),
    ],
)
def test_what_would_tell_nobody_what_the_others_play_is_refused(table: Table, message: str) -> None:
    with pytest.raises(ScenarioError, match=message):
        scenario(table)
