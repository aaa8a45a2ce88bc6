"""Decentralized federated reinforcement learning: simulate it exactly, then deploy it unchanged.

Example:
    scenario = p2pfrl.load("ring_16.toml", overrides={"stop.rounds": 20})
    record = p2pfrl.run(scenario, seed=3)
    record.metrics["consensus_distance"]
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from p2pfrl.results.versions import __version__
from p2pfrl.scenario import Scenario, load

if TYPE_CHECKING:
    from p2pfrl.consensus.mixing import Mixing
    from p2pfrl.results.record import Record

__all__ = ["Scenario", "__version__", "load", "run"]


def run(
    scenario: Scenario,
    *,
    seed: int | None = None,
    out: str | Path | None = None,
    mixing: Mixing | None = None,
    progress: Callable[[dict[str, float]], None] | None = None,
    trace: bool = False,
) -> Record:
    """Run a scenario in the simulated world and return its record.

    Args:
        scenario: as `load` returned it.
        seed: in place of the scenario's.
        out: a directory for the record; no files are written without it.
        mixing: a rule of your own, in place of the scenario's.
        progress: called with every new row of metrics.
        trace: keep every event in the record.

    Raises:
        P2PFRLError: the run cannot be built, or everyone waits for ever.
    """
    from p2pfrl.experiment.run import simulate

    return simulate(scenario, seed=seed, out=out, mixing=mixing, progress=progress, trace=trace)
