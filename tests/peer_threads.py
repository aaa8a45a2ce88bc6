"""Processes of a run as threads of this one: what they do can be watched and patched."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from p2pfrl.deploy.audit import AUDIT
from p2pfrl.deploy.process import Place, deploy
from p2pfrl.deploy.status import read_status
from p2pfrl.net.fleet import Address
from p2pfrl.net.mesh import Security, Timing
from p2pfrl.scenario import Scenario

DEADLINE = 60.0
TIMING = Timing(heartbeat=2.0, timeout=20.0, start=60.0)


class Fleet:
    """Processes of a run, each as a thread of this one."""

    def __init__(self, scenario: Scenario, root: Path) -> None:
        self.scenario, self.root = scenario, root
        self.summaries: dict[int, Mapping[str, Any]] = {}
        self.meeting: Address | None = None
        self._threads: dict[int, threading.Thread] = {}
        self._met = threading.Event()

    def home(self, agent: int) -> Path:
        return self.root / str(agent)

    def start(self, *agents: int) -> None:
        for agent in agents:
            thread = threading.Thread(target=self._run, args=(agent,), daemon=True)
            self._threads[agent] = thread
            thread.start()
            assert self._met.wait(DEADLINE)

    def _run(self, agent: int) -> None:
        def announce(address: Address) -> None:
            self.meeting = address
            self._met.set()

        place = Place((agent,), lead=agent == 0, rendezvous=self.meeting or ("127.0.0.1", 0))
        self.summaries[agent] = deploy(
            self.scenario,
            place,
            self.home(agent),
            security=Security(),
            timing=TIMING,
            quiet=True,
            announce=announce,
        )

    def until(self, agent: int, is_so: Callable[[Mapping[str, Any]], bool]) -> None:
        """Wait until a status says so."""
        limit = time.monotonic() + DEADLINE
        while not ((found := read_status(self.home(agent))) and is_so(found)):
            assert time.monotonic() < limit
            time.sleep(0.01)

    def join(self, *agents: int) -> None:
        for agent in agents:
            self._threads[agent].join(DEADLINE)
            assert not self._threads[agent].is_alive()

    def audit(self, agent: int) -> list[dict[str, Any]]:
        return [json.loads(line) for line in (self.home(agent) / AUDIT).read_text().splitlines()]
