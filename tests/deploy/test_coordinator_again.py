"""A coordinator whose process is started again before anything had begun is heard."""

import json
import signal
from pathlib import Path

import processes
import pytest
from peer_threads import Fleet

import p2pfrl
from p2pfrl.cli import main
from p2pfrl.core.errors import P2PFRLError
from p2pfrl.core.interrupts import SIGNALS
from p2pfrl.core.types import standby_id
from p2pfrl.deploy.audit import AUDIT
from p2pfrl.deploy.collect import collect
from p2pfrl.deploy.process import Place, deploy
from p2pfrl.laws.runs import text
from p2pfrl.net.mesh import Security, Timing
from p2pfrl.results.directory import PEER, STATUS
from p2pfrl.scenario import loads


def test_a_deployment_leaves_the_handlers_of_signals_as_they_were(tmp_path: Path) -> None:
    before = [signal.getsignal(number) for number in SIGNALS]
    lead = Place((-1,), lead=True, rendezvous=("127.0.0.1", 0))
    with pytest.raises(P2PFRLError, match="no process took agents 0-1"):
        deploy(
            loads(text(2, 3, mode="central")),
            lead,
            tmp_path / "coordinator",
            security=Security(),
            timing=Timing(start=0.05),
            quiet=True,
        )
    assert [signal.getsignal(number) for number in SIGNALS] == before


def test_a_coordinator_whose_process_waited_in_vain_before_is_heard(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    scenario = loads(text(2, 3, mode="central"))
    lead = Place((-1,), lead=True, rendezvous=("127.0.0.1", 0))
    with pytest.raises(P2PFRLError, match="no process took agents 0-1"):
        deploy(
            scenario,
            lead,
            tmp_path / "coordinator",
            security=Security(),
            timing=Timing(start=0.05),
            quiet=True,
        )
    homes = processes.run(scenario, [(-1,), (0, 1)], tmp_path)
    record = collect(homes, tmp_path / "all")
    assert record.summary["parameters_digest"] == p2pfrl.run(scenario).summary["parameters_digest"]
    assert [peer["incarnation"] for peer in record.summary["peers"]] == [1, 0]
    assert [peer["agents"] for peer in record.summary["peers"]] == [["coordinator"], [0, 1]]
    for found in map(json.loads, ((homes[0] / name).read_text() for name in (PEER, STATUS))):
        assert found["agents"] == ["coordinator"]
        assert found.get("round", found["rounds"]) == 3
    assert main(["status", str(homes[0]), "--json"]) == 0
    (status,) = json.loads(capsys.readouterr().out)
    assert (status["agents"], status["round"]) == (["coordinator"], 3)
    joined = [json.loads(line) for line in (homes[1] / AUDIT).read_text().splitlines()][1]
    assert (joined["what"], joined["agents"]) == ("joined", ["coordinator"])


def test_coordinator_and_standbys_say_what_is_committed_who_was_in_office_and_that_votes_are_lost(
    tmp_path: Path,
) -> None:
    voters = [-1, standby_id(0), standby_id(1)]
    own = {"coordinator": {"standbys": 2, "fallback": "wait"}}
    scenario = loads(text(1, 3, mode="central", **own))
    fleet = Fleet(scenario, tmp_path)
    fleet.start(0, *voters)
    fleet.join(0, *voters)
    told = [(fleet.summaries[id]["agents"], fleet.summaries[id]["rounds"]) for id in voters]
    assert told == [(["coordinator"], 3), (["standby0"], 3), (["standby1"], 3)]
    written = json.loads((fleet.home(voters[1]) / STATUS).read_text())
    assert (written["agents"], written["round"]) == (["standby0"], 3)
    assert list(written["waits"]) == ["standby0"]
    audited = map(json.loads, (fleet.home(-1) / AUDIT).read_text().splitlines())
    terms = [(one["coordinator"], one["epoch"]) for one in audited if one["what"] == "office"]
    assert terms == [("coordinator", 1)]
    home = fleet.home(voters[1])
    (home / PEER).unlink()  # as if it had been killed
    newest = home / "checkpoints" / "standby0.safetensors"
    newest.write_bytes(newest.read_bytes()[:-1])
    with pytest.raises(P2PFRLError, match="standby0 votes, and may have promised"):
        deploy(
            scenario,
            Place((voters[1],)),
            home,
            security=Security(),
            timing=Timing(start=0.05),
            quiet=True,
        )
