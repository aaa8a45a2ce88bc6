"""Peers that met at a lead are killed and started again with the same command.

They need no lead for that.
"""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hosts import Hosts
from ring import PATIENCE, QUADRATIC, Run, check_entries, made

ROUNDS = 400


@pytest.fixture
def distant() -> Iterator[Hosts]:
    """Three hosts 30 ms apart."""
    yield from made(3, delay=0.03)


class Met(Run):
    """Peers that ask the lead on host 0 where the others are.

    The others take any agents that are left.
    """

    def __init__(self, hosts: Hosts, out: Path) -> None:
        super().__init__(hosts, out, {}, agents=[[0], [1], [2, 3]])

    def _start(
        self, host: int, scenario: Path | str, overrides: Any, task: Any
    ) -> subprocess.Popen[str]:
        who = ["--count", str(host)] if host else ["--agents", "0"]
        command = [
            sys.executable,
            "-m",
            "p2pfrl",
            "peer",
            str(QUADRATIC),
            *who,
            *(["--lead"] if host == 0 else []),
            "--rendezvous",
            f"{self.hosts.address(0)}:6999",
            "--bind",
            f"{self.hosts.address(host)}:0",
            "--insecure",
            "--set",
            f"stop.rounds={ROUNDS}",
            "--out",
            str(self.directory(host)),
            "--quiet",
            "--json",
            "--start-timeout",
            "60",
        ]
        self.out.mkdir(exist_ok=True)
        with (self.out / f"stderr-{host}.txt").open("ab") as errors:
            return self.hosts.start(host, command, stderr=errors, stdout=subprocess.DEVNULL)


@pytest.mark.slow
@pytest.mark.parametrize("victim", [0, 2], ids=["the lead", "one that had asked for any agents"])
def test_a_killed_peer_that_had_met_the_others_at_the_lead_comes_back(
    distant: Hosts, tmp_path: Path, victim: int
) -> None:
    run = Met(distant, tmp_path / "run")
    run.until("ten rounds", lambda: all(run.round(host) >= 10 for host in range(3)))
    others = [host for host in range(3) if host != victim]
    process = run.peers[victim]
    # `ip netns exec` becomes the command itself, so this is the peer.
    homes = [
        json.loads((run.directory(host) / "checkpoints" / "fleet.json").read_text())["agents"]
        for host in range(3)
    ]
    process.send_signal(signal.SIGKILL)
    assert process.wait(30) == -signal.SIGKILL
    before = run.round(victim)
    run.until("the others go on", lambda: all(run.round(host) >= before + 5 for host in others))
    run.restart(victim)
    started = time.monotonic()
    summaries = run.end(range(3))
    assert time.monotonic() - started < PATIENCE
    assert [s["agents"] for s in summaries] == homes
    assert sorted(agent for agents in homes for agent in agents) == [0, 1, 2, 3]
    assert [s["incarnation"] for s in summaries] == [int(host == victim) for host in range(3)]
    assert [s["rounds"] for s in summaries] == [ROUNDS] * 3
    assert [s["deadlines_expired"] for s in summaries] == [0] * 3
    for host in others:
        assert any(note["incarnation"] == 1 for note in run.notes(host, "joined"))
        assert not set(summaries[host]["refusals"]) - {"silent"}, json.dumps(
            summaries[host]["refusals"]
        )
    for host in (0, 1):
        check_entries(run, host)
