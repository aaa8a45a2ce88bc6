"""Scenes: a moment of an environment as boxes, discs and lines, to be drawn."""

from __future__ import annotations

from dataclasses import dataclass

BLUE, ORANGE, GREEN, RED = "#0072B2", "#E69F00", "#009E73", "#b2182b"
DARK, PALE, LIGHT = "#6b6b6b", "#d9d9d9", "#efefef"


@dataclass(frozen=True, slots=True)
class Box:
    """A box around a point.

    Attributes:
        x, y: its center.
        width, height: of it.
        color: as #rrggbb.
    """

    x: float
    y: float
    width: float
    height: float
    color: str


@dataclass(frozen=True, slots=True)
class Disc:
    """A disc, with a text on it.

    Attributes:
        x, y: its center.
        radius: of it.
        color: as #rrggbb.
        text: on it.
    """

    x: float
    y: float
    radius: float
    color: str
    text: str = ""


@dataclass(frozen=True, slots=True)
class Rod:
    """A straight line between two points.

    Attributes:
        ends: (x, y) of both.
        width: of the line.
        color: as #rrggbb.
    """

    ends: tuple[tuple[float, float], tuple[float, float]]
    width: float
    color: str


Shape = Box | Disc | Rod


@dataclass(frozen=True, slots=True)
class Scene:
    """What there is to see, later shapes before earlier ones.

    Attributes:
        width, height: from 0, the left and lower end, to what is drawn.
        shapes: in these units.
        text: below.
    """

    width: float
    height: float
    shapes: tuple[Shape, ...]
    text: str = ""
