"""Data of a figure as CSV: what it shows, thinned or aggregated as it is drawn."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Sequence
from itertools import islice, repeat
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.collections import PathCollection, PolyCollection
from matplotlib.container import BarContainer
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator
from numpy.typing import NDArray

from p2pfrl.results.plots.bars import Bars

COLUMNS = (
    *("panel", "kind", "series"),
    *("x", "y", "x_end", "y_end", "value", "x_label", "y_label", "agent"),
)
"""Columns of the file.

`kind` is `point` of a line or a mark, with `value` where its color shows one; `band`, from (x, y)
to (x, y_end); `bar`, from (x, y) to (x_end, y_end); or `cell`, of a map, with its `value`. Where an
axis has names in place of numbers, `x_label` and `y_label` are those nearest to its middle. `agent`
is the agent or coordinator of a point, a bar or a cell that is of one alone.
"""
_CORNERS = ("x", "y", "x_end", "y_end")


_AGENTS: WeakKeyDictionary[Artist, Sequence[int | str]] = WeakKeyDictionary()
"""Agents of what artists show, for as long as the artists exist."""


def belong(artist: Artist, agents: Sequence[int | str]) -> None:
    """Note whose points or bars an artist shows, or whose rows of a map: names in their order."""
    _AGENTS[artist] = agents


def _agents(artist: Artist) -> Iterator[str | None]:
    """Yield the agents of what an artist shows, and then None without end."""
    yield from map(str, _AGENTS.get(artist, ()))
    yield from repeat(None)


def encode_data(figure: Figure, name: str) -> bytes:
    """Return the data of a figure as CSV, below a comment with its name and those of its axes."""
    out = io.StringIO()
    shown = [axes for axes in figure.axes if axes.get_label() != "<colorbar>"]
    called = [
        f"; {_panel(axes, n)}: {text}"
        for n, axes in enumerate(shown)
        if (text := _axes_in_words(axes))
    ]
    out.write(f"# data of the figure {name} by p2pfrl{''.join(dict.fromkeys(called))}\n")
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(COLUMNS)
    for place, axes in enumerate(shown):
        panel = _panel(axes, place)
        names = {f"{place}_label": _names(getattr(axes, f"{place}axis")) for place in "xy"}
        for row in _rows(axes):
            for column, known in names.items():
                row[column] = _nearest(known, row, column[0])
            writer.writerow([panel, *(_text(row.get(column)) for column in COLUMNS[1:])])
    return out.getvalue().encode()


def _panel(axes: Axes, place: int) -> str:
    """Return the name of a panel: its title, or else what its horizontal axis is called."""
    return axes.get_title(loc="left") or axes.get_title() or axes.get_xlabel() or str(place)


def _axes_in_words(axes: Axes) -> str:
    """Return what the axes of a panel are called; "" if they are not."""
    called = {"x": axes.get_xlabel(), "y": axes.get_ylabel()}
    return ", ".join(
        f"{name} is {' '.join(label.split())}" for name, label in called.items() if label
    )


def _names(axis: Axis) -> dict[float, str]:
    """Return the names that an axis has at places; none where it has numbers."""
    if not isinstance(axis.get_major_locator(), FixedLocator):
        return {}
    labels = [label.get_text().replace("\n", " ") for label in axis.get_ticklabels()]
    found = dict(zip(map(float, axis.get_ticklocs()), labels, strict=False))
    return {} if all(name == f"{place:g}" for place, name in found.items()) else found


def _nearest(names: dict[float, str], row: dict[str, Any], axis: str) -> str | None:
    """Return the name at the middle of what a row shows; None if the nearest is half of 1 away."""
    if not names:
        return None
    middle = 0.5 * (row[axis] + row.get(f"{axis}_end", row[axis]))
    place = min(names, key=lambda place: abs(place - middle))
    return names[place] if abs(place - middle) < 0.5 else None


def _text(value: object) -> str:
    """Return a cell; a number that is nothing is empty."""
    if value is None or (isinstance(value, float) and not np.isfinite(value)):
        return ""
    return f"{value:.9g}" if isinstance(value, float) else str(value)


def _rows(axes: Axes) -> Iterator[dict[str, Any]]:
    for line in axes.lines:
        if line.get_transform() != axes.transData:
            continue  # a line across the panel, or a mark at its edge
        for x, y in zip(*map(_numbers, line.get_data()), strict=True):
            yield {"kind": "point", "series": _name(line.get_label()), "x": x, "y": y}
    for collection in axes.collections:
        series = _name(collection.get_label())
        if isinstance(collection, PathCollection):
            colors = collection.get_array()
            known = [] if colors is None else _numbers(colors)
            points = np.asarray(collection.get_offsets()).tolist()
            for place, (agent, (x, y)) in enumerate(zip(_agents(collection), points, strict=False)):
                value = known[place] if place < len(known) else None
                own = {"kind": "point", "series": series, "agent": agent}
                yield own | {"x": x, "y": y, "value": value}
        elif isinstance(collection, Bars):
            own = {"kind": "bar", "series": series}
            corners = collection.corners.tolist()
            for agent, ends in zip(_agents(collection), corners, strict=False):
                yield own | dict(zip(_CORNERS, ends, strict=True)) | {"agent": agent}
        elif isinstance(collection, PolyCollection):
            for path in collection.get_paths():
                yield from _band(np.asarray(path.vertices, dtype=np.float64), series)
    for container in axes.containers:
        if isinstance(container, BarContainer):
            for bar in container.patches:
                corner = (float(bar.get_x()), float(bar.get_y()))
                yield {
                    "kind": "bar",
                    "series": _name(container.get_label()),
                    "x": corner[0],
                    "y": corner[1],
                    "x_end": corner[0] + float(bar.get_width()),
                    "y_end": corner[1] + float(bar.get_height()),
                }
    for image in axes.images:
        left, right, bottom, top = image.get_extent()
        cells = np.ma.filled(np.ma.asarray(image.get_array(), dtype=np.float64), np.nan)
        rows, columns = cells.shape
        agents = [*islice(_agents(image), rows)]
        for row, column in np.ndindex(rows, columns):
            yield {
                "kind": "cell",
                "agent": agents[row],
                "x": left + (column + 0.5) * (right - left) / columns,
                "y": _height(image.origin, row, rows, bottom, top),
                "value": float(cells[row, column]),
            }


def _height(origin: str, row: int, rows: int, bottom: float, top: float) -> float:
    """Return the middle of a row of a map."""
    share = (row + 0.5) / rows
    return bottom + share * (top - bottom) if origin == "lower" else top - share * (top - bottom)


def _band(corners: NDArray[np.float64], series: str) -> Iterator[dict[str, Any]]:
    """Yield the lower and upper end at every x of an area between two curves.

    Matplotlib's polygon is: the first point of the upper curve, the lower curve, the last point of
    the upper one, and the upper curve backwards.
    """
    count = (len(corners) - 3) // 2
    if count < 1:
        return
    one, other = corners[1 : count + 1], corners[count + 2 : 2 * count + 2][::-1]
    if len(other) != count or not np.allclose(one[:, 0], other[:, 0]):
        return
    for (x, a), b in zip(one.tolist(), other[:, 1].tolist(), strict=True):
        yield {"kind": "band", "series": series, "x": x, "y": min(a, b), "y_end": max(a, b)}


def _name(label: object) -> str:
    """Return a label; those that matplotlib gives itself are none."""
    return "" if str(label).startswith("_") else str(label)


def _numbers(values: object) -> list[float]:
    return np.ma.filled(np.ma.asarray(values, dtype=np.float64), np.nan).ravel().tolist()
