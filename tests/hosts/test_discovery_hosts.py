"""Peers on hosts of their own find their lead by multicast DNS.

They find it on the network that it listens on and on no other.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from hosts import Hosts
from ring import QUADRATIC, made

pytest.importorskip(
    "zeroconf", reason="the package zeroconf is not installed (pip install -e '.[lan]')"
)


@pytest.fixture
def pair() -> Iterator[Hosts]:
    """Two hosts on a bridge."""
    yield from made(2)


def start(hosts: Hosts, host: int, bind: str, out: Path, *options: str) -> subprocess.Popen[str]:
    command = [
        sys.executable,
        "-m",
        "p2pfrl",
        "peer",
        str(QUADRATIC),
        "--discover",
        "--bind",
        f"{bind}:0",
        "--json",
        "--quiet",
        "--out",
        str(out / str(host)),
        *options,
    ]
    return hosts.start(host, command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)


@pytest.mark.slow
def test_a_lead_on_another_host_is_found(pair: Hosts, tmp_path: Path) -> None:
    insecure = ("--insecure", "--start-timeout", "60")
    peers = [
        start(pair, 0, pair.address(0), tmp_path, "--lead", "--agents", "0-1", *insecure),
        start(pair, 1, pair.address(1), tmp_path, "--count", "2", *insecure),
    ]
    said = [peer.communicate(timeout=90) for peer in peers]
    assert [peer.returncode for peer in peers] == [0, 0], said
    assert [json.loads(out.splitlines()[-1])["rounds"] for out, _ in said] == [20, 20]


@pytest.mark.slow
def test_a_lead_on_loopback_is_not_announced_to_the_network(pair: Hosts, tmp_path: Path) -> None:
    lead = start(pair, 0, "127.0.0.1", tmp_path, "--lead", "--agents", "0-1")
    assert lead.stdout is not None
    assert "rendezvous" in lead.stdout.readline()
    other = start(
        pair, 1, pair.address(1), tmp_path, "--count", "2", "--insecure", "--start-timeout", "5"
    )
    _, said = other.communicate(timeout=60)
    assert other.returncode == 1
    assert "heard: nobody" in said
    assert "on the network of 10.77.0.2 within 5 s" in said
