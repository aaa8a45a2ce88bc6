"""One peer as a process of its own, for the tests.

Usage: `python host_peer.py '{"scenario": ..., ...}'`.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from p2pfrl.core.state import State
from p2pfrl.deploy.process import Place, deploy
from p2pfrl.learning.trainer import Trainer
from p2pfrl.net.checkpoint import Checkpoints
from p2pfrl.net.fleet import Fleet, parse_address
from p2pfrl.net.mesh import Security, Timing
from p2pfrl.scenario import load


def _stop_saving_after(last: int) -> None:
    """Save no round after `last`, so that a test can kill everyone at the same one."""
    save = Checkpoints.save

    def until(
        self: Checkpoints, agent: int, round: int, trainer: Trainer, memory: State | None = None
    ) -> None:
        if round <= last:
            save(self, agent, round, trainer, memory)

    Checkpoints.save = until  # type: ignore[method-assign]


def main() -> int:
    task = json.loads(sys.argv[1])
    scenario = load(task["scenario"], overrides=task["overrides"])
    lead = task.get("rendezvous")
    place = Place(
        tuple(task["agents"]),
        bind=parse_address(task["bind"]),
        lead=task.get("lead", False),
        rendezvous=parse_address(lead) if lead else None,
        fleet=None if lead else Fleet.parse(task["peers"]),
    )
    if "saves_until" in task:
        _stop_saving_after(task["saves_until"])
    summary = deploy(
        scenario,
        place,
        Path(task["out"]),
        security=Security(),
        timing=Timing(**task["timing"]),
        quiet=True,
    )
    return 130 if summary["stopped_by"] == "interrupt" else 0


if __name__ == "__main__":
    sys.exit(main())
