"""Two machines of a Ray cluster compute one run, and one goes on when the other dies."""

import importlib.util
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hosts import Hosts, sh
from ring import made

import p2pfrl
from p2pfrl.scenario import loads

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="needs ray"),
    pytest.mark.timeout(400),
]
TEXT = """
name = "w"
agents = 16
stop = {rounds = 40}
environment = {id = "cartpole", instances = 2}
learner = {kind = "ppo", hidden = [8], steps = 32}
evaluation = {episodes = 0}
"""
PORT = "6379"


class Machines:
    """Two hosts with one CPU of a cluster each.

    Args:
        hosts: two of them.
        folder: of Ray's files.
    """

    def __init__(self, hosts: Hosts, folder: Path) -> None:
        self.hosts = hosts
        self.environment = {**os.environ, "RAY_AUTH_MODE": "disabled"}
        head = ["--head", "--port", PORT, "--include-dashboard=false", f"--temp-dir={folder}"]
        for host, words in enumerate((head, ["--address", f"{hosts.address(0)}:{PORT}"])):
            own = ["--node-ip-address", hosts.address(host), "--num-cpus=1", "--block"]
            process = hosts.start(
                host,
                [str(Path(sys.executable).with_name("ray")), "start", *words, *own],
                env=self.environment,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
            )
            assert process.stdout is not None
            said = ""
            for line in process.stdout:
                said += line
                if "Ray runtime started" in line:
                    break
            assert "Ray runtime started" in said, said

    def run(self, file: Path, out: Path) -> subprocess.Popen[str]:
        words = ["scenario", str(file), "--out", str(out), "--no-report", "--workers", "2"]
        address = f"{self.hosts.address(0)}:{PORT}"
        return self.hosts.start(
            0,
            [sys.executable, "-m", "p2pfrl", *words, "--executor", "ray", "--address", address],
            env=self.environment,
            stderr=subprocess.PIPE,
        )


def kill(hosts: Hosts, host: int) -> None:
    """Kill all processes of a host."""
    for pid in sh("ip", "netns", "pids", hosts._names[host]).split():
        with suppress(ProcessLookupError):
            os.kill(int(pid), signal.SIGKILL)


@pytest.fixture
def machines() -> Iterator[Machines]:
    # Sockets of Ray have long names, and the path of one has 107 bytes at most.
    for hosts in made(2):
        with TemporaryDirectory(prefix="ray", ignore_cleanup_errors=True) as folder:
            try:
                yield Machines(hosts, Path(folder))
            finally:
                for host in range(2):
                    kill(hosts, host)


def test_two_machines_compute_one_run_and_one_of_them_may_die(machines, tmp_path):
    file, alone = tmp_path / "w.toml", p2pfrl.run(loads(TEXT))
    file.write_text(TEXT)
    run = machines.run(file, tmp_path / "both")
    _, said = run.communicate(timeout=120)
    assert run.returncode == 0, said
    summary: Any = json.loads((tmp_path / "both" / "summary.json").read_text())
    assert summary["digest"] == alone.summary["digest"]
    assert summary["workers"] == 2, said

    file.write_text(TEXT.replace("rounds = 40", "rounds = 400"))
    run = machines.run(file, tmp_path / "one")
    assert run.stderr is not None
    assert run.stderr.readline().startswith("round ")
    kill(machines.hosts, 1)
    said = run.stderr.read()
    assert run.wait(120) == 0, said
    assert "a worker of the cluster died" in said
    summary = json.loads((tmp_path / "one" / "summary.json").read_text())
    longer = p2pfrl.run(loads(file.read_text()))
    assert summary["digest"] == longer.summary["digest"]
