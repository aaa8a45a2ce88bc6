"""The parts of a page: growing tables, thinned curves, time left, and graphs of many agents."""

from __future__ import annotations

import math
import os
from itertools import pairwise
from pathlib import Path

import pytest

from p2pfrl.consensus.topologies import RULES
from p2pfrl.core.graph import undirected
from p2pfrl.watch.agents import WHOLE, Agents, table
from p2pfrl.watch.drawing import SINGLE, picture
from p2pfrl.watch.progress import Progress
from p2pfrl.watch.tails import Curves, Tail


def test_a_table_is_read_by_complete_lines_and_anew_when_it_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    tail = Tail(path)
    assert tail.read() == []
    for beginning in ("", "a,"):
        path.write_text(beginning)
        assert tail.read() == []
    with path.open("a") as file:
        file.write("b\n1,2\n3,")
    assert tail.read() == [[1.0, 2.0]]
    with path.open("a") as file:
        file.write("nan\n")
    [row] = tail.read()
    assert row[0] == 3.0
    assert math.isnan(row[1])
    assert tail.read() == []
    path.write_text("a,c\n5,6\n")
    assert tail.read() == [[5.0, 6.0]]
    assert tail.is_new
    assert tail.columns == ("a", "c")


def test_of_a_long_table_only_the_end_is_read(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text("a\n" + "".join(f"{i}\n" for i in range(10_000)))
    rows = Tail(path, most=200).read()
    assert rows[-1] == [9999.0]
    assert len(rows) <= 40


def test_a_table_that_is_a_pipe_or_has_no_lines_is_not_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("p2pfrl.watch.tails._MOST", 100)
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "zero").symlink_to("/dev/zero")
    (tmp_path / "wide").write_text("a" * 200 + "\n1\n")
    assert [Tail(tmp_path / name).read() for name in ("pipe", "zero", "wide")] == [[], [], []]


def test_curves_keep_evenly_spaced_rows_and_the_last() -> None:
    curves = Curves(("round",), most=100)
    curves.add(("round",), [[float(i)] for i in range(1000)])
    rounds = curves.columns()["round"]
    assert curves.rows == 1000
    assert len(rounds) <= 101
    assert rounds[-1] == 999.0
    steps = {b - a for a, b in pairwise(rounds[:-1])}
    assert len(steps) == 1


def test_the_time_left_follows_from_the_speed_of_the_last_minute() -> None:
    progress = Progress({"rounds": 100, "virtual_time": "1h"})
    assert progress.goals == {"rounds": 100.0, "virtual_seconds": 3600.0}
    assert progress.share({"rounds": 25.0, "virtual_seconds": 36.0}) == 0.25
    assert progress.left(0.25, 50.0) == pytest.approx(150.0)
    assert progress.left(0.5, 75.0) == pytest.approx(50.0)
    assert progress.left(0.6, 200.0) == pytest.approx(0.4 / (0.1 / 125.0))
    assert Progress({}).share({"rounds": 3.0}) is None


@pytest.mark.parametrize("side", [12, 60])
def test_a_torus_is_drawn_as_a_grid_and_many_agents_as_cells(side: int) -> None:
    n = side * side
    graph = RULES["torus"]().at(n, 1, 0)
    drawn = picture(graph, {}, "torus")
    if n <= SINGLE:
        assert drawn.cells is None
        assert len(drawn.section["x"]) == n
        assert "around the torus" in drawn.note
        assert len(drawn.section["edges"]) == 2 * 2 * side * (side - 1)
    else:
        assert sum(drawn.section["counts"]) == n
        assert f"{n:,} agents are drawn as" in drawn.note
        ones = drawn.values([1.0] * n)
        assert ones == [1.0] * len(drawn.section["x"])
        mean = drawn.values([float(i) for i in range(n)])
        assert sum(m * c for m, c in zip(mean, drawn.section["counts"], strict=True)) == (
            pytest.approx(n * (n - 1) / 2, rel=1e-4)
        )


def test_a_dense_graph_has_some_of_its_edges_and_says_so() -> None:
    graph = undirected(100, [(i, j) for i in range(100) for j in range(i)])
    drawn = picture(graph, {-1: tuple(range(100))}, "complete")
    assert drawn.note == "4,000 of 5,050 edges are drawn"
    assert drawn.section["names"] == ["coordinator"]


def test_of_many_agents_the_table_has_the_worst_the_best_and_the_last(tmp_path: Path) -> None:
    n = 5000
    path = tmp_path / "agents.csv"
    rows = "".join(f"1,{i},{i * 7919 % n}\n" for i in range(n))
    path.write_text("round,agent,return\n" + rows)
    agents = Agents(path)
    agents.read(n)
    rounds = [9] * n
    rounds[4321] = 2
    found = table(agents, rounds, "w" * n, {})
    assert len(found["rows"]) <= WHOLE
    assert agents.note.startswith(f"{len(found['rows'])} of 5,000 agents")
    by_agent = {row[0]: row for row in found["rows"]}
    assert by_agent[4321][3] == 7
    assert found["worst"][0] == [0, 0.0]
    assert found["best"][0][1] == n - 1
    assert found["best"][0][0] in by_agent


def test_many_agents_without_returns_are_chosen_by_their_distance_from_the_average(
    tmp_path: Path,
) -> None:
    n = 1000
    path = tmp_path / "agents.csv"
    rows = "".join(f"1,{i},nan,{i * 7919 % n}\n" for i in range(n))
    path.write_text("round,agent,return,disagreement\n" + rows)
    agents = Agents(path)
    agents.read(n)
    found = table(agents, [], "", {})
    assert agents.note == "100 of 1,000 agents: those farthest from the average"
    apart = [row[found["columns"].index("disagreement")] for row in found["rows"]]
    assert sorted(apart) == list(range(900, 1000))
    assert [value for _, value in found["farthest"]] == [999, 998, 997]
    assert found["best"] == []
    path.write_text("round,agent\n" + "".join(f"1,{i}\n" for i in range(n)))
    agents.read(n)
    assert len(table(agents, [], "", {})["rows"]) == 100
    assert agents.note == "100 of 1,000 agents: those with the lowest numbers"


def test_agents_with_equal_returns_are_neither_the_best_nor_the_worst(tmp_path: Path) -> None:
    path = tmp_path / "agents.csv"
    path.write_text("round,agent,return\n" + "".join(f"1,{i},500.0\n" for i in range(4)))
    agents = Agents(path)
    agents.read(4)
    found = table(agents, [], "", {})
    assert (found["best"], found["worst"], found["equal"]) == ([], [], 500.0)
