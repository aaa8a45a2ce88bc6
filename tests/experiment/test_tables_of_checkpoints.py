"""Rows of a record in checkpoints: what is taken out is what was put in."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from p2pfrl.core.state import read, write
from p2pfrl.experiment.tables import by_column, by_row

CELLS = st.integers() | st.floats() | st.floats().map(np.float64) | st.none() | st.booleans()
ROWS = st.lists(st.dictionaries(st.sampled_from(["round", "return", "loss"]), CELLS), max_size=6)


@given(rows=ROWS)
def test_rows_come_back_equal_and_of_the_same_types(rows):
    assert repr(by_row(by_column(rows))) == repr(rows)


def test_rows_of_many_agents_are_few_arrays_in_a_file(tmp_path):
    rows = [{"round": i // 100, "agent": i % 100, "return": 0.1 * i} for i in range(1000)]
    write(tmp_path / "rows", {"agents": by_column(rows)}, {})
    assert by_row(read(tmp_path / "rows", {})["agents"]) == rows
    assert (tmp_path / "rows").stat().st_size < 3 * 8 * 1000 + 1000
