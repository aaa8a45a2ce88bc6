"""Commands on run directories. They do not import torch."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from p2pfrl.commands.arguments import DONE, Out
from p2pfrl.core.errors import ScenarioError


def plot(*runs: Path, out: Out = None) -> int:
    """Draw the figures of one run, or of several together.

    Parameters
    ----------
    runs
        Run directories.
    """
    from p2pfrl.results.report import plot as draw

    for path in draw(_some(runs), out):
        print(path)
    return DONE


def report(*runs: Path, out: Out = None) -> int:
    """Write a self-contained report of one run, or of several together.

    Parameters
    ----------
    runs
        Run directories.
    """
    from p2pfrl.results.report import report as write

    print(write(_some(runs), out))
    return DONE


def _some(runs: Sequence[Path]) -> Sequence[Path]:
    if not runs:
        raise ScenarioError(["RUN: expected at least one run directory"])
    return runs
