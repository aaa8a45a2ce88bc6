"""Mode hierarchical as processes: the record is the simulator's.

Edges may be in any process, and a dead one blocks nobody.
"""

import contextlib
import json
import multiprocessing
import socket
import time
from pathlib import Path

import numpy as np
import processes
import pytest
from test_collect import assert_equal

import p2pfrl
from p2pfrl.build.participants import everyone, share
from p2pfrl.core.errors import RecordError
from p2pfrl.deploy.calibrate import calibrate
from p2pfrl.deploy.collect import collect
from p2pfrl.deploy.process import Place, deploy
from p2pfrl.experiment.verify import verify
from p2pfrl.laws.runs import text
from p2pfrl.net.fleet import Fleet
from p2pfrl.net.mesh import Security, Timing
from p2pfrl.scenario import Scenario, loads
from p2pfrl.scenario.render import resolved

GROUPS = [[0, 4], [1], [2, 3, 5]]
ONE = [
    tuple(sorted(everyone(loads(text(6, 1, mode="hierarchical", hierarchy={"groups": GROUPS})))))
]
TWO = [(-3, -1, 1), (-4, -2, 0, 2, 3, 4, 5)]
FOUR = [(-1, 5), (-4, 0), (-3, -2, 2, 3), (1, 4)]


def tree(period: int = 1, rounds: int = 5, **tables: object) -> Scenario:
    uniform = {"participation": {"kind": "uniform", "fraction": 0.5}}
    hierarchy = {"groups": GROUPS, "edge_rounds": period}
    whole = {
        "mode": "hierarchical",
        "hierarchy": hierarchy,
        "learner": {"noise": 0.1},
        "coordinator": uniform,
        **tables,
    }
    return loads(text(6, rounds, seed=7, **whole))


def test_an_edge_lives_with_most_of_its_agents_and_the_cloud_alone_and_first() -> None:
    assert share(tree(), 1) == [(-1,), (-4, -3, -2, 0, 1, 2, 3, 4, 5)]
    assert share(tree(), 2) == [(-1,), (-3, -2, 0, 1, 2), (-4, 3, 4, 5)]
    assert share(tree(), 6) == [(-1,), (-2, 0), (-3, 1), (-4, 2), (3,), (4,), (5,)]
    assert share(loads(text(8, 1, mode="central")), 3) == [(-1,), (0, 1, 2), (3, 4), (5, 6, 7)]
    assert share(loads(text(8, 1)), 2) == [(0, 1, 2, 3), (4, 5, 6, 7)]


@pytest.mark.parametrize(
    ("period", "groups"),
    [(3, ONE), (1, TWO), (3, FOUR)],
    ids=["one process", "two processes", "four processes"],
)
def test_a_tree_of_processes_leaves_the_record_of_the_simulator(
    tmp_path: Path, period: int, groups: list
) -> None:
    scenario = tree(period)
    collected = collect(processes.run(scenario, groups, tmp_path / "peers"), tmp_path / "out")
    simulated = p2pfrl.run(scenario)
    assert_equal(collected, simulated)
    assert set(simulated.metrics["active"]) == {4.0, 6.0}, (
        "the edges ask 1 of 2, 1 of 1 and 2 of 3; the last models are for all"
    )
    assert (simulated.metrics["consensus_distance"] > 0).any()
    assert collected.metrics["bytes_sent"][-1] == collected.summary["bytes_sent"]
    assert np.all(np.diff(collected.metrics["bytes_sent"]) >= 0)
    assert verify(tmp_path / "out").is_equal


@pytest.mark.slow
def test_of_a_tree_the_agents_are_measured_and_no_links_that_a_scenario_cannot_describe(
    tmp_path: Path,
) -> None:
    run = tree(3, 30, coordinator={})
    scenario, found = calibrate(
        processes.run(run, [(-1, 0, 1), (-4, -3, -2, 2, 3, 4, 5)], tmp_path / "peers")
    )
    assert found.links is None
    assert "Edge coordinators took part" in found.unmeasured
    assert {agent: len(spans) for agent, spans in found.rounds.items()} == {0: 29, 1: 29}, (
        "who sent anything away"
    )
    assert loads(found.scenario(scenario)).agents == 6
    with pytest.raises(RecordError, match="no agent sent another process anything"):
        calibrate(processes.run(run, [(-1,), tuple(sorted({*ONE[0]} - {-1}))], tmp_path / "apart"))


