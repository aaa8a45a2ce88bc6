"""The command that makes the simulator predict a LAN."""

from __future__ import annotations

from pathlib import Path

from p2pfrl.commands.arguments import DONE, Json, Out, show
from p2pfrl.core.errors import ScenarioError


def calibrate(*directories: Path, out: Out = None, json: Json = False) -> int:
    """Write the [network] and [compute] with which the simulator predicts the peers that ran, and compare both.

    The run directories are those of an ordinary run of `p2pfrl peer`: some fifty rounds are enough.

    Parameters
    ----------
    directories
        The peers' run directories, brought to one host.
    """
    from p2pfrl.calibrate import write

    if not directories:
        raise ScenarioError(["RUN: expected the run directories of all peers"])
    target = out or directories[0].parent / "calibrated"
    show(write(directories, target), json)
    return DONE
