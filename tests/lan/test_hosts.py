"""Peers on hosts of their own: equality with the simulator, partitions, kills, hangs, and leaving."""

from __future__ import annotations

import json
import signal
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from hashlib import blake2b
from pathlib import Path
from typing import Any

import pytest
from hosts import Hosts, Unavailable

import p2pfrl
from p2pfrl.results.entries import Entry
from p2pfrl.results.journal import Reader
from p2pfrl.scenario import load

HERE = Path(__file__).parent
PATIENCE = 150.0
QUADRATIC = HERE / "quadratic_ring.toml"


class Run:
    """A ring with one agent per host."""

    def __init__(
        self, hosts: Hosts, out: Path, overrides: Mapping[str, object], scenario: Path | str = QUADRATIC, **task: Any
    ) -> None:
        self.hosts = hosts
        self.out = out
        self.peers = [self._start(i, scenario, overrides, task) for i in range(hosts.number)]
        self._again = lambda i: self._start(i, scenario, overrides, task)

    def _start(self, host: int, scenario: Path | str, overrides: Mapping[str, object], task: Any) -> Any:
        n, address = self.hosts.number, self.hosts.address
        table = ",".join(f"{i}={address(i)}:7000" for i in range(n))
        described = {
            "scenario": str(scenario), "overrides": {"agents": n, **overrides}, "agents": [host],
            "bind": f"{address(host)}:7000", "peers": table, "out": str(self.directory(host)),
            "timing": {"start": 60.0}, **task,
        }  # fmt: skip
        self.out.mkdir(exist_ok=True)
        with (self.out / f"stderr-{host}.txt").open("ab") as errors:
            return self.hosts.start(
                host, [sys.executable, str(HERE / "host_peer.py"), json.dumps(described)], stderr=errors
            )

    def directory(self, host: int) -> Path:
        return self.out / str(host)

    def restart(self, host: int) -> None:
        self.peers[host] = self._again(host)

    def end(self, hosts: Sequence[int]) -> list[dict[str, Any]]:
        """Wait for peers; return their summaries."""
        deadline = time.monotonic() + PATIENCE
        for host in hosts:
            code = self.peers[host].wait(max(1.0, deadline - time.monotonic()))
            assert code == 0, (host, code, (self.out / f"stderr-{host}.txt").read_text()[-2000:])
        return [json.loads((self.directory(host) / "peer.json").read_text()) for host in hosts]

    def notes(self, host: int, what: str) -> list[dict[str, Any]]:
        path = self.directory(host) / "log.jsonl"
        lines = path.read_text().splitlines(keepends=True) if path.exists() else []
        found = [json.loads(line) for line in lines if line.endswith("\n")]
        return [note for note in found if note["what"] == what]

    def entries(self, host: int) -> list[Entry]:
        path = self.directory(host) / "journal.bin"
        return [item for _, item in Reader(path).scan() if isinstance(item, Entry)] if path.exists() else []

    def round(self, host: int) -> int:
        entries = self.entries(host)
        return entries[-1].round if entries else -1

    def until(self, what: str, holds: Callable[[], bool]) -> None:
        """Wait for something that a peer writes down."""
        deadline = time.monotonic() + PATIENCE
        while not holds():
            assert time.monotonic() < deadline, f"not within {PATIENCE:g} s: {what}"
            for host, peer in enumerate(self.peers):
                assert peer.poll() in (None, 0, 130, -9), (self.out / f"stderr-{host}.txt").read_text()[-2000:]
            time.sleep(0.05)


def made(number: int, **options: Any) -> Iterator[Hosts]:
    try:
        hosts = Hosts(number, **options).__enter__()
    except Unavailable as error:
        pytest.skip(f"no network namespaces here: {error}")
    with_hosts = hosts
    try:
        yield with_hosts
    finally:
        hosts.__exit__(None, None, None)


@pytest.fixture
def bridged() -> Iterator[Hosts]:
    """Four hosts on a bridge of the kernel."""
    yield from made(4)


@pytest.fixture
def distant() -> Iterator[Hosts]:
    """Four hosts 30 ms apart: a round takes at least that, so there is time to do things to them."""
    yield from made(4, delay=0.03)