@pytest.mark.slow
@pytest.mark.parametrize("jobs", [1, 2, 4])
@pytest.mark.parametrize("tls", [False, True], ids=["plain", "tls"])
def test_a_scenario_that_users_find_leaves_the_record_of_the_simulator(
    tmp_path: Path, jobs: int, tls: bool
) -> None:
    scenario = p2pfrl.load("hierarchical_bandwidth", {"stop.rounds": 10, "evaluation.every": 5})
    homes = processes.run(scenario, share(scenario, jobs), tmp_path / "peers", tls=tls)
    assert_equal(collect(homes, tmp_path / "out"), p2pfrl.run(scenario))


def test_the_journals_of_all_edges_are_asked_for(tmp_path: Path) -> None:
    homes = processes.run(
        tree(rounds=2), [(-4, -1, 0, 1, 2, 3, 4, 5), (-3, -2)], tmp_path / "peers"
    )
    with pytest.raises(RecordError, match="no directory holds agents edge0-1"):
        collect(homes[:1], tmp_path / "out")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("dead", "ends"),
    [
        (
            (-4, 5),
            {
                (2, 3): ("coordinator_gone", 2),
                (-3, -2, 0, 1, 4): ("wall_time", 0),
                (-1,): ("wall_time", 0),
            },
        ),
        (
            (-1,),
            {
                (-4, 5): ("coordinator_gone", 1),
                (-3, -2, 0, 1, 4): ("coordinator_gone", 2),
                (2, 3): ("coordinator_gone", 0),
            },
        ),
    ],
    ids=["an edge", "the cloud"],
)
def test_whoever_is_killed_is_missed_for_ten_deadlines_and_then_those_who_need_it_end(
    tmp_path: Path, dead: tuple[int, ...], ends: dict[tuple[int, ...], tuple[str, int]]
) -> None:
    """Check why the other processes end, and that ten deadlines went by.

    `ends` has their reasons and the deadlines that expired there.
    """
    scenario = tree(
        3, 10**6, schedule={"deadline": "0.3s"}, stop={"virtual_time": "20s"}, coordinator={}
    )
    fleet = Fleet(dict(zip(_free(4), [(-1,), (-4, 5), (-3, -2, 0, 1, 4), (2, 3)], strict=True)))
    homes = {group: tmp_path / str(group) for group in fleet.processes.values()}
    context = multiprocessing.get_context("forkserver")
    living = {}
    for address, group in fleet.processes.items():
        place = Place(group, bind=address, fleet=fleet)
        living[group] = context.Process(
            target=_alone, args=(resolved(scenario), place, homes[group]), daemon=True
        )
        living[group].start()
    try:
        journal = homes[2, 3] / "journal.bin"
        patience = time.monotonic() + 60
        while not journal.exists() or journal.stat().st_size < 10_000:
            assert time.monotonic() < patience
            time.sleep(0.05)
        living[dead].kill()
        for process in living.values():
            process.join(60)
        assert not any(process.is_alive() for process in living.values()), "nobody hangs"
    finally:
        for process in living.values():
            process.kill()
            process.join()
    for group, (reason, expired) in ends.items():
        summary = json.loads((homes[group] / "peer.json").read_text())
        assert (summary["stopped_by"], summary["deadlines_expired"]) == (reason, expired), group
        assert summary["run_seconds"] > 3.0


def _free(count: int) -> list[tuple[str, int]]:
    """Return addresses at which nobody listens."""
    with contextlib.ExitStack() as stack:
        sockets = [
            stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(count)
        ]
        return [one.getsockname() for one in sockets]


def _alone(written: str, place: Place, out: Path) -> None:
    deploy(loads(written), place, out, security=Security(), timing=Timing(start=60.0), quiet=True)
