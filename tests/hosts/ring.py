"""A ring of peers on hosts of their own, and what is asked of it."""

from __future__ import annotations

import itertools
import json
import signal
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from hashlib import blake2b
from pathlib import Path
from typing import Any

import pytest
from hosts import Hosts, UnavailableError

import p2pfrl
from p2pfrl.deploy.entries import Entry
from p2pfrl.deploy.journal import Reader
from p2pfrl.net.fleet import show_agents
from p2pfrl.scenario import load

HERE = Path(__file__).parent
PATIENCE = 150.0
QUADRATIC = HERE / "quadratic_ring.toml"


class Run:
    """A ring with one agent per host, or others as `agents` says."""

    def __init__(
        self,
        hosts: Hosts,
        out: Path,
        overrides: Mapping[str, object],
        scenario: Path | str = QUADRATIC,
        agents: Sequence[Sequence[int]] | None = None,
        **task: Any,
    ) -> None:
        self.hosts = hosts
        self.agents = [[i] for i in range(hosts.number)] if agents is None else agents
        self.out = out
        self.peers = [self._start(i, scenario, overrides, task) for i in range(hosts.number)]
        self._again = lambda i: self._start(i, scenario, overrides, task)

    def _start(
        self, host: int, scenario: Path | str, overrides: Mapping[str, object], task: Any
    ) -> Any:
        address = self.hosts.address
        table = ",".join(
            f"{show_agents(agents)}={address(i)}:7000" for i, agents in enumerate(self.agents)
        )
        n = sum(agent >= 0 for agents in self.agents for agent in agents)
        described = {
            "scenario": str(scenario),
            "overrides": {"agents": n, **overrides},
            "agents": self.agents[host],
            "bind": f"{address(host)}:7000",
            "peers": table,
            "out": str(self.directory(host)),
            "timing": {"start": 60.0},
            **task,
        }
        self.out.mkdir(exist_ok=True)
        with (self.out / f"stderr-{host}.txt").open("ab") as errors:
            return self.hosts.start(
                host,
                [sys.executable, str(HERE / "host_peer.py"), json.dumps(described)],
                stderr=errors,
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
        return (
            [item for _, item in Reader(path).scan() if isinstance(item, Entry)]
            if path.exists()
            else []
        )

    def round(self, host: int) -> int:
        entries = self.entries(host)
        return entries[-1].round if entries else -1

    def until(self, what: str, holds: Callable[[], bool]) -> None:
        """Wait for something that a peer writes down."""
        deadline = time.monotonic() + PATIENCE
        while not holds():
            assert time.monotonic() < deadline, f"not within {PATIENCE:g} s: {what}"
            for host, peer in enumerate(self.peers):
                assert peer.poll() in (None, 0, 130, -9), (
                    self.out / f"stderr-{host}.txt"
                ).read_text()[-2000:]
            time.sleep(0.05)


def made(number: int, **options: Any) -> Iterator[Hosts]:
    try:
        hosts = Hosts(number, **options).__enter__()
    except UnavailableError as error:
        pytest.skip(f"no network namespaces here: {error}")
    try:
        yield hosts
    finally:
        hosts.__exit__(None, None, None)


def digests(scenario: Path | str, overrides: Mapping[str, object], n: int) -> list[str]:
    record = p2pfrl.run(load(scenario, overrides={"agents": n, **overrides}))
    return [blake2b(row.tobytes(), digest_size=16).hexdigest() for row in record.parameters]


def check_entries(run: Run, host: int, oldest: int = 0) -> list[int]:
    """Check what must hold of every life and death; return the rounds in the order written."""
    entries = run.entries(host)
    rounds = [entry.round for entry in entries]
    assert all(a < b for a, b in itertools.pairwise(rounds)), "rounds go back"
    lags = [tau for entry in entries for tau in entry.staleness.values()]
    assert max(lags, default=0) <= oldest, "stale messages were applied"
    assert all(len(set(entry.staleness)) <= 2 for entry in entries)
    return rounds


def kill(run: Run, host: int) -> None:
    run.peers[host].send_signal(signal.SIGKILL)
    assert run.peers[host].wait(30) == -signal.SIGKILL
