"""Figures exist where there is data, hold that data, and come out the same every time."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from factory import record, ring, scatter
from matplotlib.collections import PathCollection

from p2pfrl.core.graph import Graph
from p2pfrl.results.groups import group
from p2pfrl.results.plots import FIGURES, draw, write
from p2pfrl.results.plots.consensus import prediction, with_start
from p2pfrl.results.plots.graph import layout
from p2pfrl.results.plots.style import style
from p2pfrl.results.record import Record, save


@pytest.mark.parametrize(
    ("runs", "expected"),
    [
        ([record(4, rounds=4)], {"return", "consensus", "graph", "staleness", "timeline"}),
        ([record(4, rounds=1)], {"return", "consensus", "graph", "staleness", "timeline"}),
        ([record(1, rounds=4)], {"return", "staleness", "timeline"}),
        (
            [record(2, rounds=4, agree=True)],
            {"return", "consensus", "graph", "staleness", "timeline"},
        ),
        (
            [record(4, rounds=4, quadratic=True)],
            {"problem", "consensus", "graph", "staleness", "timeline"},
        ),
        (
            [record(4, rounds=4, vary=True)],
            {"return", "consensus", "graph", "physics", "staleness", "timeline"},
        ),
    ],
)
def test_figures_are_made_where_there_is_data(
    tmp_path: Path, runs: list[Record], expected: set[str]
) -> None:
    pictures = draw(group(runs))
    assert {p.name for p in pictures} == expected
    paths = write(pictures, tmp_path)
    assert len(paths) == 2 * len(expected)
    for path in paths:
        start = path.read_bytes()[:8]
        assert start.startswith(b"<?xml" if path.suffix == ".svg" else b"\x89PNG"), path
    assert all(len(p.caption) > 60 for p in pictures)


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
    run = record(8, rounds=4)
    run = replace(
        run,
        lambda_2=0.5,
        metrics=run.metrics | {"consensus_distance": np.array([1.0, 8.0, 3.0, 2.0])},
    )
    predicted = prediction(run)
    assert predicted is not None
    np.testing.assert_array_equal(predicted[0], [2, 3, 4])
    np.testing.assert_allclose(predicted[1], [8.0, 4.0, 2.0])
    assert prediction(replace(run, lambda_2=None)) is None
    assert prediction(replace(run, lambda_2=1e-17)) is None


def test_the_prediction_starts_where_the_agents_started() -> None:
    run = record(8, rounds=3)
    run = replace(
        run,
        lambda_2=0.5,
        summary=run.summary | {"initial_consensus_distance": 16.0},
        metrics=run.metrics | {"consensus_distance": np.array([8.0, 4.0, 2.0])},
    )
    predicted = prediction(with_start(run))
    assert predicted is not None
    np.testing.assert_array_equal(predicted[0], [0, 1, 2, 3])
    np.testing.assert_allclose(predicted[1], [16.0, 8.0, 4.0, 2.0])


def test_the_predicted_line_is_labeled_with_its_number() -> None:
    drawing = FIGURES["consensus"].draw(group([record(16, rounds=30, quadratic=True)]))
    assert drawing is not None
    labels = [line.get_label() for line in drawing.figure.axes[0].lines]
    assert "mixing alone, λ₂ = 0.9493" in labels
    assert drawing.figure.axes[0].get_yscale() == "log"


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


def test_the_same_record_gives_the_same_pictures() -> None:
    first, second = (draw(group([record(4, rounds=4, vary=True)])) for _ in range(2))
    assert [(p.svg, p.png) for p in first] == [(p.svg, p.png) for p in second]


def test_plotting_imports_neither_torch_nor_pyplot(tmp_path: Path) -> None:
    save(record(3, rounds=3), tmp_path / "run")
    heavy = {"torch", "matplotlib.pyplot", "pandas", "gymnasium"}
    code = (
        "import sys; from p2pfrl.results.report import plot, report\n"
        f"plot([{str(tmp_path / 'run')!r}]); report([{str(tmp_path / 'run')!r}])\n"
        f"print(sorted({heavy} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
