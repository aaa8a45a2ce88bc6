"""Command that calibrates the simulator to a LAN."""

from __future__ import annotations

import sys
from pathlib import Path

from p2pfrl.commands.arguments import DONE, Json, Out, show
from p2pfrl.core.errors import ScenarioError


def calibrate(*directories: Path, out: Out = None, json: Json = False) -> int:
    """Write the [network] and [compute] with which the simulator predicts a run, and compare both.

    The run directories are those of an ordinary run of `p2pfrl peer`; about fifty rounds are
    enough. Peers on one machine have no network to measure. Then only the compute speed is written,
    and stderr states the reason.

    Parameters
    ----------
    directories
        The peers' run directories, copied to one host.
    """
    from p2pfrl.deploy.calibrate import write

    if not directories:
        raise ScenarioError(["RUN: expected the run directories of all peers"])
    target = out or directories[0].parent / "calibrated"
    found = write(directories, target)
    show(found, json)
    if found["not_measured"]:
        print(
            f"network not measured, and nothing predicted. {found['not_measured']}.",
            file=sys.stderr,
        )
        print(
            "Measured, and written: the compute speed of the agents as they shared their cores.",
            file=sys.stderr,
        )
    return DONE
