"""Processes with standbys: whoever is in office is killed, -9, and no committed round is lost."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from failover_kills import AGENTS, GROUPS, VOTERS, expected, kill_often, scenario
from killing import Fleet
from processes import DEADLINE

from p2pfrl.build.participants import everyone, share
from p2pfrl.core.errors import P2PFRLError
from p2pfrl.deploy.audit import AUDIT
from p2pfrl.deploy.collect import collect
from p2pfrl.net.fleet import parse_agents, refuse_split_hosts, show_agents
from p2pfrl.scenario import loads


@pytest.mark.slow
def test_a_standby_takes_over_from_a_process_that_is_killed_for_good(tmp_path: Path) -> None:
    rounds = 24
    with Fleet(scenario(rounds), GROUPS, tmp_path, quiet=False) as fleet:
        fleet.end_for_good(0, "coordinator")
        for number in (1, 2, AGENTS):
            fleet.join(number, DEADLINE)
            assert fleet.code(number) == 0
        assert "coordinator is gone: the others go on" in fleet.said(AGENTS)
        assert "standby0 is in office, epoch 2" in fleet.said(1)
    audited = map(json.loads, (fleet.homes[1] / AUDIT).read_text().splitlines())
    terms = [(one["coordinator"], one["epoch"]) for one in audited if one["what"] == "office"]
    assert terms[0] == ("standby0", 2)
    record = collect(fleet.homes, tmp_path / "all")
    assert record.summary["rounds"] == rounds
    assert record.summary["stopped_by"] == "rounds"
    assert np.array_equal(record.parameters, expected(rounds).parameters)


@pytest.mark.slow
def test_whoever_is_in_office_is_killed_again_and_again(tmp_path: Path) -> None:
    rounds = 300
    seconds, record = kill_often(6, rounds, tmp_path)
    assert max(seconds) < 3.0
    assert record.summary["rounds"] == rounds
    assert np.array_equal(record.parameters, expected(rounds).parameters)


@pytest.mark.slow
def test_a_lead_that_died_is_missed_by_nobody_and_a_peer_comes_back_without_it(
    tmp_path: Path,
) -> None:
    rounds = 120
    with Fleet(scenario(rounds), GROUPS, tmp_path) as fleet:
        fleet.end_for_good(0, "coordinator")  # it leads, and is not started again
        fleet.kill(AGENTS, "agent-0")
        for number in (1, 2, AGENTS):
            fleet.join(number, DEADLINE)
            assert fleet.code(number) == 0
    summary = json.loads((fleet.homes[AGENTS] / "peer.json").read_text())
    assert summary["incarnation"] == 1
    record = collect(fleet.homes, tmp_path / "all")
    assert record.summary["rounds"] == rounds
    assert np.ptp(record.parameters, axis=0).max() == 0.0, "all have the last model"


def test_standbys_live_with_their_agents_or_alone() -> None:
    hosted = loads(scenario(3, {"standbys": [1, 3]}))
    first, second = hosted.standbys
    assert share(hosted, 2) == [(-1,), (first, 0, 1), (second, 2, 3)]
    assert everyone(hosted) == [-1, first, second, 0, 1, 2, 3]
    assert share(loads(scenario(3)), 2) == [*((id,) for id in VOTERS), (0, 1), (2, 3)]


def test_who_lives_together_is_written_and_read() -> None:
    ids = parse_agents("3+standby1+coordinator")
    assert ids == (VOTERS[2], -1, 3)
    assert show_agents(ids) == "coordinator+standby1+3"
    with pytest.raises(P2PFRLError, match="expected agents such as"):
        parse_agents("standby4")
    refuse_split_hosts(ids, {VOTERS[2]: 3})
    for agents in ((3,), (VOTERS[2],)):
        with pytest.raises(P2PFRLError, match=r"standby1 lives with agent 3; give standby1\+3"):
            refuse_split_hosts(agents, {VOTERS[2]: 3})
