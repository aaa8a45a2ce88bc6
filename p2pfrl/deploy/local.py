"""Deployment on this machine: a scenario's agents as processes over TCP on loopback."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import IO

from p2pfrl.build.participants import share
from p2pfrl.core.errors import P2PFRLError
from p2pfrl.deploy.collect import collect
from p2pfrl.net.fleet import show_agents
from p2pfrl.results.record import Record
from p2pfrl.scenario import Scenario
from p2pfrl.scenario.checks.faults import refuse_faults
from p2pfrl.scenario.checks.notes import without_effect
from p2pfrl.scenario.render import resolved

_PATIENCE = 10.0


def run_processes(scenario: Scenario, directory: Path, jobs: int, *, quiet: bool) -> Record:
    """Run a scenario as processes on loopback, collect their records, and return the record.

    Args:
        scenario: the scenario; its stop conditions are rounds and, as real time, virtual_time.
        directory: the run directory.
        jobs: number of processes with agents, and with the edges of a tree; the coordinator has
            another.
        quiet: whether to show no progress.

    Raises:
        P2PFRLError: a process failed.
    """
    refuse_faults(scenario.faults)
    if not quiet and (idle := without_effect(scenario)):
        print(idle, file=sys.stderr, flush=True)
    directory.mkdir(parents=True, exist_ok=True)
    file = directory / "deployed.toml"
    file.write_text(resolved(scenario), encoding="utf-8")
    groups = share(scenario, jobs)
    homes = [directory / "peers" / show_agents(agents) for agents in groups]
    processes: list[subprocess.Popen[str]] = []
    try:
        lead = _start(file, groups[0], homes[0], ["--lead", "--json"], quiet=quiet)
        processes.append(lead)
        assert lead.stdout is not None
        address = _rendezvous(lead.stdout)
        for agents, home in zip(groups[1:], homes[1:], strict=True):
            processes.append(
                _start(file, agents, home, ["--rendezvous", address, "--json"], quiet=quiet)
            )
        for process, agents in zip(processes, groups, strict=True):
            process.communicate()
            if process.returncode:
                raise P2PFRLError(
                    f"the process of agents {show_agents(agents)} ended with code {process.returncode}"
                )
    finally:
        _end(processes)
    return collect(homes, directory)


def _start(
    file: Path, agents: Sequence[int], home: Path, options: Sequence[str], *, quiet: bool
) -> subprocess.Popen[str]:
    here = ["--agents", show_agents(agents), "--out", str(home)]
    command = [sys.executable, "-m", "p2pfrl", "peer", str(file), *here, "--quiet", *options]
    error = subprocess.DEVNULL if quiet else None
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=error, stdin=subprocess.DEVNULL, text=True
    )


def _rendezvous(output: IO[str]) -> str:
    """Return where the lead listens, from its first line of output."""
    line = output.readline()
    try:
        said = json.loads(line)
        if "error" in said:
            raise P2PFRLError(f"the lead did not start: {said['error']['message']}")
        return str(said["rendezvous"])
    except (ValueError, KeyError, TypeError) as error:
        raise P2PFRLError(f"the lead did not start; it said {line!r}") from error


def _end(processes: Sequence[subprocess.Popen[str]]) -> None:
    for process in processes:
        if process.poll() is None:
            process.terminate()
    for process in processes:
        try:
            process.communicate(timeout=_PATIENCE)
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()
