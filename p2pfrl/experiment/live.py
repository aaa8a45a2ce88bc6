"""The live view of a simulated run: `live.json`, which is replaced while the run runs.

Whoever watches the run reads this file, the tables that grow (results/stream.py) and `graph.json`.
Nothing waits for a reader. A thread asks for a new view twice a second; the run then writes one
between two events. After a view that took c seconds of the processor none is written for 200 c
seconds, so that a run is slowed by half a percent at most, however many agents it has.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from p2pfrl.build.record import coordinated, talked
from p2pfrl.build.sight import sight
from p2pfrl.build.world import World
from p2pfrl.core.errors import P2PFRLError
from p2pfrl.results.directory import LIVE
from p2pfrl.results.formats import encode_graph

PERIOD = 0.5
"""Least seconds between two views."""
SHARE = 200.0
"""Seconds without a view per second that the last one took."""


class Live:
    """Writer of the live view of a run.

    Args:
        folder: the run directory.
        world: the running world.
        wall_seconds: returns the seconds that the run has taken.
        period: least seconds between two views; the first comes after one.
    """

    def __init__(
        self,
        folder: Path,
        world: World,
        wall_seconds: Callable[[], float],
        period: float = PERIOD,
    ) -> None:
        self._folder, self._world = folder, world
        self._wall_seconds = wall_seconds
        self._period = self._pause = period
        self._is_over = threading.Event()
        self._is_asked = False
        self._lambda_2: float | None = None
        self._has_graph = False
        self._thread = threading.Thread(target=self._ask, daemon=True, name="live view")

    def begin(self) -> None:
        """Ask for views from now on."""
        self._thread.start()

    def close(self) -> None:
        """Ask for no more views, and remove the last one: the record of the run replaces it."""
        self._is_over.set()
        if self._thread.is_alive():
            self._thread.join(1.0)
        with suppress(OSError):
            (self._folder / LIVE).unlink(missing_ok=True)

    def write(self) -> None:
        """Write a view. On a full disk a view is missing, and the run goes on."""
        self._is_asked = False
        if self._is_over.is_set():
            return
        with suppress(OSError):
            if not self._has_graph:
                self._write_graph()
            began = time.thread_time()
            view: dict[str, Any] = {
                "time": time.time(),
                "wall_seconds": self._wall_seconds(),
                "lambda_2": self._lambda_2,
                **sight(self._world),
            }
            temporary = self._folder / f".{LIVE}.tmp"
            temporary.write_text(json.dumps(view, separators=(",", ":")), encoding="utf-8")
            temporary.replace(self._folder / LIVE)
            self._pause = max(self._period, SHARE * (time.thread_time() - began))

    def _write_graph(self) -> None:
        """Write the graph, and take the rate of agreement, which the record needs anyway."""
        assembly = self._world.assembly
        with suppress(P2PFRLError):  # composing the record will say it
            prediction = assembly.prediction
            self._lambda_2 = None if prediction is None else prediction.lambda_2
        graph = encode_graph(talked(assembly), coordinated(assembly))
        (self._folder / "graph.json").write_bytes(graph)
        self._has_graph = True

    def _ask(self) -> None:
        """Ask the run, now and then, to write a view between two events."""
        while not self._is_over.wait(self._pause):
            if not self._is_asked:
                self._is_asked = True
                self._world.loop.when_idle(self.write)
