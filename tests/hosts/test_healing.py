"""After a cut of any length the first message comes within a second of the healing.

Short cuts lose nothing.
"""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hosts import Hosts
from ring import made

CUTS = (0.5, 1.0, 1.4, 1.7, 2.0, 3.0, 5.0)
PATIENCE = 30.0
SCRIPT = Path(__file__).with_name("pulse.py")


@pytest.fixture
def pair() -> Iterator[Hosts]:
    """Two hosts 5 ms apart."""
    yield from made(2, delay=0.005)


class Heard:
    """What a process has heard: (round, seconds) in order."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.lines: list[tuple[int, float]] = []
        self._process = process
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            word, _, round, when = line.split()
            assert word == "heard"
            self.lines.append((int(round), float(when)))

    def after(self, when: float) -> float:
        """Return when the first message came after `when`."""
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline:
            if self.lines and self.lines[-1][1] > when:
                return next(seconds for _, seconds in self.lines if seconds > when)
            time.sleep(0.01)
        pytest.fail(f"nothing heard within {PATIENCE:g} s")


@pytest.mark.slow
def test_the_first_message_after_a_cut_of_any_length_comes_within_a_second(
    pair: Hosts, tmp_path: Path, record_property: Any
) -> None:
    places = [f"{pair.address(host)}:7000" for host in (0, 1)]
    heard = []
    for host in (0, 1):
        command = [sys.executable, str(SCRIPT), str(host), places[host], places[1 - host]]
        with (tmp_path / f"stderr-{host}.txt").open("w") as errors:
            heard.append(Heard(pair.start(host, command, stdout=subprocess.PIPE, stderr=errors)))
    for side in heard:
        side.after(0.0)
    delays: dict[float, list[float]] = {}
    for cut in CUTS:
        begun = time.monotonic()
        for side in heard:
            side.after(begun + 1.0)
        pair.cut([0], [1])
        time.sleep(cut)
        pair.heal()
        healed = time.monotonic()
        delays[cut] = [side.after(healed) - healed for side in heard]
    record_property("delays", delays)
    print({cut: [round(delay, 2) for delay in found] for cut, found in delays.items()})
    assert max(max(found) for found in delays.values()) <= 1.0, delays
