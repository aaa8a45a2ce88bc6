"""CSV files of numbers: numpy's reader gives what Python's gives, and blocks make no difference."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2pfrl.results import files
from p2pfrl.results.files import decode_csv, encode_csv

ODD = (
    "a,b\n",
    "a\n1\n2\n",
    "a,b\n1,2.5\n3,nan\n",
    "a,b\n1,2\n1.5,3\n",
    "a,b\n1,2\n\n3,4\n",
    "a,b\n1,2\n3\n",
    "a,a\n1,2\n",
    "",
    "a,b\r\n1,2\r\n",
    "a,b\n1,2",
    "a\n1_0\n",
    "a\n#1\n",
    "a,b\n1,\n",
    "a\n99999999999999999999\n",
    "a\n1\n+5\n",
    "a\n1e400\n-inf\n",
    "a\n 1\n",
    "a,b\n1 2,3\n",
    "a\n1.0\n0x10\n",
    'a\n"1"\n',
)


def outcome(content: bytes) -> str:
    try:
        found = decode_csv(content)
    except (ValueError, OverflowError) as error:
        return str(error)
    return repr({name: (v.dtype.str, v.tolist()) for name, v in found.items()})


@pytest.mark.parametrize("content", ODD)
def test_both_readers_agree(content: str, monkeypatch: pytest.MonkeyPatch) -> None:
    found = outcome(content.encode())
    monkeypatch.setattr(files, "_numbers", lambda content: None)
    assert found == outcome(content.encode())


@given(values=st.lists(st.floats(), min_size=1, max_size=20))
def test_numbers_come_back_bit_for_bit_from_blocks(values: list[float]) -> None:
    table = {"round": np.arange(len(values)), "value": np.array(values)}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(files, "_BLOCK", 3)
        patch.setattr(files, "_PIECE", 20)
        found = decode_csv(encode_csv(table))
    assert found["round"].dtype == np.int64
    assert np.nan_to_num(found["value"], nan=7.0).tobytes() == (
        np.nan_to_num(table["value"], nan=7.0).tobytes()
    )


def test_a_table_of_numbers_is_read_by_numpy() -> None:
    assert files._numbers(b"a,b\n1,2.5\n") is not None
