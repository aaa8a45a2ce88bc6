"""The table of agents keeps rows as columns; distances in blocks are those of all rows at once."""

from typing import Any

import numpy as np
import pytest

from p2pfrl.core.parameters import Layout, Tensor
from p2pfrl.core.rng import generator
from p2pfrl.learning.native.choice import missing
from p2pfrl.learning.native.measures import NativeSums, _places
from p2pfrl.results.agent_table import AgentTable
from p2pfrl.results.distances import Distances, Drift, add_move, add_short_moves
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


needs_engine = pytest.mark.skipif(missing() is not None, reason="no native engine")


@needs_engine
@pytest.mark.parametrize("parts", [None, ("actor", "rest")])
@pytest.mark.parametrize("agents", [1, 6, 41])
def test_distances_by_the_native_engine_have_the_same_bits(
    agents: int, parts: tuple[str, ...] | None
) -> None:
    tensors = (("actor.w", 700), ("critic.w", 5), ("actor.b", 3), ("rest.w", 40))
    layout = Layout(tuple(Tensor(name, (size,)) for name, size in tensors))
    numbers = generator(agents, "rows").normal(size=(agents, 2 * layout.size)).astype(np.float32)
    vectors, apart = [row[: layout.size] for row in numbers], [row[1::2] for row in numbers]
    vectors[0] = vectors[0].copy()
    vectors[0].setflags(write=False)
    if agents > 2:
        vectors[1] = vectors[1].astype(">f4")
    own, engine = (Distances(layout, parts, ("actor", "critic"), e) for e in (None, NativeSums()))
    assert engine.of(vectors) == own.of(vectors)
    assert engine.to_mean(vectors, apart) == own.to_mean(vectors, apart)


@needs_engine
def test_the_native_engine_finds_where_vectors_lie() -> None:
    one = np.arange(12, dtype=np.float32)
    told = np.frombuffer(one.tobytes(), one.dtype.newbyteorder("<"))  # of a message
    plain = (one, told, one[3:9].repeat(2), np.ones((2, 12), np.float32)[1])
    found = _places(plain, 12)
    assert found is not None
    assert found.tolist() == [vector.ctypes.data for vector in plain]
    others = (one[:11], one.astype(np.float64), one.astype(">f4"), np.ones(24, np.float32)[::2])
    strangers: tuple[Any, ...] = (None, one.tolist(), np.float32(1.0))  # nobody looks into them
    whole = (one.reshape(1, 12), one.view(np.int32), one.reshape(12, 1))
    for other in (*others, *whole, *strangers):
        assert _places((one, other), 12) is None


@needs_engine
def test_the_native_engine_adds_moves_with_the_same_bits() -> None:
    rng = generator(5, "moves")
    found, expected = Drift(4, NativeSums()), Drift(4)
    for number in range(50):
        scale = 10.0 ** rng.uniform(-8, 8, size=(2, 601))
        before, after = (rng.normal(size=(2, 601)) * scale).astype(np.float32)
        before.setflags(write=False)
        if number % 10 == 9:  # numbers for which the engine has no code
            before = before.astype(np.float64)
        for drift in (found, expected):
            drift.add(number % 3, before, after)
    sums, others = found.save()["open"], expected.save()["open"]
    for row in range(3):
        assert np.array(sums[row]).tobytes() == np.array(others[row]).tobytes()
        found.close(row)
        expected.close(row)
    assert others[1][1].any()
    assert found.norm == expected.norm > 0


@pytest.mark.parametrize("size", [1, 2, 8, 64])
def test_short_moves_are_added_with_the_bits_of_one_after_the_other(size: int) -> None:
    rng = generator(size, "moves")
    moves = rng.normal(size=(29, 2, size)) * 10.0 ** rng.uniform(-8, 8, size=(29, 2, size))
    moves[:, :, 0] = 0.0
    moves[3:5, :, 0] = [[0.0, -0.0], [1.0, np.inf]]
    found, expected = np.zeros((2, size)), np.zeros((2, size))
    with np.errstate(invalid="ignore"):
        for first, last in ((0, 5), (5, 6), (6, 29)):
            add_short_moves([*moves[first:last].reshape(-1, size)], found)
        for before, after in moves:
            add_move(before, after, expected)
    assert found.tobytes() == expected.tobytes()
    if size > 1:
        assert expected[1].any()


def test_a_drift_that_is_saved_within_a_round_goes_on() -> None:
    whole, saved = Drift(2), Drift(2)
    for number in range(3):
        for drift in (whole, saved):
            drift.add(0, np.zeros(3), np.arange(3) + number)
        other, saved = saved, Drift(2)
        saved.restore(other.save())
    for drift in (whole, saved):
        drift.close(0)
    assert saved.norm == whole.norm == pytest.approx(np.linalg.norm([1.5, 3.0, 4.5]))
