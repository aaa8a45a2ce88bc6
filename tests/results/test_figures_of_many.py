"""Figures of many agents, and of rounds without rows, say what is left out."""

from __future__ import annotations

import sys
from dataclasses import replace

import numpy as np
import pytest
from factory import record, ring
from matplotlib.colors import LogNorm

from p2pfrl.consensus.topologies import RULES
from p2pfrl.core.graph import Graph
from p2pfrl.results.groups import group
from p2pfrl.results.plots.graph import AROUND, columns_of, graph, pairs_of, places, some_pairs
from p2pfrl.results.plots.spread import agents_by_rounds
from p2pfrl.results.plots.timeline import timeline


def test_a_round_without_a_row_looks_like_the_one_before() -> None:
    whole = record(3, rounds=6)
    rounds = np.unique(whole.agents["round"])
    kept = ~np.isin(whole.agents["round"], rounds[[1, 2, 4]])
    some = replace(whole, agents={name: values[kept] for name, values in whole.agents.items()})
    drawing = agents_by_rounds(group([some]))
    assert drawing is not None
    cells = np.asarray(drawing.figure.axes[1].images[0].get_array())
    assert np.isfinite(cells).all()
    for column, shown in enumerate((0, 0, 0, 3, 3, 5)):
        assert cells[:, column].tolist() == cells[:, shown].tolist()
    assert "Where a round has no row, the one before is shown." in drawing.caption
    drawing = agents_by_rounds(group([whole]))
    assert drawing is not None
    assert "no row" not in drawing.caption


def test_a_map_on_a_log_scale_has_the_values_themselves() -> None:
    run = record(3, rounds=4)
    drawing = agents_by_rounds(group([run]))
    assert drawing is not None
    image = drawing.figure.axes[1].images[0]
    assert isinstance(image.norm, LogNorm)
    own = run.agents["round"]
    first = run.agents["disagreement"][own == own.min()].tolist()
    assert np.asarray(image.get_array())[:, 0].tolist() == pytest.approx(first)


def test_of_very_many_edges_some_are_drawn_and_the_caption_says_so(monkeypatch) -> None:
    complete = RULES["complete"]().at(60, 1, 0)
    pairs, left_out = some_pairs(complete, "complete")
    assert (len(pairs), left_out) == (60 * 59 // 2, "")
    one_way = Graph(tuple((i + 1,) if i < 59 else (0, 1) for i in range(60)))
    module = sys.modules[some_pairs.__module__]  # `graph` is a function, too
    monkeypatch.setattr(module, "_MOST_EDGES", 177)
    drawn, left_out = some_pairs(complete, "complete")
    assert set(drawn) < set(pairs)
    assert len(set(drawn)) == len(drawn) == pytest.approx(177, abs=9)
    counts = np.bincount(np.array(drawn).ravel(), minlength=60)
    assert counts.min() >= 1, "no agent is left out"
    assert counts.max() <= 11
    assert left_out == f"one in {1770 / len(drawn):.3g} edges is drawn"
    run = record(60, rounds=2)
    monkeypatch.setattr(module, "_SPRINGS", 10)
    drawing = graph(group([replace(run, graph=complete)]))
    assert drawing is not None
    assert "spiral" not in drawing.caption, "they lie on a circle"
    assert "60 agents, 1,770 edges" in drawing.caption
    assert f"One in {1770 / len(drawn):.3g} edges is drawn." in drawing.caption
    monkeypatch.setattr(module, "_MOST_EDGES", 20)
    few, _ = some_pairs(one_way, "file")
    assert set(few) < set(pairs_of(one_way, "file")[0])
    assert len(few) == pytest.approx(20, abs=4)


def test_a_torus_is_a_grid_without_the_edges_around_it() -> None:
    torus = RULES["torus"]().at(64, 1, 0)
    assert columns_of(torus, "torus") == 8
    assert places(torus, {}, "torus")[11].tolist() == [3.0, -1.0]
    pairs, left_out = pairs_of(torus, "torus")
    assert (len(pairs), left_out) == (2 * 8 * 7, AROUND)
    assert pairs_of(torus, "file") == (
        sorted(pair for pair in torus.edges if pair[0] < pair[1]),
        "",
    )
    grid = RULES["grid"]().at(64, 1, 0)
    assert pairs_of(grid, "grid")[1] == ""
    run = record(64, rounds=2)
    text = f'{run.scenario}\n[topology]\nkind = "torus"\n'
    drawing = graph(group([replace(run, graph=torus, scenario=text)]))
    assert drawing is not None
    assert "The edges around the torus are not drawn." in drawing.caption


def test_the_timeline_says_how_many_agents_it_does_not_show() -> None:
    run = replace(record(4, rounds=2), graph=ring(10_000))
    drawing = timeline(group([run]))
    assert drawing is not None
    assert drawing.caption.endswith(" 9,996 more agents are not shown.")
