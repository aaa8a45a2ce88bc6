"""A coordinator whose process is started again: heard where nothing had begun, refused where something had."""

from pathlib import Path

import processes
import pytest

import p2pfrl
from p2pfrl.build.assembly import Assembly
from p2pfrl.cli import main
from p2pfrl.core.errors import P2PFRLError
from p2pfrl.deploy.collect import collect
from p2pfrl.deploy.journal import Journal
from p2pfrl.deploy.process import Place, deploy
from p2pfrl.laws.runs import text
from p2pfrl.net.checkpoint import Checkpoints
from p2pfrl.net.mesh import Security, Timing
from p2pfrl.scenario import Scenario, hash8, loads


def test_a_coordinator_whose_process_waited_in_vain_before_is_heard(tmp_path: Path) -> None:
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
    record = collect(processes.run(scenario, [(-1,), (0, 1)], tmp_path), tmp_path / "all")
    assert record.summary["parameters_digest"] == p2pfrl.run(scenario).summary["parameters_digest"]
    assert [peer["incarnation"] for peer in record.summary["peers"]] == [1, 0]


def test_a_coordinator_that_had_begun_is_refused_before_anyone_hears_of_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "central.toml"
    file.write_text(text(2, 3, mode="central"), encoding="utf-8")
    _begun(p2pfrl.load(file), tmp_path / "run")
    words = [
        "peer",
        str(file),
        "--agents",
        "coordinator",
        "--peers",
        "coordinator=127.0.0.1:1,0-1=127.0.0.1:2",
    ]
    assert main([*words, "--out", str(tmp_path / "run")]) == 1
    assert "a coordinator has no checkpoint" in capsys.readouterr().err


def _begun(scenario: Scenario, home: Path) -> None:
    """Leave what a coordinator's process leaves that was killed."""
    Checkpoints(home / "checkpoints", hash8(scenario)).incarnation()
    journal = Journal(
        home / "journal.bin",
        agents=[-1],
        incarnation=0,
        seed=1,
        layout=Assembly(scenario).learning.stack.layout,
        model=NotImplemented,
        now=lambda: 0,
        every=1,
        save=NotImplemented,
    )
    journal.begin()
    journal._file.close()
