"""Timeline figure: training, sending and waiting, and the staleness of applied messages."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from p2pfrl.core.types import name_of
from p2pfrl.results.faults import Happened, faults
from p2pfrl.results.groups import Group
from p2pfrl.results.numbers import dig, duration, scale
from p2pfrl.results.plots.bars import Bars
from p2pfrl.results.plots.data import belong
from p2pfrl.results.plots.style import ACTIONS, FAULT, GRAY, INK, Drawing, legend, panels
from p2pfrl.results.record import Interval

_AGENTS = 40
_UPDATES = 10
_MARKED = 1.0e-3  # share of the window; a shorter send is drawn with this length


def timeline(groups: Sequence[Group]) -> Drawing | None:
    """Draw the activities of every agent at the beginning of a run."""
    record = groups[0].first
    if not record.timeline:
        return None
    agents = sorted({i.agent for i in record.timeline}, key=lambda agent: (agent >= 0, agent))[
        :_AGENTS
    ]
    rows = {agent: row for row, agent in enumerate(agents)}
    happened = faults(record)
    end = window(record.timeline, [fault.seconds for fault in happened])
    unit = scale("virtual_seconds", end)
    figure, (axes,) = panels(1, size=(8.6, 1.0 + min(0.24 * len(agents) + 0.4, 7.0)))
    marked = [fault for fault in happened if fault.seconds <= end]
    for kind, color in ACTIONS.items():
        height, offset = (0.3, 0.2) if kind == "send" else (0.8, 0.0)
        least = _MARKED * end if kind == "send" else 0.0
        shown = [i for i in record.timeline if i.kind == kind and i.agent in rows and i.start < end]
        bars = Bars(
            [i.start / unit.divisor for i in shown],
            [rows[i.agent] + offset - height / 2 for i in shown],
            [max(min(i.end, end) - i.start, least) / unit.divisor for i in shown],
            height,
            facecolors=color,
            linewidths=0.5 if kind == "train" else 0,
            edgecolors="white",
            label=kind,
            zorder=3 if kind == "send" else 2,
        )
        axes.add_collection(bars, autolim=False)
        belong(bars, [name_of(i.agent) for i in shown])
    axes.set_ylim(len(agents) - 0.4, -0.6)
    axes.set_xlim(0, end / unit.divisor)
    step = max(1, len(agents) // 20)
    names = [str(name_of(agent)) for agent in agents]
    axes.set_yticks(range(0, len(agents), step), names[::step])
    axes.set_ylabel("agent")
    axes.set_xlabel(unit.label)
    axes.grid(visible=False, axis="y")
    used = {i.kind for i in record.timeline}
    handles: list[Artist] = [
        Patch(color=color, label=kind) for kind, color in ACTIONS.items() if kind in used
    ]
    if marked:
        handles.append(_mark(axes, marked, rows, unit.divisor))
    legend(figure, handles=handles, handlelength=1.2, handleheight=0.9)
    left_out = record.graph.n + len(record.coordinators) - len(agents)
    all_of_it = dig(record.summary, "virtual_seconds")
    whole = f" of {duration(all_of_it)}" if all_of_it > end else ""
    text = (
        f"What each agent does at the beginning of the run, the first {duration(end)}{whole} of virtual time: "
        "training, sending (the narrow bar; it may overlap training) and waiting for others. Wide pale stretches "
        "are time lost to slower neighbors or "
        "to the network."
    )
    if marked:
        text += " Verticals are faults, with crosses at the agents that they affect; an agent that is away has no bars."
    if len(marked) < len(happened):
        text += f" {len(happened) - len(marked)} later faults are beyond what is recorded."
    return Drawing(figure, text + (f" {left_out:,} more agents are not shown." if left_out else ""))


def _mark(
    axes: Axes, marked: Sequence[Happened], rows: Mapping[int, int], divisor: float
) -> Artist:
    """Mark faults and return the handle of the legend."""
    kinds: dict[float, dict[str, None]] = {}
    for fault in marked:
        place = fault.seconds / divisor
        kinds.setdefault(place, {})[fault.kind] = None
        hit = [rows[agent] for agent in fault.agents if agent in rows]
        axes.plot([place] * len(hit), hit, "x", color=FAULT, markersize=5, zorder=5)
    for place, names in kinds.items():
        axes.axvline(place, color=FAULT, linewidth=0.9, zorder=4)
        axes.annotate(
            ", ".join(names),
            (place, 1.0),
            (0, 2),
            xycoords=("data", "axes fraction"),
            textcoords="offset points",
            ha="center",
            va="bottom",
            fontsize=7,
            color=FAULT,
        )
    return Line2D([], [], color=FAULT, linewidth=0.9, marker="x", markersize=5, label="fault")


def window(intervals: Sequence[Interval], faults: Sequence[float] = ()) -> float:
    """Return the time at which the median agent has finished ten updates, and two after faults.

    If there is none, it is the end of the timeline. Faults after the end of the timeline do not
    count.

    Args:
        intervals: the timeline.
        faults: times of faults.
    """
    ends: dict[int, list[float]] = {}
    for interval in intervals:
        if interval.kind == "train":
            ends.setdefault(interval.agent, []).append(interval.end)
    last = max(i.end for i in intervals)
    tenth = [sorted(times)[_UPDATES - 1] for times in ends.values() if len(times) >= _UPDATES]
    end = float(np.median(tenth)) if tenth else last
    shown = [time for time in faults if time <= last]
    if shown and max(shown) >= end:
        rest = [[t for t in sorted(times) if t > max(shown)] for times in ends.values()]
        after = [times[min(1, len(times) - 1)] for times in rest if times]
        end = float(np.median(after)) if after else last
    return end if end > 0 else max(last, 1e-9)


def staleness(groups: Sequence[Group]) -> Drawing | None:
    """Draw how many messages were applied at each staleness, over all seeds of one group.

    There is nothing to draw where every one was fresh.
    """
    counts = _total(groups[0])
    if counts[1:].sum() == 0:
        return None
    values = np.arange(len(counts))
    share = counts / counts.sum()
    mean = float((values * share).sum())
    top = max(int(np.searchsorted(share.cumsum(), 0.999)) + 1, 5)
    figure, (axes,) = panels(1, size=(5.2, 3.0))
    shown = np.zeros(top)
    shown[: min(top, len(share))] = share[:top]
    bars = axes.bar(np.arange(top), 100 * shown, width=0.82, color="#0072B2", zorder=2)
    if top <= 16:
        texts = [
            f"{100 * s:.1f}%" if s >= 0.001 else "<0.1%" if s > 0 else "" for s in shown.tolist()
        ]
        behind = {"facecolor": "white", "edgecolor": "none", "pad": 1.0}
        axes.bar_label(bars, texts, padding=2, fontsize=7.5, color=INK, bbox=behind, zorder=4)
    if mean > 0:
        axes.axvline(mean, color=INK, linewidth=1.0, linestyle=(0, (4, 2)), zorder=3)
        axes.annotate(
            f"mean {mean:.2f}",
            (mean, 1.0),
            (4, -2),
            xycoords=("data", "axes fraction"),
            textcoords="offset points",
            fontsize=8,
            va="top",
            color=INK,
        )
    axes.set_xlabel("staleness of an applied message (versions or rounds)")
    axes.set_ylabel("applied messages (%)")
    axes.set_xlim(-0.6, top - 0.4)
    axes.set_ylim(0, min(118.0, 100 * float(shown.max()) * 1.18))
    axes.grid(visible=False, axis="x")
    if top <= 16:
        axes.set_xticks(range(top))
    axes.set_title(
        f"{int(counts.sum()):,} applied messages",
        color=GRAY,
        fontweight="normal",
        loc="right",
        fontsize=8,
    )
    return Drawing(
        figure,
        "How old the messages were when they were applied. Gossip: own updates completed since the payload arrived "
        "plus the rounds it lagged on arrival; central: versions applied since the update's starting point. A "
        "synchronous run without loss has only zeros; a long tail means that slow agents pull others back.",
    )


def _total(group: Group) -> np.ndarray:
    total = np.zeros(max(len(r.staleness) for r in group.records), dtype=np.int64)
    for record in group.records:
        total[: len(record.staleness)] += record.staleness
    return total