def digests(scenario: Path | str, overrides: Mapping[str, object], n: int) -> list[str]:
    record = p2pfrl.run(load(scenario, overrides={"agents": n, **overrides}))
    return [blake2b(row.tobytes(), digest_size=16).hexdigest() for row in record.parameters]


def check_entries(run: Run, host: int) -> list[int]:
    """Check what must hold of every life and death; return the rounds in the order written."""
    entries = run.entries(host)
    rounds = [entry.round for entry in entries]
    assert all(a < b for a, b in zip(rounds, rounds[1:], strict=False)), "rounds go back"
    assert all(tau == 0 for entry in entries for tau in entry.staleness.values()), "stale messages were applied"
    assert all(len(set(entry.staleness)) <= 2 for entry in entries)
    return rounds


def test_one_peer_per_host_ends_with_the_parameters_of_the_simulator(bridged: Hosts, tmp_path: Path) -> None:
    overrides = {"stop.rounds": 15}
    run = Run(bridged, tmp_path / "run", overrides)
    summaries = run.end(range(4))
    assert [s["parameters_digest"] for s in summaries] == digests(QUADRATIC, overrides, 4)
    assert [s["deadlines_expired"] for s in summaries] == [0] * 4
    assert all(check_entries(run, host) == list(range(15)) for host in range(4))


@pytest.mark.slow
def test_cartpole_on_four_hosts_ends_with_the_parameters_of_the_simulator(bridged: Hosts, tmp_path: Path) -> None:
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
    run.until("both halves go on", lambda: all(run.round(host) >= apart[host] + 5 for host in range(4)))
    distant.heal()
    healed = time.time()
    run.until("the links are back", lambda: all(run.notes(host, "up") for host in range(4)))
    assert max(run.notes(host, "up")[0]["time"] for host in range(4)) - healed < 3.5
    summaries = run.end(range(4))
    assert [s["rounds"] for s in summaries] == [rounds] * 4
    for host in range(4):
        done = check_entries(run, host)
        assert done[-1] == rounds - 1
        alone = [len(entry.staleness) for entry in run.entries(host)]
        assert alone[5] == 2 and 1 in alone and alone.count(2) > 20


@pytest.mark.slow
def test_a_killed_peer_comes_back_from_its_checkpoint_and_catches_up(distant: Hosts, tmp_path: Path) -> None:
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
    assert [s["incarnation"] for s in summaries] == [0, 1, 0, 0]
    assert run.notes(0, "up") and run.notes(2, "up")
    assert {note["incarnation"] for note in run.notes(0, "joined") if note["agents"] == [1]} == {0, 1}
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
    assert all(7 in [entry.round for entry in run.entries(host)][8:] for host in range(4)), "it went on from round 7"


@pytest.mark.slow
def test_a_hung_peer_is_given_up_by_deadline_and_goes_on_when_it_wakes(distant: Hosts, tmp_path: Path) -> None:
    rounds = 300
    run = Run(distant, tmp_path / "run", {"stop.rounds": rounds, "schedule.deadline": "1s"})
    run.until("ten rounds", lambda: all(run.round(host) >= 10 for host in range(4)))
    run.peers[2].send_signal(signal.SIGSTOP)
    try:
        hung = run.round(2)
        run.until("the others go on", lambda: all(run.round(host) >= hung + 20 for host in (0, 1, 3)))
        assert run.round(2) <= hung + 1
        assert run.notes(1, "lost") and run.notes(3, "lost")
    finally:
        run.peers[2].send_signal(signal.SIGCONT)
    summaries = run.end(range(4))
    assert [s["rounds"] for s in summaries] == [rounds] * 4
    assert summaries[1]["deadlines_expired"] >= 1 and summaries[3]["deadlines_expired"] >= 1
    assert any(len(entry.staleness) == 2 for entry in run.entries(2) if entry.round > hung + 20)
    for host in range(4):
        check_entries(run, host)


@pytest.mark.slow
def test_a_peer_that_is_told_to_leave_says_so_and_the_others_do_not_wait(distant: Hosts, tmp_path: Path) -> None:
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


def kill(run: Run, host: int) -> None:
    run.peers[host].send_signal(signal.SIGKILL)
    assert run.peers[host].wait(30) == -signal.SIGKILL
