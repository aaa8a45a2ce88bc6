"""Peers on hosts of their own: equality with the simulator, partitions, kills and hangs.

Peers that leave are tested too.
"""

from __future__ import annotations

import json
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from hosts import Hosts
from ring import QUADRATIC, Run, check_entries, digests, kill, made


@pytest.fixture
def bridged() -> Iterator[Hosts]:
    """Four hosts on a bridge of the kernel."""
    yield from made(4)


@pytest.fixture
def distant() -> Iterator[Hosts]:
    """Four hosts 30 ms apart.

    A round takes at least that, so there is time to do things to them.
    """
    yield from made(4, delay=0.03)


@pytest.mark.slow
def test_one_peer_per_host_ends_with_the_parameters_of_the_simulator(
    bridged: Hosts, tmp_path: Path
) -> None:
    overrides = {"stop.rounds": 15}
    run = Run(bridged, tmp_path / "run", overrides)
    summaries = run.end(range(4))
    assert [s["parameters_digest"] for s in summaries] == digests(QUADRATIC, overrides, 4)
    assert [s["deadlines_expired"] for s in summaries] == [0] * 4
    assert all(check_entries(run, host) == list(range(15)) for host in range(4))


@pytest.mark.slow
def test_cartpole_on_four_hosts_ends_with_the_parameters_of_the_simulator(
    bridged: Hosts, tmp_path: Path
) -> None:
    overrides = {"stop.rounds": 5, "stop.target_return": None}
    summaries = Run(bridged, tmp_path / "run", overrides, "ring_16.toml").end(range(4))
    assert [s["parameters_digest"] for s in summaries] == digests("ring_16.toml", overrides, 4)


@pytest.mark.slow
def test_two_halves_go_on_apart_and_meet_again(distant: Hosts, tmp_path: Path) -> None:
    rounds = 300
    run = Run(distant, tmp_path / "run", {"stop.rounds": rounds})
    run.until("ten rounds", lambda: all(run.round(host) >= 10 for host in range(4)))
    distant.cut([0, 1], [2, 3])
    run.until("both halves notice", lambda: all(run.notes(host, "lost") for host in range(4)))
    apart = [run.round(host) for host in range(4)]
    run.until(
        "both halves go on", lambda: all(run.round(host) >= apart[host] + 5 for host in range(4))
    )
    distant.heal()
    healed = time.time()
    run.until("the links are back", lambda: all(run.notes(host, "up") for host in range(4)))
    assert max(run.notes(host, "up")[0]["time"] for host in range(4)) - healed < 3.5
    summaries = run.end(range(4))
    assert [s["rounds"] for s in summaries] == [rounds] * 4
    assert [s["deadlines_expired"] for s in summaries] == [0] * 4, (
        "nobody waits for rounds that were jumped over"
    )
    for host in range(4):
        done = check_entries(run, host)
        assert done[-1] == rounds - 1
        alone = [len(entry.staleness) for entry in run.entries(host)]
        assert alone[5] == 2
        assert 1 in alone
        assert alone.count(2) > 20


@pytest.mark.slow
def test_a_killed_peer_comes_back_from_its_checkpoint_and_catches_up(
    distant: Hosts, tmp_path: Path
) -> None:
    rounds = 400
    run = Run(distant, tmp_path / "run", {"stop.rounds": rounds})
    run.until("ten rounds", lambda: all(run.round(host) >= 10 for host in range(4)))
    kill(run, 1)
    before = run.round(1)
    run.until("the neighbors notice", lambda: bool(run.notes(0, "lost") and run.notes(2, "lost")))
    run.until("the others go on", lambda: all(run.round(host) >= before + 5 for host in (0, 2, 3)))
    run.restart(1)
    summaries = run.end(range(4))
    assert [s["rounds"] for s in summaries] == [rounds] * 4
    assert [s["deadlines_expired"] for s in summaries] == [0] * 4, (
        "nobody waits for rounds that were jumped over"
    )
    assert [s["incarnation"] for s in summaries] == [0, 1, 0, 0]
    assert run.notes(0, "up")
    assert run.notes(2, "up")
    assert {note["incarnation"] for note in run.notes(0, "joined") if note["agents"] == [1]} == {
        0,
        1,
    }
    done = check_entries(run, 1)
    assert done[-1] == rounds - 1
    gap = next(i for i, entry in enumerate(run.entries(1)) if entry.round > before)
    assert len(done) < rounds, "it jumped over the rounds that went on without it"
    assert any(len(entry.staleness) == 2 for entry in run.entries(1)[gap + 1 :]), "it mixes again"
    for host in (0, 2, 3):
        check_entries(run, host)
    assert all(s["refusals"].get("replay", 0) == 0 for s in summaries)


