"""Groups of processes that tests start."""

from __future__ import annotations

import os
import time


def wait_until_gone(group: int) -> None:
    """Wait until no process of a group is left, for a minute at most."""
    until = time.monotonic() + 60
    while time.monotonic() < until:
        try:
            os.killpg(group, 0)
        except ProcessLookupError:
            return
        time.sleep(0.1)
    raise AssertionError("a process of the run is left")
