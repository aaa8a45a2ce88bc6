"""The peers of docs/services/compose.yaml run on hosts with its addresses, with certificates."""

from __future__ import annotations

import re
import shlex
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from hosts import Hosts
from ring import made

from p2pfrl.cli import main

COMPOSE = Path(__file__).parents[2] / "docs" / "services" / "compose.yaml"


@pytest.fixture
def bridged() -> Iterator[Hosts]:
    """Three hosts: 10.77.0.1 to 10.77.0.3, as in the file."""
    yield from made(3)


@pytest.mark.slow
def test_the_peers_of_compose_find_each_other_and_equal_the_simulator(
    bridged: Hosts, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    commands = re.findall(r"command: >-\n(.*?)    networks", COMPOSE.read_text(), re.S)
    assert len(commands) == 3
    assert main(["pki", "init", "authority"]) == 0
    peers = []
    for host, command in enumerate(commands):
        words = shlex.split(command)
        agents = words[words.index("--agents") + 1]
        assert main(["pki", "issue", agents, "--authority", "authority"]) == 0
        short = ("--set", "stop.rounds=5", "--quiet")
        peers.append(bridged.start(host, [sys.executable, "-m", "p2pfrl", *words, *short]))
    assert [peer.wait(200) for peer in peers] == [0, 0, 0]
    assert main(["collect", "runs/a", "runs/b", "runs/c", "--out", "runs/all"]) == 0
    assert main(["verify", "runs/all", "--quiet"]) == 0