@pytest.mark.slow
def test_everyone_killed_in_one_round_and_started_again_ends_as_if_nothing_had_happened(
    distant: Hosts, tmp_path: Path
) -> None:
    overrides = {"stop.rounds": 30, "stop.target_return": None}
    run = Run(distant, tmp_path / "run", overrides, "ring_16.toml", saves_until=6)
    run.until("everyone has saved round 6", lambda: all(run.round(host) >= 7 for host in range(4)))
    for host in range(4):
        kill(run, host)
        assert run.round(host) < 29, "it was killed too late to show anything"
    for host in range(4):
        run.restart(host)
    summaries = run.end(range(4))
    assert [s["incarnation"] for s in summaries] == [1] * 4
    assert [s["deadlines_expired"] for s in summaries] == [0] * 4
    assert [s["parameters_digest"] for s in summaries] == digests("ring_16.toml", overrides, 4)
    assert all(7 in [entry.round for entry in run.entries(host)][8:] for host in range(4)), (
        "it went on from round 7"
    )


@pytest.mark.slow
def test_a_hung_peer_is_given_up_by_deadline_and_goes_on_when_it_wakes(
    distant: Hosts, tmp_path: Path
) -> None:
    rounds = 300
    run = Run(distant, tmp_path / "run", {"stop.rounds": rounds, "schedule.deadline": "1s"})
    run.until("ten rounds", lambda: all(run.round(host) >= 10 for host in range(4)))
    run.peers[2].send_signal(signal.SIGSTOP)
    try:
        hung = run.round(2)
        run.until(
            "the others go on", lambda: all(run.round(host) >= hung + 20 for host in (0, 1, 3))
        )
        assert run.round(2) <= hung + 1
        run.until(
            "the links are given up", lambda: bool(run.notes(1, "lost") and run.notes(3, "lost"))
        )
    finally:
        run.peers[2].send_signal(signal.SIGCONT)
    summaries = run.end(range(4))
    assert [s["rounds"] for s in summaries] == [rounds] * 4
    assert summaries[1]["deadlines_expired"] >= 1
    assert summaries[3]["deadlines_expired"] >= 1
    assert any(len(entry.staleness) == 2 for entry in run.entries(2) if entry.round > hung + 20)
    for host in range(4):
        check_entries(run, host, oldest=rounds)  # what the hung peer had sent counts when it comes


@pytest.mark.slow
def test_a_peer_that_is_told_to_leave_says_so_and_the_others_do_not_wait(
    distant: Hosts, tmp_path: Path
) -> None:
    rounds = 120
    run = Run(distant, tmp_path / "run", {"stop.rounds": rounds})
    run.until("ten rounds", lambda: all(run.round(host) >= 10 for host in range(4)))
    left = time.time()
    run.peers[3].terminate()
    assert run.peers[3].wait(30) == 130
    run.until("the neighbors are told", lambda: bool(run.notes(0, "lost") and run.notes(2, "lost")))
    for host in (0, 2):
        (note,) = run.notes(host, "lost")
        assert note["detail"] == "the other side left"
        assert note["time"] - left < 1.0
    summary = json.loads((run.directory(3) / "peer.json").read_text())
    assert summary["stopped_by"] == "interrupt"
    summaries = run.end((0, 1, 2))
    assert [s["rounds"] for s in summaries] == [rounds] * 3
    assert [s["deadlines_expired"] for s in summaries] == [0] * 3
