"""Learners that read what members of their world do: one result for all speeds, and over TCP."""

from pathlib import Path

import processes
import pytest

import p2pfrl
from p2pfrl.deploy.collect import collect
from p2pfrl.laws.runs import Table, text
from p2pfrl.scenario import Scenario, loads

TEAM: dict[str, Table] = {
    "environment": {"id": "networked_mdp", "members": 2, "states": 2, "instances": 2},
    "learner": {"kind": "tabular_ac", "steps": 2},
    "exchange": {"shared": ["critic", "reward"]},
    "topology": {"kind": "islands", "count": 2},
}
GAME: dict[str, Table] = {
    "environment": {"id": "matrix_game", "game": "pennies"},
    "learner": {"kind": "npg", "gamma": 0.0, "lr": 0.3, "same_start": False},
    "topology": {"kind": "islands", "count": 2, "agents": "alternate"},
}
UNEVEN: dict[str, Table] = {"compute": {"speed": {"kind": "cycle", "list": [1.0, 0.3, 0.6, 0.1]}}}
BOTH = pytest.mark.parametrize("tables", [TEAM, GAME], ids=["team", "game"])


def scenario(tables: dict[str, Table], *faults: Table) -> Scenario:
    return loads(text(4, 5, faults=faults, **tables, evaluation={"episodes": 0}))


@BOTH
def test_parameters_do_not_depend_on_speeds(tables: dict[str, Table]) -> None:
    plain, uneven = (p2pfrl.run(scenario(one)) for one in (tables, {**tables, **UNEVEN}))
    assert plain.summary["parameters_digest"] == uneven.summary["parameters_digest"]


@BOTH
def test_a_world_goes_on_when_a_member_crashes_and_comes_back(tables: dict[str, Table]) -> None:
    crash: Table = {"kind": "crash", "agents": [1], "at": "2ms"}
    record = p2pfrl.run(scenario(tables, crash, {**crash, "kind": "restart", "at": "4ms"}))
    assert record.metrics["round"][-1] == 5
    assert record.metrics["error"][-1] >= 0


@pytest.mark.slow
@BOTH
def test_processes_over_tcp_end_with_the_parameters_of_the_simulator(
    tables: dict[str, Table], tmp_path: Path
) -> None:
    plain = p2pfrl.run(scenario(tables))
    homes = processes.run(scenario(tables), [[0, 1], [2, 3]], tmp_path / "peers")
    found = collect(homes, tmp_path / "out")
    assert found.summary["parameters_digest"] == plain.summary["parameters_digest"]
