"""Figures exist where there is data, hold that data, and come out the same every time."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from itertools import product
from pathlib import Path

import numpy as np
import pytest
from factory import record, ring, scatter
from matplotlib.collections import PathCollection
from matplotlib.figure import Figure
from matplotlib.text import Text

from p2pfrl.core.graph import Graph
from p2pfrl.results.faults import faults
from p2pfrl.results.groups import group
from p2pfrl.results.numbers import number
from p2pfrl.results.plots import FIGURES, Look, draw, write
from p2pfrl.results.plots.consensus import prediction, with_start
from p2pfrl.results.plots.curves import learning_curves
from p2pfrl.results.plots.graph import _opacity, _warm, layout, network
from p2pfrl.results.plots.style import dots, log_axis, panels, style
from p2pfrl.results.plots.timeline import window
from p2pfrl.results.record import UPDATES, Interval, Record, save

MANY = {"graph", "agents", "staleness", "timeline"}


@pytest.mark.parametrize(
    ("runs", "expected"),
    [
        ([record(4, rounds=4)], {*MANY, "return", "consensus", "fairness"}),
        ([record(4, rounds=1)], {*MANY, "return", "consensus", "fairness"} - {"agents"}),
        ([record(1, rounds=4)], {"return", "staleness", "timeline"}),
        ([record(2, rounds=4, agree=True)], {*MANY, "return", "consensus", "fairness"}),
        ([record(4, rounds=4, quadratic=True)], {*MANY, "problem", "consensus"}),
        (
            [record(4, rounds=4, vary=True)],
            {*MANY, "return", "consensus", "fairness", "physics"},
        ),
    ],
)
def test_figures_are_made_where_there_is_data(
    tmp_path: Path, runs: list[Record], expected: set[str]
) -> None:
    formats = ("svg", "png") if len(expected) == 3 else ()
    pictures = draw(group(runs), Look(formats))
    assert {p.name for p in pictures} == expected
    paths = write(pictures, tmp_path)
    assert len(paths) == len(formats) * len(expected)
    for path in paths:
        start = path.read_bytes()[:8]
        assert start.startswith(b"<?xml" if path.suffix == ".svg" else b"\x89PNG"), path
    assert all(len(p.caption) > 60 for p in pictures)


def _swept(**values: float) -> Record:
    run = record(2, rounds=3, seed=int(values.pop("seed", 1)))
    lines = "".join(f"{key} = {value}\n" for key, value in values.items())
    final = {name: 10.0 * sum(values.values()) + run.seed for name in ("mean", "min", "max", "iqm")}
    return replace(
        run,
        scenario=f"{run.scenario}\n[learner]\n{lines}",
        summary=run.summary
        | {
            "final_return": final,
            "time_to_target": {"rounds": 2, "bytes": 4e6, "virtual_seconds": 1},
        },
    )


def test_one_key_is_a_curve_and_two_are_a_map_and_more_have_no_figure() -> None:
    curve = group(_swept(lr=lr, seed=seed) for lr in (0.3, 0.1, 0.2) for seed in range(1, 6))
    drawing = FIGURES["settings"].draw(curve)
    assert drawing is not None
    line = drawing.figure.axes[0].lines[0]
    assert np.array(line.get_xdata()).tolist() == [0.1, 0.2, 0.3]
    assert np.array(line.get_ydata()).tolist() == pytest.approx([4.0, 5.0, 6.0])
    assert drawing.figure.axes[0].get_xlabel() == "lr"
    both = group(_swept(lr=lr, clip=clip) for lr in (1.0, 2.0) for clip in (1.0, 2.0, 3.0))
    drawing = FIGURES["settings"].draw(both)
    assert drawing is not None
    cells = [text.get_text() for text in drawing.figure.axes[0].texts]
    assert sorted(cells) == ["21", "31", "31", "41", "41", "51"]
    assert drawing.title in ("clip by lr", "lr by clip")
    three = group(
        _swept(lr=1.0 + i % 2, clip=1.0 + i // 2 % 2, steps=1.0 + i // 4) for i in range(8)
    )
    assert FIGURES["settings"].draw(three) is None
    first, *others = both
    assert FIGURES["settings"].draw((first, *(replace(g, settings={}) for g in others))) is None


def test_the_profile_and_the_target_have_every_run() -> None:
    groups = group(_swept(lr=lr, seed=seed) for lr in (0.1, 0.2) for seed in range(1, 6))
    drawing = FIGURES["profile"].draw(groups)
    assert drawing is not None
    steps = drawing.figure.axes[0].lines[0]
    assert set(np.array(steps.get_xdata())) >= {2.0, 3.0, 4.0, 5.0, 6.0}
    assert np.array(steps.get_ydata()).max() == 1.0
    drawing = FIGURES["target"].draw(groups)
    assert drawing is not None
    labels = [axes.get_xlabel() for axes in drawing.figure.axes]
    assert labels == ["rounds to target", "bytes to target (MB)", "virtual time to target (ms)"]
    dots = [c for c in drawing.figure.axes[1].collections if isinstance(c, PathCollection)]
    assert [len(c.get_offsets()) for c in dots] == [5, 5]
    assert drawing.figure.axes[1].get_xlim()[1] > 4.0, "dots at the end are whole"


def test_figures_of_too_many_groups_are_left_out() -> None:
    groups = group(_swept(lr=float(i)) for i in range(25))
    assert {p.name for p in draw(groups, Look(()))} == {"settings"}


def test_no_figure_is_made_of_nothing() -> None:
    run = record(3, rounds=3)
    empty = {name: np.full(3, np.nan) for name in run.metrics} | {"round": np.arange(3.0)}
    table = {name: values[:0] for name, values in run.agents.items()}
    bare = replace(
        run, metrics=empty, agents=table, timeline=(), staleness=np.zeros(0, dtype=np.int64)
    )
    assert draw(group([bare])) == ()
    no_rows = replace(bare, metrics={name: values[:0] for name, values in empty.items()})
    assert draw(group([no_rows])) == ()


def test_modes_are_drawn_side_by_side_with_a_silent_one_as_a_level() -> None:
    runs = [
        record(4, rounds=4, mode=mode, seed=seed)
        for mode in ("gossip", "independent")
        for seed in (1, 2)
    ]
    with style():
        drawing = FIGURES["modes"].draw(group(runs))
    assert drawing is not None
    rounds, time, sent = drawing.figure.axes
    labels = [str(line.get_label()) for line in rounds.lines]
    assert [label for label in labels if not label.startswith("_")] == ["gossip", "independent"]
    assert rounds.get_xlabel() == "round"
    assert time.get_xlabel().startswith("virtual time (")
    assert any("sends nothing" in text.get_text() for text in sent.texts)
    assert FIGURES["modes"].draw(group(runs[:2])) is None


@pytest.mark.parametrize("seeds", [1, 3, 5])
def test_few_seeds_are_thin_lines_and_many_a_band(seeds: int) -> None:
    drawing = FIGURES["return"].draw(group([record(4, rounds=5, seed=s) for s in range(seeds)]))
    assert drawing is not None
    left = drawing.figure.axes[0]
    thin = [line for line in left.lines if line.get_linewidth() == 0.6]
    assert len(thin) == (seeds if seeds == 3 else 0)
    assert ("Thin lines are single seeds" in drawing.caption) == (seeds == 3)
    assert ("95%" in drawing.caption) == (seeds == 5)


def test_the_prediction_starts_at_the_peak_and_falls_by_lambda_2_each_round() -> None:
    rounds, distance = np.arange(1.0, 5.0), np.array([1.0, 8.0, 3.0, 2.0])
    predicted = prediction(rounds, distance, 0.5)
    assert predicted is not None
    np.testing.assert_array_equal(predicted[0], [2, 3, 4])
    np.testing.assert_allclose(predicted[1], [8.0, 4.0, 2.0])
    assert prediction(rounds, distance, 1e-17) is None
    assert prediction(rounds, np.arange(1.0, 5.0), 0.5) is None


def test_the_prediction_starts_where_the_agents_started() -> None:
    run = record(8, rounds=3)
    run = replace(
        run,
        summary=run.summary | {"initial_consensus_distance": 16.0},
        metrics=run.metrics | {"consensus_distance": np.array([8.0, 4.0, 2.0])},
    )
    metrics = with_start(run).metrics
    predicted = prediction(metrics["round"], metrics["consensus_distance"], 0.5)
    assert predicted is not None
    np.testing.assert_array_equal(predicted[0], [0, 1, 2, 3])
    np.testing.assert_allclose(predicted[1], [16.0, 8.0, 4.0, 2.0])


def test_the_predicted_line_is_labeled_with_its_number() -> None:
    drawing = FIGURES["consensus"].draw(group([record(16, rounds=30, quadratic=True)]))
    assert drawing is not None
    labels = [line.get_label() for line in drawing.figure.axes[0].lines]
    assert "mixing alone, λ₂ = 0.9493" in labels
    fast = replace(record(4, rounds=9), lambda_2=1e-3)
    drawing = FIGURES["consensus"].draw(group([fast]))
    assert drawing is not None
    for panel in drawing.figure.axes:
        (line,) = (one for one in panel.lines if "λ₂" in str(one.get_label()))
        assert np.nanmin(line.get_ydata()) < panel.get_ylim()[0]  # it leaves the panel
    assert drawing.figure.axes[0].get_yscale() == "log"


def test_distances_that_rounding_leaves_are_drawn_as_zero() -> None:
    run = record(4, rounds=3)
    noise = np.array([1e-17, 3e-17, 2e-17])
    ends = run.agents | {"disagreement": np.full(len(run.agents["agent"]), 1e-17)}
    run = replace(run, metrics=run.metrics | {"consensus_distance": noise}, agents=ends)
    drawing = FIGURES["consensus"].draw(group([run]))
    assert drawing is not None
    for panel in drawing.figure.axes:
        assert panel.get_yscale() == "linear"
        assert [text.get_text() for text in panel.texts] == ["0 but for rounding in every round"]
    assert "but for rounding" in drawing.caption
    for name in ("graph", "agents"):
        colored = FIGURES[name].draw(group([run]))
        assert colored is not None
        titles = [panel.get_title(loc="left") for panel in colored.figure.axes]
        assert not any("disagreement" in title for title in titles)
    exact = replace(run, metrics=run.metrics | {"consensus_distance": np.zeros(3)})
    drawing = FIGURES["consensus"].draw(group([exact]))
    assert drawing is not None
    assert "exactly the same parameters" in drawing.caption


def test_a_value_without_a_neighbor_is_a_dot() -> None:
    nan = np.nan
    for values, lone in (
        ([1.0], [True]),
        ([1.0, nan, 2.0, 3.0], [True, False, False, False]),
        ([nan, 2.0, nan], [False, True, False]),
    ):
        assert dots(np.array(values), 3)["markevery"] == lone
    assert dots(np.array([nan, 1.0, 2.0]), 3) == {}
    run = record(4, rounds=1)
    for name in ("fairness", "consensus"):
        drawing = FIGURES[name].draw(group([run]))
        assert drawing is not None
        for line in drawing.figure.axes[0].lines:
            assert line.get_marker() not in ("None", None), line.get_label()


@pytest.mark.parametrize("low", [1e-16, 6.5e-3, 0.3, 2e5])
@pytest.mark.parametrize("ratio", [1.5, 3.0, 9.0, 20.0, 80.0])
def test_a_logarithmic_axis_has_numbers_at_all_its_ticks(low: float, ratio: float) -> None:
    figure, (axes,) = panels(1)
    log_axis(axes, low, ratio * low)
    figure.canvas.draw()
    inside = [
        tick.label1.get_text()
        for tick in axes.yaxis.get_major_ticks()
        if low <= tick.get_loc() <= ratio * low
    ]
    assert len(inside) >= 2
    assert all(inside)


def test_colors_of_equal_values_have_one_number() -> None:
    run = record(2, rounds=3)
    count = len(run.agents["agent"])
    same = run.agents | {
        "return": np.full(count, 1.0),
        "disagreement": 4.0 + 1e-15 * np.arange(count),
    }
    for name in ("agents", "graph"):
        drawing = FIGURES[name].draw(group([replace(run, agents=same)]))
        assert drawing is not None
        bars = [axes for axes in drawing.figure.axes if axes.get_label() == "<colorbar>"]
        numbers = [[text.get_text() for text in bar.get_yticklabels()] for bar in bars]
        assert numbers == [["1"], ["4"]]


def test_exact_zeros_are_marked_on_the_log_scale() -> None:
    run = record(4, rounds=4)
    run = replace(run, metrics=run.metrics | {"consensus_distance": np.array([1.0, 0.5, 0.0, 0.0])})
    drawing = FIGURES["consensus"].draw(group([run]))
    assert drawing is not None
    zeros = [line for line in drawing.figure.axes[0].lines if line.get_label() == "exactly 0"]
    np.testing.assert_array_equal(zeros[0].get_xdata(), [3, 4])


def test_the_graph_is_colored_by_each_agents_final_value() -> None:
    run = record(5, rounds=3)
    drawing = FIGURES["graph"].draw(group([run]))
    assert drawing is not None
    marks = [c for c in drawing.figure.axes[0].collections if isinstance(c, PathCollection)]
    np.testing.assert_array_equal(marks[0].get_array(), run.agents["return"][-5:])


@pytest.mark.parametrize("mode", ["gossip", "central"])
def test_the_graph_marks_byzantine_agents(mode: str) -> None:
    honest = record(5, rounds=3, mode=mode)
    if mode == "central":
        honest = replace(honest, coordinators={-1: (0, 1, 2, 3, 4)})
    lied = replace(honest, summary={**honest.summary, "byzantine": {"agents": [1, 4, 77]}})
    drawings = [FIGURES["graph"].draw(group([run])) for run in (honest, lied)]
    marks = []
    for drawing in drawings:
        assert drawing is not None
        marks.append(
            [c for c in drawing.figure.axes[0].collections if isinstance(c, PathCollection)]
        )
    (ring,) = marks[1][len(marks[0]) :]
    colored = marks[1][0].get_offsets()
    np.testing.assert_array_equal(ring.get_offsets(), colored[[1, 4]])
    assert drawings[1].caption.endswith("A red ring marks the Byzantine agents: 1, 4.")
    assert "Byzantine" not in drawings[0].caption


@pytest.mark.parametrize("n", [2, 3, 16, 100, 401])
def test_agents_are_drawn_apart(n: int) -> None:
    positions = layout(ring(n))
    assert positions.shape == (n, 2)
    assert np.isfinite(positions).all()
    distances = np.linalg.norm(positions - np.roll(positions, 1, axis=0), axis=1)
    assert distances.min() > 1.0 / n


def test_thousands_of_agents_fill_a_disk() -> None:
    positions = layout(scatter(2000, 1))
    nearest = [np.sort(np.linalg.norm(positions - p, axis=1))[1] for p in positions[::50]]
    assert min(nearest) > 0.5 * np.sqrt(np.pi / 2000)
    assert np.linalg.norm(positions, axis=1).max() <= 1.0


def test_a_graph_without_edges_and_one_in_two_parts_can_be_drawn() -> None:
    for graph in (Graph(((), (), ())), Graph(((1,), (0,), (3,), (2, 4), (3,)))):
        assert len({tuple(p) for p in layout(graph).tolist()}) == graph.n


def with_faults(run: Record, text: str, **summary: object) -> Record:
    return replace(run, scenario=run.scenario + text, summary=run.summary | summary)


FAULTS = """
[[faults]]
at = 0.1
kind = "crash"
agents = [1, "coordinator"]
[[faults]]
at = 0.2
kind = "partition"
groups = [[0, 1], [2, 3]]
[[faults]]
at = 9e9
kind = "heal"
"""


def test_a_coordinator_is_the_middle_of_a_star_and_has_a_row() -> None:
    run = record(4, rounds=6, mode="central")
    run = replace(run, timeline=(Interval(-1, "send", 0.0, 0.1), *run.timeline))
    drawn = network(run)
    assert drawn.successors == ((4,), (4,), (4,), (4,), (0, 1, 2, 3))
    assert drawn.labels[-1] == "coordinator"
    picture = FIGURES["graph"].draw(group([run]))
    assert picture is not None
    assert "a coordinator" in picture.caption
    assert "edges" not in picture.caption
    timeline = FIGURES["timeline"].draw(group([run]))
    assert timeline is not None
    rows = [label.get_text() for label in timeline.figure.axes[0].get_yticklabels()]
    assert rows == ["coordinator", "0", "1", "2", "3"]


def test_a_hierarchy_is_a_tree() -> None:
    run = replace(
        record(5, rounds=3, mode="central"), coordinators={-1: (-3, -2), -2: (0, 1), -3: (2, 3, 4)}
    )
    drawn = network(run)
    assert drawn.labels[5:] == ("coordinator", "edge0", "edge1")
    assert {pair for pair in drawn.edges if pair[0] < pair[1]} == {
        (5, 6),
        (5, 7),
        (0, 6),
        (1, 6),
        (2, 7),
        (3, 7),
        (4, 7),
    }
    assert FIGURES["graph"].draw(group([run])) is not None


def test_agents_that_talk_to_nobody_have_no_graph() -> None:
    assert FIGURES["graph"].draw(group([record(4, rounds=3, mode="independent")])) is None


def test_rounding_errors_of_a_coordinators_model_are_not_drawn() -> None:
    run = record(4, rounds=3, mode="central")
    noise = np.array([1e-17, 3e-17, 2e-17])
    run = replace(run, metrics=run.metrics | {"consensus_distance": noise})
    assert FIGURES["consensus"].draw(group([run])) is None
    graph = FIGURES["graph"].draw(group([run]))
    assert graph is not None
    titles = [graph.figure.axes[0].get_title(loc=side) for side in ("left", "center")]
    assert "final return" in titles
    assert len(graph.figure.axes) == 2  # the agents and their color bar
    both = FIGURES["consensus"].draw(group([run, record(4, rounds=3)]))
    assert both is not None
    assert [line.get_label() for line in both.figure.axes[0].lines[:1]] == ["gossip"]
    assert "Not drawn: central, where a coordinator keeps" in both.caption


@pytest.mark.parametrize("name", ["return", "consensus", "timeline", "modes"])
def test_figures_mark_every_fault_before_the_end(name: str) -> None:
    runs = [with_faults(record(4, rounds=8), FAULTS)]
    if name == "modes":
        runs.append(with_faults(record(4, rounds=8, mode="independent"), FAULTS))
    drawing = FIGURES[name].draw(group(runs))
    assert drawing is not None
    axes = drawing.figure.axes[1 if name in ("consensus", "modes") else 0]
    texts = {text.get_text() for text in axes.texts}
    assert {"crash", "partition"} <= texts
    assert "heal" not in texts
    assert "aults" in drawing.caption


def test_where_groups_have_different_faults_their_labels_are_beside_them() -> None:
    runs = [with_faults(record(4, rounds=8), FAULTS), record(4, rounds=8, mode="independent")]
    drawing = FIGURES["return"].draw(group(runs))
    assert drawing is not None
    texts = {text.get_text() for text in drawing.figure.axes[0].texts}
    assert {"gossip: crash", "gossip: partition"} <= texts


def test_a_round_of_an_asynchronous_run_is_called_updates_per_agent() -> None:
    run = record(4, rounds=8)
    other = replace(run, agents=run.agents | {UPDATES: run.agents["round"]})
    for runs, label in (([other], "updates per agent"), ([run], "round")):
        for name in ("return", "consensus", "agents"):
            drawing = FIGURES[name].draw(group(runs))
            assert drawing is not None
            assert drawing.figure.axes[0].get_xlabel() == label
            words = ("against rounds", "at the end of a round", "column per round")
            assert any(word in drawing.caption for word in words) == (label == "round")


def test_what_changes_by_rounding_alone_is_a_flat_line() -> None:
    run = record(4, rounds=8, quadratic=True)
    values = 209.7 + 1e-12 * np.arange(8)
    drawing = FIGURES["problem"].draw(
        group([replace(run, metrics=run.metrics | {"objective": values})])
    )
    assert drawing is not None
    low, high = drawing.figure.axes[1].get_ylim()
    assert high - low > 1.0


def test_faults_name_those_who_are_there_and_processes_have_none() -> None:
    gossip, central = (
        faults(with_faults(record(4, rounds=8, mode=mode), FAULTS))
        for mode in ("gossip", "central")
    )
    assert [(f.kind, f.agents) for f in gossip] == [("crash", (1,)), ("partition", ())]
    assert central[0].agents == (1, -1)
    assert faults(with_faults(record(4, rounds=8), FAULTS, transport="tcp")) == ()


def test_the_window_of_the_timeline_covers_the_faults() -> None:
    spans = [Interval(0, "train", float(t), t + 1.0) for t in range(100)]
    assert window(spans) == 10.0
    assert window(spans, [5.0]) == 10.0
    assert window(spans, [50.5]) == 52.0
    assert window(spans, [50.5, 1e6]) == 52.0


def test_rates_of_different_graphs_are_a_range() -> None:
    runs = [replace(record(4, rounds=9, seed=s), lambda_2=0.5 + s / 10) for s in range(3)]
    drawing = FIGURES["consensus"].draw(group(runs))
    assert drawing is not None
    _, labels = drawing.figure.axes[0].get_legend_handles_labels()
    assert "mixing alone, λ₂ = 0.5 to 0.7" in labels
    other = [replace(r, scenario=r.scenario + "x = 1\n", lambda_2=0.8) for r in runs]
    drawing = FIGURES["consensus"].draw(group([*runs, *other]))
    assert drawing is not None
    _, labels = drawing.figure.axes[0].get_legend_handles_labels()
    assert [label for label in labels if "λ₂" in label] == [
        "x not set, mixing alone, λ₂ = 0.5 to 0.7",
        "x 1, mixing alone, λ₂ = 0.8",
    ]


@pytest.mark.parametrize(
    ("width", "letters"),
    [
        (None, 400),
        (3.4, 40),
        *(
            pytest.param(*size, marks=pytest.mark.slow)
            for size in ((None, 5), (None, 40), (3.4, 5), (3.4, 400))
        ),
    ],
)
def test_legends_fit(width: float | None, letters: int) -> None:
    base = record(4, rounds=3)
    runs = [
        replace(base, scenario=base.scenario + f'note = "{i}{"wide word " * (letters // 10)}"\n')
        for i in range(9)
    ]
    with style(width):
        drawing = FIGURES["return"].draw(group(runs))
        assert drawing is not None
        figure = drawing.figure
        figure.draw_without_rendering()
        (legend,) = figure.legends
        box = legend.get_window_extent()
    assert box.x0 >= 0
    assert box.x1 <= figure.bbox.x1
    assert box.y1 <= figure.bbox.y1 + 1
    assert len({text.get_text() for text in legend.get_texts()}) == 9
    assert min(axes.get_window_extent().height for axes in figure.axes) > 72
    colors = {line.get_color() for line in figure.axes[0].lines if line.get_label()[0] != "_"}
    assert len(colors) >= 9


@pytest.mark.parametrize(
    "wild",
    [
        [1.7e308, -1.7e308, 1e308],
        pytest.param([np.inf, -np.inf, 5.0], marks=pytest.mark.slow),
        pytest.param([5e-324, 1e-310, 0.0], marks=pytest.mark.slow),
    ],
)
def test_numbers_at_the_ends_of_the_range_are_left_out(wild: list[float]) -> None:
    def spoiled(run: Record) -> Record:
        metrics = {name: values.copy() for name, values in run.metrics.items()}
        for name in metrics.keys() - {"round"}:
            metrics[name][2:5] = wild
        agents = {name: values.copy() for name, values in run.agents.items()}
        for name in ("return", "disagreement", "physics_difficulty"):
            agents[name][-3:] = wild
        return replace(run, metrics=metrics, agents=agents)

    runs = [
        spoiled(record(3, rounds=6, vary=True, quadratic=quadratic)) for quadratic in (False, True)
    ]
    other = replace(runs[0], scenario=runs[0].scenario + "x = 1\n", lambda_2=0.3)
    with style():
        for figure, groups in product(FIGURES.values(), ([runs[1]], [runs[0], other])):
            drawing = figure.draw(group(groups))
            if drawing is not None:
                drawing.figure.draw_without_rendering()


def test_figures_of_nothing_but_infinity_are_not_made() -> None:
    run = record(3, rounds=4)
    wild = {name: np.full(4, 1e308) for name in run.metrics} | {"round": np.arange(4.0)}
    names = {picture.name for picture in draw(group([replace(run, metrics=wild)]), Look(()))}
    assert names == {"graph", "agents", "staleness", "timeline"}


@pytest.mark.parametrize("width", [3.4, pytest.param(7.0, marks=pytest.mark.slow)])
def test_figures_for_print_are_as_wide_as_asked_and_their_text_is_readable(width: float) -> None:
    runs = [record(6, rounds=5, vary=True, mode=m) for m in ("gossip", "central", "independent")]
    with style(width):
        for figure in FIGURES.values():
            drawing = figure.draw(group(runs))
            if drawing is None:
                continue
            drawing.figure.draw_without_rendering()
            assert drawing.figure.get_figwidth() == pytest.approx(width)
            texts = drawing.figure.findobj(Text)
            assert min(text.get_fontsize() for text in texts if text.get_text()) >= 6.5


@pytest.mark.slow
def test_text_is_text_and_a_pdf_is_a_pdf() -> None:
    look = Look(("svg", "pdf", "png"), 3.4, ("return",))
    (picture,) = draw(group([record(4, rounds=4)]), look)
    assert picture.name == "return"
    assert b">round</text>" in picture.files["svg"]
    assert picture.files["pdf"].startswith(b"%PDF")
    again = draw(group([record(4, rounds=4)]), look)
    assert picture.files == again[0].files


def test_a_small_world_is_drawn_as_a_circle() -> None:
    run = record(12, rounds=3, graph=scatter(12, 3))
    drawing = FIGURES["graph"].draw(
        group([replace(run, scenario=run.scenario + '[topology]\nkind = "watts_strogatz"\n')])
    )
    assert drawing is not None
    marks = [c for c in drawing.figure.axes[0].collections if isinstance(c, PathCollection)]
    radii = np.hypot(*np.array(marks[0].get_offsets()).T)
    np.testing.assert_allclose(radii, 1.0)


def test_a_figure_is_drawn_once_per_format(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn = []
    draws = Figure.draw
    monkeypatch.setattr(Figure, "draw", lambda *given: drawn.append(1) or draws(*given))
    for kinds in (("svg",), ("svg", "png")):
        drawn.clear()
        pictures = draw(group([record(2, rounds=2)]), Look(kinds, only=("return", "graph")))
        assert len(drawn) == len(kinds) * len(pictures)


@pytest.mark.slow
def test_the_same_record_gives_the_same_pictures() -> None:
    first, second = (
        draw(group([record(3, rounds=2)]), Look(("svg",), has_data=True)) for _ in range(2)
    )
    assert len(first) == 7
    assert [p.files for p in first] == [p.files for p in second]


@pytest.mark.slow
def test_plotting_one_run_imports_neither_torch_nor_pyplot_nor_scipy(tmp_path: Path) -> None:
    save(record(1, rounds=2), tmp_path / "run")
    heavy = {"torch", "matplotlib.pyplot", "pandas", "gymnasium", "scipy"}
    code = (
        "import sys; from p2pfrl.results.report import report\n"
        f"report([{str(tmp_path / 'run')!r}])\n"
        f"print(sorted({heavy} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_groups_are_named_after_what_tells_them_apart() -> None:
    base = record(4, rounds=3)
    other = replace(base, scenario=base.scenario + "x = 1\n")
    named = replace(base, summary=base.summary | {"name": "another"})
    titles = {"setting": other, "scenario": named, "mode": record(4, rounds=3, mode="central")}
    for kind, run in titles.items():
        drawing = FIGURES["modes"].draw(group([base, run]))
        assert drawing is not None
        assert drawing.title == f"{kind.capitalize()}s side by side"
        assert f"A {kind} that sends nothing" in drawing.caption


def test_agents_with_equal_parameters_have_no_panel_of_their_distances() -> None:
    run = record(4, rounds=3)
    for value, axes in ((0.0, 2), (0.5, 4)):  # every panel has a color bar
        table = run.agents | {"disagreement": np.full(len(run.agents["agent"]), value)}
        drawing = FIGURES["graph"].draw(group([replace(run, agents=table)]))
        assert drawing is not None
        assert len(drawing.figure.axes) == axes


def test_the_caption_of_a_graph_has_the_range_of_its_colors() -> None:
    run = record(4, rounds=3)
    table = run.agents | {"episodes": np.where(run.agents["agent"] == 2, 7, 31)}
    drawing = FIGURES["graph"].draw(group([replace(run, agents=table)]))
    assert drawing is not None
    returns = run.agents["return"][-4:]
    low, high = number(float(returns.min())), number(float(returns.max()))
    assert f"last 7 to 20 episodes of training, colors from {low} to {high}." in drawing.caption
    assert "on its way" not in drawing.caption


def test_figures_of_the_same_groups_have_the_same_unit_of_time() -> None:
    short, long = record(4, rounds=3), record(4, rounds=3, mode="central")
    columns = {
        run.mode: run.metrics | {"virtual_seconds": np.array([1.0, 2.0, 3.0]) * pace}
        for run, pace in ((short, 1e-3), (long, 1.0))
    }
    runs = [replace(run, metrics=columns[run.mode]) for run in (short, long)]
    runs[1] = replace(runs[1], metrics=runs[1].metrics | {"consensus_distance": np.zeros(3)})
    labels = set()
    for name in ("modes", "consensus"):
        drawing = FIGURES[name].draw(group(runs))
        assert drawing is not None
        labels |= {axes.get_xlabel() for axes in drawing.figure.axes}
    assert {label for label in labels if "time" in label} == {"virtual time (s)"}


def test_edges_are_as_dark_as_they_leave_room_and_no_agent_is_white() -> None:
    side = np.arange(16)
    grid = np.stack(np.meshgrid(side, side), axis=-1).reshape(-1, 2).astype(np.float64)
    near = [(i, i + 1) for i in range(255) if i % 16 < 15] + [(i, i + 16) for i in range(240)]
    assert _opacity(grid, near) == 0.8
    assert _opacity(grid, [(i, j) for i in range(100) for j in range(i)]) == 0.08
    everyone = [(i, j) for i in range(256) for j in range(i)]
    assert _opacity(grid, everyone) == pytest.approx(0.08 * 5_000 / len(everyone))
    assert _opacity(grid, []) == 0.8
    palest = _warm()(0.0)[:3]
    assert 0.2126 * palest[0] + 0.7152 * palest[1] + 0.0722 * palest[2] < 0.92


def test_a_curve_that_lies_on_another_one_is_dashed_so_that_both_are_seen() -> None:
    first = record(4, rounds=20)
    equal, third = (
        replace(first, summary={**first.summary, "mode": mode}) for mode in ("central", "pooled")
    )
    other = record(4, rounds=20, mode="independent", seed=9)
    drawing = learning_curves(group([first, equal, other, third]))
    assert drawing is not None
    for axes in drawing.figure.axes:
        drawn = {str(line.get_label()): line for line in axes.lines}
        one, two, three, alone = (
            drawn[mode]._dash_pattern[1] for mode in ("gossip", "central", "pooled", "independent")
        )
        assert one is alone is None, "solid"
        assert two[0] > two[1] > 0, "two thirds of what is below are hidden"
        assert three[0] < two[0]
        assert sum(two) == pytest.approx(sum(three))


def test_ticks_of_agents_and_rounds_are_whole_numbers() -> None:
    run = record(2, rounds=2)
    rows = len(run.agents["round"])
    run = replace(
        run,
        metrics=run.metrics | {"epsilon": np.array([0.5, 0.8])},
        agents=run.agents | {"suspicion": np.linspace(0.1, 3.0, rows)},
        summary=run.summary | {"privacy": {"delta": 1e-5}},
    )
    seen = set()
    for name in FIGURES:
        drawing = FIGURES[name].draw(group([run]))
        for axes in drawing.figure.axes if drawing is not None else ():
            sides = (
                (axes.get_xlabel(), axes.get_xlim(), axes.get_xticks()),
                (axes.get_ylabel(), axes.get_ylim(), axes.get_yticks()),
            )
            for label, span, ticks in sides:
                if label in ("round", "agent"):
                    seen.add((name, label))
                    shown = ticks[(ticks >= min(span)) & (ticks <= max(span))]
                    assert (shown == shown.round()).all(), (name, label)
    assert {("agents", "agent"), ("epsilon", "round"), ("suspicion", "round")} < seen


def test_rounds_to_a_target_are_whole_numbers() -> None:
    drawing = FIGURES["target"].draw(group([_swept(**{"lr": 0.1}), _swept(**{"lr": 0.2})]))
    assert drawing is not None
    ticks = drawing.figure.axes[0].get_xticks()
    assert drawing.figure.axes[0].get_xlabel() == "rounds to target"
    assert (ticks == ticks.round()).all()


def test_many_edges_are_pixels_in_an_svg() -> None:
    sizes = {}
    for n in (60, 120):  # 1,770 and 7,140 edges
        everyone = Graph(tuple(tuple(j for j in range(n) if j != i) for i in range(n)))
        run = record(n, rounds=2, graph=everyone)
        (picture,) = draw(group([run]), Look(("svg",), only=("graph",)))
        sizes[n] = len(picture.files["svg"])
    assert sizes[120] < 2 * sizes[60]
