"""The table of agents keeps rows as columns; distances in blocks are those of all rows at once."""

import numpy as np
import pytest

from p2pfrl.core.parameters import Layout, Tensor
from p2pfrl.core.rng import generator
from p2pfrl.learning.native import library
from p2pfrl.learning.native.choice import missing
from p2pfrl.results.agent_table import AgentTable
from p2pfrl.results.distances import Distances, add_move
from p2pfrl.results.record import AGENTS

ROW = {name: [3, 4] if name in ("round", "agent") else [0, 0] for name in AGENTS}


def test_a_column_that_comes_later_is_nan_in_earlier_rows_and_one_that_ends_in_later_ones() -> None:
    table = AgentTable()
    table.add({**ROW, "wins": [1.0, 2.0]})
    table.add({**ROW, "losses": [5.0, 6.0]})
    columns, nan = table.columns(), np.nan
    assert list(columns) == [*AGENTS, "wins", "losses"]
    np.testing.assert_equal(columns["wins"], [1.0, 2.0, nan, nan])
    np.testing.assert_equal(columns["losses"], [nan, nan, 5.0, 6.0])
    assert columns["agent"].dtype == np.int64
    assert len(table) == len(columns["agent"]) == 4


def test_a_table_goes_on_from_what_it_saved() -> None:
    table, other = AgentTable(), AgentTable()
    table.add({**ROW, "wins": [1.0, 2.0]})
    other.restore(table.save())
    table.add({**ROW, "wins": [3.0, 4.0]})
    other.restore(table.save(2))
    np.testing.assert_equal(other.columns(), table.columns())


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("parts", [None, ("actor", "rest")])
@pytest.mark.parametrize("agents", [1, 2, 300])
def test_distances_have_the_bits_of_all_rows_at_once(
    agents: int, parts: tuple[str, ...] | None, dtype: str
) -> None:
    tensors = (("actor.w", 700), ("critic.w", 5), ("actor.b", 3), ("rest.w", 40))
    layout = Layout(tuple(Tensor(name, (size,)) for name, size in tensors), dtype)
    rows = layout.zeros(agents)
    layout.unpack(generator(agents, "rows").normal(size=(agents, layout.size)), rows)
    found = Distances(layout, parts, ("actor", "missing")).of(list(layout.pack(rows)))
    expected = rows if parts is None else layout.pack(rows, parts)
    mean = expected.mean(axis=0, dtype=np.float64)
    squares = [float(np.square(row - mean).sum()) for row in expected]
    assert found.own == [square**0.5 for square in squares]
    assert found.consensus == (sum(squares) / agents) ** 0.5
    actors = layout.pack(rows, ("actor",))
    apart = actors - actors.mean(axis=0, dtype=np.float64)
    assert found.parts == {"actor": pytest.approx(np.square(apart).sum(axis=1).mean() ** 0.5)}


@pytest.mark.skipif(missing() is not None, reason="no native engine")
def test_the_native_engine_adds_moves_with_the_same_bits() -> None:
    rng = generator(5, "moves")
    found, expected = np.zeros((2, 101)), np.zeros((2, 101))
    for _ in range(50):
        scale = 10.0 ** rng.uniform(-8, 8, size=(2, 101))
        before, after = (rng.normal(size=(2, 101)) * scale).astype(np.float32)
        library.add_move(before, after, *found)
        add_move(before, after, *expected)
    assert found.tobytes() == expected.tobytes()
    assert expected[1].any()
