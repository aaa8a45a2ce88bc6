"""Trees of coordinators with more than one level of edges."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import processes
import pytest
from hypothesis import given
from hypothesis import strategies as st

import p2pfrl
from p2pfrl.build.participants import share
from p2pfrl.build.preview import preview
from p2pfrl.core.errors import ScenarioError
from p2pfrl.core.types import COORDINATOR, edge_id
from p2pfrl.deploy.collect import collect
from p2pfrl.laws.runs import play, text
from p2pfrl.results.plots.graph import places as places_of
from p2pfrl.scenario import Scenario, loads
from p2pfrl.scenario.hierarchy import branches


def tree(agents: int = 8, rounds: int = 4, **tables: object) -> Scenario:
    hierarchy = {"branching": 2, **tables.pop("hierarchy", {})}  # type: ignore[dict-item]
    whole = {"mode": "hierarchical", "hierarchy": hierarchy, **tables}
    return loads(text(agents, rounds, **whole))  # type: ignore[arg-type]


@given(st.integers(3, 300), st.integers(2, 9))
def test_everybody_is_below_one_edge_and_nobody_has_more_than_the_branching(n: int, b: int) -> None:
    if b >= n:
        return
    groups = branches(n, b)
    below = [id for group in groups for id in group]
    assert sorted(id for id in below if id >= 0) == [*range(n)]
    assert len({*below}) == len(below)
    edges = {edge_id(number) for number in range(len(groups))}
    top = edges - {*below}
    assert 1 < len(top) <= b
    assert max(map(len, groups)) <= b
    for number, group in enumerate(groups):
        assert all(id < edge_id(number) for id in group if id < 0), "an edge is above its own"
        assert len({id >= 0 for id in group}) == 1

    def depth(id: int) -> int:
        return 0 if id >= 0 else 1 + max(map(depth, groups[edge_id(id)]))

    levels = 1 + max(map(depth, top))
    assert b ** (levels - 1) < n <= b**levels


@pytest.mark.parametrize("edge_rounds", [1, 2])
def test_messages_of_a_round_are_those_that_validate_says(edge_rounds: int) -> None:
    scenario = tree(10, 8, hierarchy={"branching": 3, "edge_rounds": edge_rounds})
    record = p2pfrl.run(scenario)
    expected = preview(scenario)["messages_per_round"] * 8
    last = 10 + 6  # the last model, once down each link
    assert record.summary["messages_sent"] == pytest.approx(expected + last)
    assert record.summary["rounds"] == 8


def test_models_are_equal_when_the_cloud_has_averaged_and_not_before() -> None:
    record = p2pfrl.run(tree(8, 8, hierarchy={"edge_rounds": 2}))
    distance = record.metrics["consensus_distance"]
    assert (distance[[0, 1, 2, 4, 5, 6]] > 0.1).all()
    assert (distance[[3, 7]] < 1e-12).all()


def test_a_tree_weighs_agents_by_their_capacity_across_levels() -> None:
    speeds = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0]
    tables = {
        "compute": {"speed": speeds},
        "coordinator": {"aggregator": {"kind": "mean", "weights": "speed"}},
    }
    record = p2pfrl.run(tree(7, 1, **tables))
    alone = play(7, 1, mode="independent").parameters
    expected = np.average(alone, axis=0, weights=speeds)
    np.testing.assert_allclose(record.parameters[0], expected, rtol=0, atol=1e-13)


def test_an_edge_of_edges_lives_with_most_of_its_agents() -> None:
    assert share(tree(), 2) == [(-1,), (-5, -4, -2, 0, 1, 2, 3), (-7, -6, -3, 4, 5, 6, 7)]


def test_a_record_knows_all_levels_and_a_figure_has_a_place_for_each() -> None:
    record = p2pfrl.run(tree(8, 1))
    assert record.coordinators[COORDINATOR] == (-3, -2)
    assert record.coordinators[-2] == (-5, -4)
    places = places_of(record.graph, record.coordinators, "ring")
    assert len({tuple(np.round(place, 6)) for place in places}) == 8 + 7


@pytest.mark.parametrize(
    ("hierarchy", "what"),
    [
        ({"branching": 8}, "branching: expected less than the 8 agents, got 8; mode central"),
        ({"branching": 1}, "at least 2"),
        ({"branching": 2, "edges": 2}, "it makes a tree by itself: leave out edges and groups"),
    ],
)
def test_what_is_no_tree_is_refused(hierarchy: dict[str, object], what: str) -> None:
    with pytest.raises(ScenarioError, match=what):
        tree(hierarchy=hierarchy)


@pytest.mark.slow
def test_a_tree_of_three_levels_has_the_parameters_of_the_simulator_over_tcp(
    tmp_path: Path,
) -> None:
    scenario = tree(8, 4, learner={"noise": 0.1}, hierarchy={"edge_rounds": 2})
    homes = processes.run(scenario, [*map(list, share(scenario, 2))], tmp_path / "peers")
    found, run = collect(homes, tmp_path / "out"), p2pfrl.run(scenario)
    assert np.array_equal(found.parameters, run.parameters)
    assert found.summary["messages_sent"] == run.summary["messages_sent"]
    np.testing.assert_array_equal(
        found.metrics["consensus_distance"], run.metrics["consensus_distance"]
    )
