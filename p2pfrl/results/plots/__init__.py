"""Figures of one run or of several, drawn from records alone, as SVG, PNG and PDF."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from p2pfrl.core.errors import P2PFRLError
from p2pfrl.results.files import write_bytes
from p2pfrl.results.groups import Group
from p2pfrl.results.plots.adaptation import adaptation
from p2pfrl.results.plots.consensus import consensus_distance
from p2pfrl.results.plots.curves import learning_curves
from p2pfrl.results.plots.data import encode_data
from p2pfrl.results.plots.epsilon import epsilon
from p2pfrl.results.plots.evaluation import beside
from p2pfrl.results.plots.graph import graph
from p2pfrl.results.plots.modes import modes, problem
from p2pfrl.results.plots.physics import return_by_physics
from p2pfrl.results.plots.ranking import performance_profile, time_to_target
from p2pfrl.results.plots.settings import by_setting
from p2pfrl.results.plots.spread import agents_by_rounds, fairness_over_rounds
from p2pfrl.results.plots.style import Drawing, render, style
from p2pfrl.results.plots.suspicion import suspicion
from p2pfrl.results.plots.timeline import staleness, timeline

Draw = Callable[[Sequence[Group]], Drawing | None]


@dataclass(frozen=True)
class Figure:
    """One kind of figure.

    Attributes:
        title: heading in the report.
        draw: groups -> a drawing, or None if there is nothing to draw.
        each: whether it is drawn once per group, from the group's first run, or once over all
            groups.
        most: number of groups up to which it can be read.
        takes_x: whether its horizontal axis can be chosen: its curves are against rounds, bytes,
            steps or virtual time.
        shows: what is in it, in a sentence, for lists of figures.
    """

    title: str
    draw: Draw
    each: bool = False
    most: int = 24
    takes_x: bool = False
    shows: str = ""


FIGURES: dict[str, Figure] = {
    "beside": Figure(
        "Beside baselines",
        beside,
        shows="Returns of the learned policies, of baselines and of the optimum, a dot per agent.",
    ),
    "adaptation": Figure(
        "Newcomers",
        adaptation,
        shows="Return of newcomers against their own updates, from the learned model and from scratch.",
    ),
    "modes": Figure(
        "Modes side by side",
        modes,
        takes_x=True,
        shows="Return of the modes, settings or scenarios of a comparison: who learns faster?",
    ),
    "settings": Figure(
        "Against what was varied",
        by_setting,
        most=400,
        shows="How the final return depends on one key (a curve) or on two (a heat map).",
    ),
    "profile": Figure(
        "Performance profile",
        performance_profile,
        shows="Share of the runs whose final return is at least this high (a performance profile).",
    ),
    "target": Figure(
        "Time to target",
        time_to_target,
        shows="Rounds, bytes and virtual seconds to the target return, a dot per run.",
    ),
    "return": Figure(
        "Learning curves",
        learning_curves,
        takes_x=True,
        shows="Mean return, with its spread over agents and its interval over seeds.",
    ),
    "problem": Figure(
        "Error and objective",
        problem,
        shows="Error and objective, where the optimum is known.",
    ),
    "consensus": Figure(
        "Consensus distance",
        consensus_distance,
        takes_x=True,
        shows="Distance of the agents from their average, with the predicted line lambda_2^t.",
    ),
    "fairness": Figure(
        "How evenly agents learn",
        fairness_over_rounds,
        takes_x=True,
        shows="Return of the worst decile of agents beside the mean, and Jain's index.",
    ),
    "graph": Figure(
        "Who talks to whom",
        graph,
        each=True,
        shows="Who sends to whom, colored by final return and by distance from the average.",
    ),
    "agents": Figure(
        "Agents by rounds",
        agents_by_rounds,
        each=True,
        shows="Return of every agent in every round, as a map.",
    ),
    "physics": Figure(
        "Return against physics",
        return_by_physics,
        shows="Final return of each agent against the physics in which agents differ.",
    ),
    "epsilon": Figure(
        "Privacy: epsilon so far",
        epsilon,
        shows="Privacy: the largest epsilon of an agent so far, and the budget.",
    ),
    "suspicion": Figure(
        "Who was suspected when",
        suspicion,
        each=True,
        shows="How far each agent's vectors were from what the robust rules chose.",
    ),
    "staleness": Figure(
        "Staleness",
        staleness,
        each=True,
        shows="Number of messages that were applied at each staleness.",
    ),
    "timeline": Figure(
        "Timeline",
        timeline,
        each=True,
        shows="What every agent does at the beginning of the run: trains, waits, sends.",
    ),
}


_NAME = re.compile(r"[a-z][a-z0-9]*")


def register(name: str, figure: Figure) -> None:
    """Add a kind of figure: it is drawn by `plot`, and in reports, of runs that have its data.

    Args:
        name: a lower-case word, the name of its files.
        figure: its title and how it is drawn. The function gets groups of runs and returns a
            drawing, or None where there is nothing to draw.

    Raises:
        P2PFRLError: the name is no word, or taken.
    """
    if not _NAME.fullmatch(name):
        raise P2PFRLError(
            f"register: expected a name of lower-case letters and digits, got {name!r}"
        )
    if FIGURES.get(name, figure) != figure:
        raise P2PFRLError(f"register: there is a figure {name!r}; give another name")
    FIGURES[name] = figure


@dataclass(frozen=True)
class Picture:
    """A rendered figure.

    Attributes:
        name: name of its files, without a suffix.
        title: heading.
        caption: explanation of the figure.
        files: format -> content.
    """

    name: str
    title: str
    caption: str
    files: Mapping[str, bytes]


@dataclass(frozen=True)
class Look:
    """How figures are rendered.

    Attributes:
        formats: formats of the files, out of `FORMATS`.
        width: inches of every figure; by default figures are as wide as they need.
        only: names of the figures, out of `FIGURES`; empty for all.
        paper: whether text and lines are those of a paper.
        x: column of metrics that is the horizontal axis of curves, of the figures that take one;
            None for all that a figure has.
        has_data: whether the data of a figure is beside it, as CSV.
    """

    formats: tuple[str, ...] = ("svg", "png")
    width: float | None = None
    only: tuple[str, ...] = ()
    paper: bool = False
    x: str | None = None
    has_data: bool = False


def draw(groups: Sequence[Group], look: Look = Look()) -> tuple[Picture, ...]:
    """Return every figure for which `groups` have data."""
    pictures = []
    with style(look.width, paper=look.paper, x=look.x):
        for name, figure in FIGURES.items():
            if look.only and name not in look.only:
                continue
            is_wanted = len(groups) <= figure.most and (look.x is None or figure.takes_x)
            if not look.only and not is_wanted:
                continue
            for suffix, title, part in _parts(figure, groups):
                drawing = figure.draw(part)
                if drawing is not None:
                    files = {kind: render(drawing.figure, kind) for kind in look.formats}
                    if look.has_data:
                        files["csv"] = encode_data(drawing.figure, name + suffix)
                    pictures.append(
                        Picture(
                            name + suffix,
                            (drawing.title or figure.title) + title,
                            drawing.caption.strip(),
                            files,
                        )
                    )
    return tuple(pictures)


def _parts(figure: Figure, groups: Sequence[Group]) -> list[tuple[str, str, Sequence[Group]]]:
    if not figure.each or len(groups) == 1:
        return [("", "", groups)]
    return [
        (f"_{index}_{_word(g.label) or g.mode}", f": {g.label}", [g])
        for index, g in enumerate(groups)
    ]


def _word(label: str) -> str:
    """Return a label as a part of file names.

    >>> _word("ring_16 · lr 0.1")
    'ring_16_lr_0_1'
    """
    return re.sub(r"[^A-Za-z0-9_]+", "_", label).strip("_")[:60]


def write(pictures: Sequence[Picture], folder: Path) -> tuple[Path, ...]:
    """Write the files of every picture into `folder` and return the paths."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for picture in pictures:
        for suffix, content in picture.files.items():
            path = folder / f"{picture.name}.{suffix}"
            write_bytes(path, content)
            paths.append(path)
    return tuple(paths)
