"""Deployment on this machine: a scenario's agents as processes over TCP on loopback."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import IO

from p2pfrl.build.participants import share
from p2pfrl.core.children import PATIENCE
from p2pfrl.core.errors import P2PFRLError, RecordError
from p2pfrl.core.interrupts import explained, raised
from p2pfrl.core.modules import search_path
from p2pfrl.deploy.collect import collect
from p2pfrl.deploy.status import row_of
from p2pfrl.net.checkpoint import Checkpoints
from p2pfrl.net.departures import read_mark
from p2pfrl.net.fleet import Fleet, show_agents
from p2pfrl.results.directory import DEPLOYED, PEERS, clear, reserved
from p2pfrl.results.files import read_bytes
from p2pfrl.results.record import Record
from p2pfrl.scenario import Scenario, hash8
from p2pfrl.scenario.checks.attacks import refuse_attacks
from p2pfrl.scenario.checks.faults import refuse_faults
from p2pfrl.scenario.checks.notes import without_effect
from p2pfrl.scenario.render import resolved
from p2pfrl.scenario.sources import copy_files

Progress = Callable[[dict[str, float]], None]
"""Receives rows of metrics. Columns that no process knows are nan."""
_PERIOD = 0.2
"""Seconds between two looks at the processes."""


def run_processes(
    scenario: Scenario,
    directory: Path,
    jobs: int,
    *,
    quiet: bool,
    overwrite: bool = False,
    progress: Progress | None = None,
    workers: int = 1,
) -> Record:
    """Run a scenario as processes on loopback, collect their records, and return the record.

    If the directory has an interrupted run of this scenario with the same processes, it continues.

    Args:
        scenario: the scenario; its stop conditions are rounds and, as real time, virtual_time.
        directory: the run directory.
        jobs: number of processes with agents, and with the edges of a tree; the coordinator has
            another.
        quiet: whether to show no progress.
        overwrite: whether to replace a run in the directory.
        progress: called with a row when all processes have completed another round.
        workers: processes that train, of each process with agents.

    Raises:
        P2PFRLError: a process failed, or the directory has something else.
    """
    refuse_faults(scenario.faults)
    refuse_attacks(scenario)
    if not quiet and (idle := without_effect(scenario)):
        print(idle, file=sys.stderr, flush=True)
    groups = share(scenario, jobs)
    homes = [directory / PEERS / show_agents(agents) for agents in groups]
    text = resolved(scenario)
    resuming = not overwrite and _is_of(directory, text, homes)
    again = f"interrupted: the same command with --out {directory} continues"
    with reserved(directory, overwrite=overwrite, resuming=resuming), explained(again):
        known = _known(scenario, directory, homes) if resuming else None
        if known is None:
            clear(directory)
        file = directory / DEPLOYED
        (directory / PEERS).mkdir(exist_ok=True)  # both mark a run that can go on, however it ends
        file.write_text(text, encoding="utf-8")
        copy_files(scenario, directory)
        processes: list[_Process] = []
        with raised():
            try:
                # Who has opted out is not started again.
                there = [pair for pair in zip(groups, homes, strict=True) if not _is_out(pair[1])]
                for agents, home in there:
                    if known is not None:
                        where = ["--peers", _table(known)]
                    elif not processes:
                        where = ["--lead"]
                    else:
                        where = ["--rendezvous", processes[0].rendezvous()]
                    processes.append(_start(file, agents, home, where, workers, quiet=quiet))
                _follow(processes, homes, progress)
                for (agents, _), process in zip(there, processes, strict=True):
                    _finish(process, may_die=bool(scenario.standbys) and max(agents) < 0)
            finally:
                for process in processes:
                    process.end()
                for process in processes:
                    process.wait()
        return collect(homes, directory)


def _is_out(home: Path) -> bool:
    """Whether the process of a directory has opted out, and ended for that."""
    return read_mark(home).is_out


def _finish(process: _Process, *, may_die: bool) -> None:
    """Wait for the end of a process; one of a coordinator or standby alone may die.

    Raises:
        P2PFRLError: it failed.
    """
    try:
        process.finish()
    except P2PFRLError as error:
        if not may_die:
            raise
        print(f"{error}; the others went on without it", file=sys.stderr, flush=True)


def _follow(
    processes: Sequence[_Process], homes: Sequence[Path], progress: Progress | None
) -> None:
    """Report the progress of processes until they have ended."""
    last = 0.0
    while progress is not None and any(process.is_running() for process in processes):
        row = row_of(homes)
        if row is not None and row["round"] > last:
            last = row["round"]
            progress(row)
        time.sleep(_PERIOD)


def _is_of(directory: Path, text: str, homes: Sequence[Path]) -> bool:
    """Whether a directory has an unfinished run of a scenario with these processes."""
    try:
        is_same = read_bytes(directory / DEPLOYED) == text.encode()
        found = {path.name for path in (directory / PEERS).iterdir()}
    except (OSError, RecordError):
        return False
    return is_same and found <= {home.name for home in homes}


def _known(scenario: Scenario, directory: Path, homes: Sequence[Path]) -> Fleet | None:
    """Return the table of processes that met before, or None if no agent has begun.

    Raises:
        RecordError: not all of them met, so that the run cannot continue.
    """
    found = [Checkpoints(home / "checkpoints", hash8(scenario)).whereabouts() for home in homes]
    met = [known for known in found if known is not None]
    if len(met) == len(homes):
        return met[0][2]
    if any(any(home.glob("checkpoints/*.safetensors")) for home in homes):
        raise RecordError(
            f"{directory}: {len(met)} of {len(homes)} processes had met when this run was interrupted, and the "
            "others cannot join them; --overwrite begins anew"
        )
    return None


def _table(fleet: Fleet) -> str:
    """Return a table of processes as --peers takes it."""
    return ",".join(
        f"{show_agents(agents)}={host}:{port}" for (host, port), agents in fleet.processes.items()
    )


class _Process:
    """A process of the deployment. It ends when its standard input ends, as with this process.

    Args:
        agents: its agents.
        process: the running process.
    """

    def __init__(self, agents: Sequence[int], process: subprocess.Popen[str]) -> None:
        self._agents = show_agents(agents)
        self._process = process
        self._rendezvous = ""

    @property
    def _output(self) -> IO[str]:
        assert self._process.stdout is not None
        return self._process.stdout

    def rendezvous(self) -> str:
        """Return where the lead listens, from its first line of output."""
        if not self._rendezvous:  # it says so once, and all others ask
            line = self._output.readline()
            try:
                self._rendezvous = str(json.loads(line)["rendezvous"])
            except (ValueError, KeyError, TypeError) as error:
                raise P2PFRLError(f"the lead did not start{_said(line)}") from error
        return self._rendezvous

    def is_running(self) -> bool:
        """Whether it has not ended."""
        return self._process.poll() is None

    def finish(self) -> None:
        """Wait for the end of its run.

        Raises:
            P2PFRLError: it failed.
        """
        output = self._output.read()
        code = self._process.wait()
        if code:
            raise P2PFRLError(
                f"the process of agents {self._agents} ended with code {code}{_said(output)}"
            )

    def end(self) -> None:
        """Interrupt it, if it still runs."""
        if self.is_running():
            self._process.terminate()

    def wait(self) -> None:
        """Wait for its end; kill it if it does not come."""
        try:
            self._process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            assert pipe is not None
            pipe.close()


def _start(
    file: Path,
    agents: Sequence[int],
    home: Path,
    where: Sequence[str],
    workers: int,
    *,
    quiet: bool,
) -> _Process:
    words = ["--agents", show_agents(agents), "--out", str(home), *where]
    if workers > 1 and max(agents) >= 0:
        words += ["--workers", str(workers)]
    command = [sys.executable, "-m", "p2pfrl", "peer", str(file), *words, "--quiet", "--json"]
    # In a group of its own, a process does not get the interrupts of the terminal a second time.
    process = subprocess.Popen(
        [*command, "--attached"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL if quiet else None,
        text=True,
        process_group=0,
        env={**os.environ, "PYTHONPATH": search_path()},
    )
    return _Process(agents, process)


def _said(output: str) -> str:
    """Return the error in the output of a process, as the end of a sentence."""
    for line in reversed(output.splitlines()):
        try:
            return f": {json.loads(line)['error']['message']}"
        except (ValueError, KeyError, TypeError):
            continue
    return ""
