"""Figures of many agents, and of rounds without rows, say what is left out."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from factory import record, ring
from matplotlib.colors import LogNorm

from p2pfrl.consensus.topologies import RULES
from p2pfrl.results.groups import group
from p2pfrl.results.plots.graph import AROUND, columns_of, graph, pairs_of, places
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
