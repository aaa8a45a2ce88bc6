"""Commands on run directories. They do not import torch."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from p2pfrl.commands.arguments import DONE, Formats, Names, Out, Width
from p2pfrl.core.errors import ScenarioError


def plot(
    *runs: Path,
    out: Out = None,
    width: Width = None,
    formats: Formats = "svg,png",
    only: Names = "",
) -> int:
    """Draw the figures of one run, or of several together.

    Parameters
    ----------
    runs
        Run directories.
    """
    from p2pfrl.commands.values import names, page_width
    from p2pfrl.results.plots import FIGURES, Look
    from p2pfrl.results.plots.style import FORMATS
    from p2pfrl.results.report import plot as draw

    look = Look(
        formats=names("--format", formats, FORMATS),
        width=None if width is None else page_width(width),
        only=names("--only", only, FIGURES) if only else (),
    )
    paths = draw(_some(runs), out, look)
    for path in paths:
        print(path)
    if not paths:
        print("nothing is drawn: the runs have no data for these figures", file=sys.stderr)
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
