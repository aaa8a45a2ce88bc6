"""A coordinator's process that is killed, -9, and started again does not change the run."""

import json
from pathlib import Path

import numpy as np
import pytest
from killing import Fleet
from processes import DEADLINE
from safetensors.numpy import load_file

from p2pfrl.core.state import read
from p2pfrl.deploy.collect import collect
from p2pfrl.experiment.run import simulate
from p2pfrl.laws.runs import Table, text
from p2pfrl.scenario import hash8, loads

SLOW: dict[str, Table] = {
    "learner": {"noise": 0.3, "initial_spread": 1.0, "steps": 1000, "dimension": 4, "lr": 0.01}
}
CARTPOLE: dict[str, Table] = {
    "environment": {"id": "CartPole-v1", "instances": 4},
    "learner": {"kind": "a2c", "steps": 64},
}
TREE: dict[str, Table] = {"hierarchy": {"groups": [[0, 1], [2, 3]], "edge_rounds": 2}}
KILLED: dict[str, tuple[str, dict[str, Table], list[tuple[int, ...]]]] = {
    "central": ("central", SLOW, [(-1,), (0, 1, 2, 3)]),
    "the cloud": ("hierarchical", {**SLOW, **TREE}, [(-1,), (-3, -2, 0, 1, 2, 3)]),
    "pooled": ("pooled", CARTPOLE, [(-1,), (0, 1, 2, 3)]),
}
"""Name -> mode, tables, and who lives together, of whom the first is killed."""


@pytest.mark.slow
@pytest.mark.parametrize("name", KILLED)
def test_a_run_whose_coordinator_is_killed_ends_with_the_parameters_of_one_that_is_not(
    name: str, tmp_path: Path
) -> None:
    mode, tables, groups = KILLED[name]
    scenario = text(4, 40, mode=mode, seed=3, **tables)
    with Fleet(scenario, groups, tmp_path) as fleet:
        fleet.kill(0, "coordinator")
        fleet.kill(0, "coordinator")
        assert fleet.end() == {0: 2, 1: 0}
    expected = simulate(loads(scenario))
    record = collect(fleet.homes, tmp_path / "all")
    np.testing.assert_array_equal(record.parameters, expected.parameters)
    assert record.summary["parameters_digest"] == expected.summary["parameters_digest"]
    assert record.summary["rounds"] == 40
    np.testing.assert_array_equal(record.staleness, expected.staleness)


@pytest.mark.slow
def test_edges_that_are_killed_and_started_again_bring_their_agents_to_the_last_round(
    tmp_path: Path,
) -> None:
    """The cloud does not wait for edges that are killed.

    The parameters therefore differ from those of an undisturbed run.
    """
    scenario = text(4, 60, mode="hierarchical", seed=3, **SLOW, **TREE)
    with Fleet(scenario, [(-1, 0, 1, 2, 3), (-3, -2)], tmp_path) as fleet:
        fleet.kill(1, "edge0")
        assert fleet.end() == {0: 0, 1: 1}
    record = collect(fleet.homes, tmp_path / "all")
    assert record.summary["rounds"] == 60
    assert np.ptp(record.parameters, axis=0).max() == 0.0, "all have the cloud's last model"


@pytest.mark.slow
def test_a_run_without_rounds_whose_coordinator_is_killed_applies_all_updates(
    tmp_path: Path,
) -> None:
    schedule: Table = {"kind": "asynchronous"}
    scenario = text(4, 200, mode="central", seed=3, schedule=schedule, **SLOW)
    with Fleet(scenario, [(-1,), (0, 1, 2, 3)], tmp_path) as fleet:
        fleet.kill(0, "coordinator", times=1)
        assert fleet.end() == {0: 1, 1: 0}
    record = collect(fleet.homes, tmp_path / "all")
    # An update that was in the journal and not yet saved when the coordinator died is there twice.
    assert 0 <= record.staleness.sum() - 4 * 200 <= 4


@pytest.mark.slow
def test_scaffold_keeps_its_mean_though_agents_and_coordinator_are_killed(tmp_path: Path) -> None:
    """An agent's newest checkpoint is of its last update.

    The coordinator's last model counts that update.
    """
    correction: Table = {"kind": "control_variate"}
    scenario = text(4, 60, mode="central", seed=3, correction=correction, **SLOW)
    with Fleet(scenario, [(-1,), (0, 1, 2, 3)], tmp_path) as fleet:
        fleet.kill(1, "agent-1")
        fleet.kill(0, "coordinator")
        assert fleet.end() == {0: 1, 1: 1}
    files = [fleet.homes[1] / "checkpoints" / f"agent-{agent}.safetensors" for agent in range(4)]
    sent = [load_file(file)["state.control_next"][:4] for file in files]
    facts = {"scenario": hash8(loads(scenario)), "coordinator": "coordinator"}
    coordinator = read(fleet.homes[0] / "checkpoints" / "coordinator.safetensors", facts)
    assert not coordinator["schedule"]["_unused"], "the last update of all counted"
    found = coordinator["body"]["_extra"]
    assert np.abs(sent).max() > 0.1
    np.testing.assert_allclose(np.mean(sent, axis=0), found, atol=1e-12)
    assert collect(fleet.homes, tmp_path / "all").summary["rounds"] == 60


@pytest.mark.slow
def test_agents_that_gather_experience_send_it_again_after_they_are_killed(tmp_path: Path) -> None:
    scenario = text(4, 40, mode="pooled", seed=3, **CARTPOLE)
    with Fleet(scenario, [(-1,), (0, 1, 2, 3)], tmp_path) as fleet:
        fleet.kill(1, "agent-1")
        assert fleet.end() == {0: 0, 1: 1}
    record = collect(fleet.homes, tmp_path / "all")
    assert record.summary["rounds"] == 40
    assert np.ptp(record.parameters, axis=0).max() == 0.0, "all have the coordinator's last model"


def test_processes_whose_coordinator_is_killed_for_good_say_so_end_with_1_and_can_go_on(
    tmp_path: Path,
) -> None:
    schedule: Table = {"deadline": "0.2s"}
    scenario = text(4, 10**6, mode="central", seed=3, schedule=schedule, **SLOW)
    with Fleet(scenario, [(-1,), (0, 1, 2, 3)], tmp_path, quiet=False) as fleet:
        fleet.end_for_good(0, "coordinator")
        fleet.join(1, DEADLINE)
        assert fleet.code(1) == 1
    summary = json.loads((fleet.homes[1] / "peer.json").read_text())
    assert summary["stopped_by"] == "coordinator_gone"
    assert 0 < summary["rounds"] < 10**6
    said = fleet.said(1)
    assert "the coordinator is gone (coordinator): its agents wait at most 2 s" in said
    assert f"waited 2 s for it after round {summary['rounds']} of 1000000; start it again" in said
    record = collect(fleet.homes, tmp_path / "all")
    assert record.summary["stopped_by"] in ("died", "coordinator_gone")
    assert record.summary["rounds"] >= summary["rounds"] - 1
    with Fleet(scenario, [(-1,), (0, 1, 2, 3)], tmp_path, at=fleet.lead) as again:
        again.advance(1, summary["rounds"])
