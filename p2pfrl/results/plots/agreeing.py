"""Film of consensus: the agents' graph, colored by disagreement round by round, as a GIF."""

from __future__ import annotations

from pathlib import Path

import matplotlib as mpl
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from p2pfrl.core.errors import RecordError
from p2pfrl.results.groups import scenario_keys
from p2pfrl.results.numbers import drawable, number
from p2pfrl.results.plots.film import write_film
from p2pfrl.results.plots.graph import pairs_of, places
from p2pfrl.results.record import Record

_SIZE, _FINER = 360, 2  # pixels, and how many times finer it is drawn
_MARGIN = 0.09  # share of the picture around the graph, and once more below it for the text
_MOST_FRAMES = 120
_MOST_EDGES = 4000
_PER_SECOND = 8
_NAMED = 8  # pixels of the smallest mark that has its agent's number
_DARK = 380  # sum of red, green and blue below which a number is white


def film_of_consensus(record: Record, path: Path) -> int:
    """Write the film and return its number of frames.

    Dark agents are far from the average, on a log scale that is the same in all frames. Of more
    than 120 rounds, as many are shown, evenly spaced; of more than 4000 edges none.

    Raises:
        RecordError: the run has no rounds in which agents disagree.
    """
    rounds, colors = _colors(record)
    if not len(rounds):
        raise RecordError(f"{path}: the run has no round in which agents disagree")
    kind = str(scenario_keys(record.scenario).get("topology.kind"))
    marks = _pixels(places(record.graph, {}, kind))
    edges, _ = pairs_of(record.graph, kind)
    if len(edges) > _MOST_EDGES:
        edges = []
    distance = dict(
        zip(
            record.metrics["round"].tolist(),
            record.metrics["consensus_distance"].tolist(),
            strict=True,
        )
    )
    frames = []
    for round, shades in zip(rounds.tolist(), colors, strict=True):
        far = distance.get(float(round), np.nan)
        away = "; white: away" if (shades == 255).all(axis=1).any() else ""
        text = (
            f"round {round:g}, consensus distance {number(far)}\ndark: far from the average{away}"
        )
        frames.append(_frame(marks, edges, shades, text))
    write_film(frames, path, 1000 // _PER_SECOND)
    return len(frames)


def _colors(record: Record) -> tuple[NDArray[np.float64], NDArray[np.uint8]]:
    """Return the rounds that are shown, and the color of every agent in each `(rounds, n, 3)`."""
    own = drawable(record.agents.get("round", ()))
    values = drawable(record.agents.get("disagreement", ()))
    known = np.isfinite(own) & (values > 0)
    if not known.any():
        return np.empty(0), np.empty((0, 0, 3), dtype=np.uint8)
    rounds = np.unique(own[known])
    if len(rounds) > _MOST_FRAMES:
        rounds = rounds[np.linspace(0, len(rounds) - 1, _MOST_FRAMES).round().astype(int)]
    low, high = np.log(np.quantile(values[known], (0.02, 1.0)))
    span = max(float(high - low), 1e-9)
    shades = np.full((len(rounds), record.graph.n, 3), 255, dtype=np.uint8)
    place = np.searchsorted(rounds, own)
    shown = (place < len(rounds)) & (rounds[np.minimum(place, len(rounds) - 1)] == own)
    with np.errstate(divide="ignore", invalid="ignore"):
        share = np.clip((np.log(values) - low) / span, 0.0, 1.0)
    share = np.where(values == 0, 0.0, share)
    shown &= np.isfinite(share)
    colors = mpl.colormaps["YlOrBr"](share[shown])[:, :3]
    shades[place[shown], record.agents["agent"][shown]] = (255 * colors).astype(np.uint8)
    return rounds, shades


def _pixels(places: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return positions as pixels of a frame, the vertical axis downward."""
    low, high = places.min(axis=0), places.max(axis=0)
    span = float(max((high - low).max(), 1e-9))
    scale = _FINER * _SIZE * (1 - 3 * _MARGIN) / span
    middle = (places - (low + high) / 2) * scale
    center = _FINER * _SIZE * np.array([0.5, 0.5 - _MARGIN / 2])
    return np.asarray(center + middle * np.array([1.0, -1.0]))


def _frame(
    marks: NDArray[np.float64],
    edges: list[tuple[int, int]],
    shades: NDArray[np.uint8],
    text: str,
) -> Image.Image:
    image = Image.new("RGB", (_FINER * _SIZE, _FINER * _SIZE), "white")
    draw = ImageDraw.Draw(image)
    points = marks.tolist()
    for one, other in edges:
        draw.line((*points[one], *points[other]), fill="#9a9a9a", width=_FINER)
    radius = float(np.clip(0.2 * _SIZE * _FINER / np.sqrt(len(points)), 1.5 * _FINER, 15 * _FINER))
    for (x, y), color in zip(points, shades.tolist(), strict=True):
        box = (x - radius, y - radius, x + radius, y + radius)
        draw.ellipse(box, fill=tuple(color), outline="#6b6b6b", width=_FINER if radius > 6 else 0)
    if radius >= _NAMED * _FINER:
        small = ImageFont.load_default(9 * _FINER)
        for agent, ((x, y), color) in enumerate(zip(points, shades.tolist(), strict=True)):
            ink = "white" if sum(color) < _DARK else "#222222"
            draw.text((x, y), str(agent), fill=ink, font=small, anchor="mm")
    font = ImageFont.load_default(12 * _FINER)
    margin = 6 * _FINER
    above = _FINER * _SIZE - margin - 15 * _FINER * text.count("\n")
    draw.text((margin, above), text, fill="#222222", font=font, anchor="ls")
    return image.reduce(_FINER)
