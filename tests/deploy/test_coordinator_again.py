"""A coordinator whose process is started again before anything had begun is heard."""

import signal
from pathlib import Path

import processes
import pytest

import p2pfrl
from p2pfrl.core.errors import P2PFRLError
from p2pfrl.core.interrupts import SIGNALS
from p2pfrl.deploy.collect import collect
from p2pfrl.deploy.process import Place, deploy
from p2pfrl.laws.runs import text
from p2pfrl.net.mesh import Security, Timing
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
