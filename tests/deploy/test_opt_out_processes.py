"""Processes that opt out of a run over TCP, and come back."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest
from peer_threads import DEADLINE, TIMING, Fleet

from p2pfrl.cli import main
from p2pfrl.commands.arguments import DONE
from p2pfrl.core.errors import P2PFRLError, ScenarioError
from p2pfrl.core.types import COORDINATOR, id_of
from p2pfrl.deploy import process
from p2pfrl.deploy.collect import collect
from p2pfrl.deploy.leaving import leave, undo
from p2pfrl.deploy.process import Place, deploy
from p2pfrl.laws.runs import Table, text
from p2pfrl.learning.trainer import Trainer
from p2pfrl.net.checkpoint import Checkpoints
from p2pfrl.net.departures import REMEMBERED
from p2pfrl.net.fleet import Fleet as Whereabouts
from p2pfrl.net.mesh import Security
from p2pfrl.results.groups import group
from p2pfrl.results.report import opted_out_table
from p2pfrl.scenario import Scenario, hash8, loads


@pytest.fixture
def paced(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let processes look at their files often, and rounds take time without work."""
    compute = Trainer.compute

    def slow(self: Trainer, *arguments: Any, **more: Any) -> Any:
        time.sleep(0.02)
        return compute(self, *arguments, **more)

    monkeypatch.setattr(Trainer, "compute", slow)
    monkeypatch.setattr(process, "PERIOD", 0.02)


def world(rounds: int, **tables: Table) -> Scenario:
    return loads(text(3, rounds, **tables))


@pytest.mark.slow
@pytest.mark.usefixtures("paced")
def test_a_process_leaves_at_the_end_of_its_round_and_comes_back_only_if_it_says_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    private = {"kind": "clip_noise", "clip": 1.0, "noise_multiplier": 20.0, "delta": 1e-5}
    fleet = Fleet(world(150, privacy=private), tmp_path)
    fleet.start(0, 1, 2)
    fleet.until(1, lambda status: status["round"] >= 5)
    assert main(["leave", str(fleet.home(1))]) == DONE
    fleet.join(1)
    left = fleet.summaries[1]
    assert left["stopped_by"] == "opted_out"
    assert f"have left after {left['rounds']} rounds" in capsys.readouterr().out
    fleet.until(0, lambda status: status["opted_out"] == {"1": left["rounds"]})
    (noted,) = [entry for entry in fleet.audit(0) if entry["what"] == "opted_out"]
    assert noted["agents"] == [1]
    assert f"after {left['rounds']} rounds" in noted["detail"]
    assert fleet.audit(1)[-1]["why"] == "opted_out"

    with pytest.raises(P2PFRLError, match=r"opted out of the run on .*--undo"):
        deploy(fleet.scenario, Place((1,)), fleet.home(1), security=Security(), timing=TIMING)

    spent = left["privacy"]["releases"]
    undo(fleet.home(1))
    fleet.start(1)
    fleet.until(0, lambda status: not status["opted_out"])
    fleet.join(0, 1, 2)
    again = fleet.summaries[1]
    assert (again["stopped_by"], again["rounds"]) == ("rounds", 150)
    assert again["privacy"]["releases"] > spent
    assert {fleet.summaries[agent]["rounds"] for agent in (0, 2)} == {150}


@pytest.mark.usefixtures("paced")
def test_the_record_has_who_left_and_the_run_ended_by_its_rounds(tmp_path: Path) -> None:
    fleet = Fleet(world(40), tmp_path)
    fleet.start(0, 1, 2)
    fleet.until(2, lambda status: status["round"] >= 3)
    has_left, said = leave(fleet.home(2), DEADLINE)
    assert has_left, said
    fleet.join(0, 1, 2)
    record = collect([fleet.home(agent) for agent in (0, 1, 2)], tmp_path / "record")
    (found,) = record.summary["opted_out"]
    assert (found["agent"], found["rounds"]) == (2, fleet.summaries[2]["rounds"])
    assert (record.summary["stopped_by"], record.summary["rounds"]) == ("rounds", 40)
    active = record.metrics["active"].tolist()
    assert active[0] == 3
    assert active[-1] == 2
    table = opted_out_table(group([record]))
    assert table is not None
    assert json.loads((fleet.home(0) / REMEMBERED).read_text())[0]["agents"] == [2]


@pytest.mark.parametrize(
    ("tables", "agents", "expected"),
    [
        ({"mode": "central"}, [-1], "coordinator: the run cannot go on without it"),
        ({"mixing": {"kind": "push_sum"}}, [1], "push_sum"),
        ({"mixing": {"kind": "gradient_tracking"}}, [1], "gradient_tracking"),
    ],
)
def test_who_is_needed_cannot_leave(
    tables: dict[str, Any], agents: list[int], expected: str, tmp_path: Path
) -> None:
    scenario = text(3, 5, **tables)
    (tmp_path / "scenario.toml").write_text(scenario)
    checkpoints = Checkpoints(tmp_path / "checkpoints", hash8(loads(scenario)))
    checkpoints.incarnation()
    checkpoints.keep_whereabouts(1, agents, Whereabouts({("127.0.0.1", 1): tuple(agents)}))
    with pytest.raises(ScenarioError, match=expected):
        leave(tmp_path, 1.0)
    assert not (tmp_path / "opted_out.json").exists()
    with pytest.raises(ScenarioError, match=r"ha(s|ve) not opted out"):
        undo(tmp_path)


def test_a_directory_without_a_process_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ScenarioError, match="directory of a process"):
        leave(tmp_path, 1.0)
    (tmp_path / "peers" / "0-1").mkdir(parents=True)
    with pytest.raises(ScenarioError, match=r"name one of them: .*peers/0-1"):
        leave(tmp_path, 1.0)


@pytest.mark.slow
@pytest.mark.usefixtures("paced")
def test_a_coordinator_with_standbys_leaves_and_another_one_goes_on(tmp_path: Path) -> None:
    standbys: Table = {"standbys": 2, "standby_wait": "50ms"}
    fleet = Fleet(loads(text(2, 60, mode="central", coordinator=standbys)), tmp_path)
    voters = [COORDINATOR, id_of("standby0"), id_of("standby1")]
    fleet.start(0, 1, *voters)
    fleet.until(1, lambda status: status["round"] >= 5)
    has_left, said = leave(fleet.home(COORDINATOR), DEADLINE)
    assert has_left, said
    fleet.join(0, 1, *voters)
    assert fleet.summaries[COORDINATOR]["stopped_by"] == "opted_out"
    assert {fleet.summaries[agent]["rounds"] for agent in (0, 1)} == {60}
