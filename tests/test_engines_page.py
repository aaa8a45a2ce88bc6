"""The page on engines states the learning curves that were measured, and they can be measured."""

import json

import pytest
from measure_engines import (
    CURVES,
    ENGINES,
    FILE,
    POINTS,
    ROOT,
    SEEDS,
    compared,
    lines,
    measure,
    shown,
)

from p2pfrl.learning.native.choice import missing

PAGE = (ROOT / "docs" / "engines.md").read_text(encoding="utf-8")
FOUND = json.loads(FILE.read_text(encoding="utf-8"))["engines"]


def test_the_table_of_the_page_is_that_of_the_measured_file() -> None:
    assert set(FOUND) == set(CURVES)
    assert all(len(FOUND[name][engine]) == len(SEEDS) for name in CURVES for engine in ENGINES)
    assert "\n".join(lines(FOUND)) in PAGE


def test_both_engines_learn_alike_and_do_learn() -> None:
    for name in CURVES:
        torch, native = (FOUND[name][engine] for engine in ENGINES)
        points = compared(torch, native)
        assert points.within >= points.count - 1, name
        assert sum(run[-1] > run[1] for run in native) >= 9, name


def test_points_count_where_all_runs_have_one() -> None:
    first = [[0.0, 5.0, 4.0, None], [0.1, 5.2, 4.1, 1.0], [-0.1, 4.8, 3.9, 1.0]]
    second = [[0.1, 7.0, 4.01, 1.0], [0.0, 7.1, 4.11, 1.0], [-0.1, 6.9, 3.91, 1.0]]
    points = compared(first * 2, second * 2)
    assert (points.count, points.within, points.paired) == (3, 2, 1)


def test_a_cell_has_the_mean_and_half_the_width_of_the_interval() -> None:
    assert shown([1.0, 2.0, 3.0, 4.0, 5.0], ".1f") == "3.0 ± 2.0"


@pytest.mark.parametrize("engine", ENGINES)
def test_a_cell_can_be_measured_again(engine: str) -> None:
    if engine == "native" and missing():
        pytest.skip(str(missing()))
    few = {"stop.rounds": POINTS, "agents": 2, "environment.instances": 1, "learner.steps": 16}
    found = measure("ring_16", engine, 1, **few)
    assert len(found) == POINTS
    assert all(one is None or one > 5 for one in found)
