"""Processes of one deployment that a test kills, -9, and starts again with the same arguments."""

from __future__ import annotations

import json
import multiprocessing
import os
import time
from collections.abc import Mapping, Sequence
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path

from processes import DEADLINE, TIMING
from safetensors import safe_open

from p2pfrl.deploy.process import Place, deploy
from p2pfrl.net.fleet import show_agents
from p2pfrl.net.mesh import Security
from p2pfrl.scenario import loads


class Fleet:
    """One process per group of agents; the first leads.

    Args:
        text: of the scenario file.
        groups: who lives together.
        root: of the run directories.
        quiet: whether the processes print nothing.
        at: where the lead listened when it was started before; None for the first time.
    """

    def __init__(
        self,
        text: str,
        groups: Sequence[Sequence[int]],
        root: Path,
        *,
        quiet: bool = True,
        at: tuple[str, int] | None = None,
    ) -> None:
        self._text = text
        self._quiet = quiet
        self._groups = groups
        self.homes = [root / show_agents(agents) for agents in groups]
        self._context = multiprocessing.get_context("forkserver")
        self._context.set_forkserver_preload(["p2pfrl.deploy.process", "p2pfrl.net.certificates"])
        self._hears, self._says = self._context.Pipe(duplex=False)
        self.lead = ("127.0.0.1", 0) if at is None else at
        self._is_again = at is not None
        self._living: dict[int, BaseProcess] = {}
        self._started: list[BaseProcess] = []

    def __enter__(self) -> Fleet:
        self.start(0)
        if not self._is_again:
            assert self._hears.poll(DEADLINE), "the lead did not say where it listens"
            self.lead = self._hears.recv()
        for number in range(1, len(self._groups)):
            self.start(number)
        return self

    def __exit__(self, *_: object) -> None:
        for process in self._started:
            process.kill()
            process.join()
        self._hears.close()
        self._says.close()

    def start(self, number: int) -> None:
        """Start a process."""
        place = Place(
            tuple(self._groups[number]),
            lead=number == 0,
            rendezvous=self.lead if number else ("127.0.0.1", 0),
        )
        self.homes[number].parent.mkdir(parents=True, exist_ok=True)
        arguments = (self._text, place, self.homes[number], self._says, self._quiet)
        process = self._context.Process(target=_peer, args=arguments, daemon=True)
        process.start()
        self._living[number] = process
        self._started.append(process)

    def kill(self, number: int, checkpoint: str, times: int = 3) -> None:
        """Kill a process, -9, and start it again.

        It is killed once a checkpoint of its own was written so many times.
        """
        self.end_for_good(number, checkpoint, times)
        self.start(number)

    def end_for_good(self, number: int, checkpoint: str, times: int = 3) -> None:
        """Kill a process, -9, once a checkpoint of its own was written so many times."""
        self._wait(self.homes[number] / "checkpoints" / f"{checkpoint}.safetensors", times)
        self.kill_now(number)

    def kill_now(self, number: int) -> None:
        """Kill a process, -9, at once."""
        process = self._living[number]
        process.kill()
        process.join()
        assert process.exitcode == -9

    def wait_for_link(self, number: int) -> None:
        """Wait until a process that was started again has joined the others."""
        log = self.homes[number] / "log.jsonl"
        before = log.read_text().count('"joined"')
        patience = time.monotonic() + DEADLINE
        while log.read_text().count('"joined"') < before + len(self._groups) - 1:
            assert time.monotonic() < patience, f"{log}: the others were not joined"
            time.sleep(0.01)

    def said(self, number: int) -> str:
        """Return what a process has printed on stderr since it was started for the first time."""
        return _stderr(self.homes[number]).read_text()

    def join(self, number: int, seconds: float) -> None:
        """Wait until a process ends by itself."""
        self._living[number].join(seconds)

    def code(self, number: int) -> int | None:
        """Return with what a process ended; None if it runs."""
        return self._living[number].exitcode

    def advance(self, number: int, round: int) -> None:
        """Wait until agent 0 of a process has a checkpoint of a later round."""
        path = self.homes[number] / "checkpoints" / "agent-0.safetensors"
        before = path.stat().st_mtime_ns
        self._wait(path, 2)
        assert path.stat().st_mtime_ns > before
        with safe_open(path, "numpy") as file:
            assert int(file.metadata()["round"]) >= round - 1

    def _wait(self, checkpoint: Path, times: int) -> None:
        """Wait until a checkpoint was written so many times from now on."""
        seen: set[int] = set()
        patience = time.monotonic() + DEADLINE
        while len(seen) <= times:
            assert time.monotonic() < patience, f"{checkpoint} did not change"
            if checkpoint.exists():
                seen.add(checkpoint.stat().st_mtime_ns)
            time.sleep(0.001)

    def end(self, seconds: float = DEADLINE) -> Mapping[int, int]:
        """Wait for all to end, each for so long; return how often each was started again."""
        found = {}
        for number, process in self._living.items():
            process.join(seconds)
            assert process.exitcode == 0, f"{self._groups[number]} ended with {process.exitcode}"
            summary = json.loads((self.homes[number] / "peer.json").read_text())
            found[number] = summary["incarnation"]
        return found


def _stderr(home: Path) -> Path:
    return home.with_name(f"{home.name}.stderr")


def _peer(text: str, place: Place, out: Path, says: Connection, quiet: bool) -> None:
    # The fork server has the stderr of the test that was the first to start it.
    with _stderr(out).open("ab") as file:
        os.dup2(file.fileno(), 2)
    deploy(
        loads(text),
        place,
        out,
        security=Security(),
        timing=TIMING,
        quiet=quiet,
        announce=says.send,
    )
