"""Figures on axes of one's own: `p2pfrl.plots.consensus(record, ax=ax)`.

Every function takes a record or several, and axes, or as many as the figure has panels; without
axes it makes a figure in the project's style. Records that differ only in the seed become one line
with its interval. Curves have one panel, against `x`.

Example:
    figure, ax = matplotlib.pyplot.subplots()
    p2pfrl.plots.returns([first, second], ax=ax, x="bytes")
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

from p2pfrl.core.errors import P2PFRLError
from p2pfrl.core.wording import did_you_mean, show
from p2pfrl.results.groups import group
from p2pfrl.results.plots import FIGURES, register
from p2pfrl.results.plots import Figure as Kind
from p2pfrl.results.plots.style import Drawing, on, style
from p2pfrl.results.record import Record

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

X = Literal["rounds", "bytes", "seconds", "steps"]
_COLUMNS = {
    "rounds": "round",
    "bytes": "bytes_sent",
    "seconds": "virtual_seconds",
    "steps": "env_steps",
}
Records = Record | Sequence[Record]


def figure(
    name: str, records: Records, ax: Axes | Sequence[Axes] | None = None, x: X | None = None
) -> Figure:
    """Draw the figure of a name, out of those of `p2pfrl plot --figure`, and return it.

    Args:
        name: of the figure.
        records: runs.
        ax: axes to draw on, as many as the figure has panels; None for a new figure.
        x: horizontal axis of curves. A figure with curves has one panel then.

    Raises:
        P2PFRLError: there is no such figure, the runs have no data for it, or it has another number
            of panels.
    """
    if name not in FIGURES:
        raise P2PFRLError(f"plots: there is no figure {show(name)}{did_you_mean(name, FIGURES)}")
    kind = FIGURES[name]
    if x is not None and x not in _COLUMNS:
        raise P2PFRLError(f"x: expected one of {', '.join(_COLUMNS)}, got {show(x)}")
    if x is not None and not kind.takes_x:
        raise P2PFRLError(
            f"x: the figure {name!r} has no curves whose horizontal axis can be chosen"
        )
    groups = group([records] if isinstance(records, Record) else records)
    if kind.each:
        groups = groups[:1]
    column = None if x is None else _COLUMNS[x]
    if ax is None:
        with style(x=column):
            found = kind.draw(groups)
    else:
        axes = list(ax) if isinstance(ax, Sequence) else [ax]
        with on(axes, column):
            found = kind.draw(groups)
    if found is None:
        raise P2PFRLError(f"plots: the runs have no data for the figure {name!r}")
    return found.figure


def consensus(records: Records, ax: Axes | None = None, x: X = "rounds") -> Figure:
    """Draw the consensus distance, with the line that lambda_2 predicts."""
    return figure("consensus", records, ax, x)


def returns(records: Records, ax: Axes | None = None, x: X = "rounds") -> Figure:
    """Draw learning curves: the mean return of the agents."""
    return figure("return", records, ax, x)


def fairness(records: Records, ax: Sequence[Axes] | None = None, x: X = "rounds") -> Figure:
    """Draw the return of the worst decile of agents, and Jain's index on second axes."""
    return figure("fairness", records, ax, x)


def profile(records: Records, ax: Axes | None = None) -> Figure:
    """Draw performance profiles of groups of runs."""
    return figure("profile", records, ax)


__all__ = ["Drawing", "Kind", "consensus", "fairness", "figure", "profile", "register", "returns"]
