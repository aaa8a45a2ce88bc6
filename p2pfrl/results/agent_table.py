"""The table of agents while a run runs: one column of numbers per name.

Rows are only added, but for those of the last round, which a row of the end may replace.

A row of ten numbers takes 80 bytes. As a dict of its own it would take over 500.
"""

from __future__ import annotations

from array import array
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from p2pfrl.core.state import State
from p2pfrl.results.record import AGENT_COUNTS, AGENTS

Column = Sequence[float] | NDArray[Any]
"""Numbers of agents, `(b,)`."""


class AgentTable:
    """The rows of `agents.csv`, in order, as columns.

    A column that comes later is nan in the rows before it. A name stands where the first row that
    has it puts it, behind the columns that every table has.
    """

    def __init__(self) -> None:
        self._columns: dict[str, array[Any]] = {name: _column(name) for name in AGENTS}
        self._rows = 0

    def __len__(self) -> int:
        """Return the number of rows."""
        return self._rows

    def add(self, columns: Mapping[str, Column]) -> None:
        """Append rows of agents, given as columns of equal length; columns may be missing."""
        count = len(columns[AGENTS[0]])
        for name, values in columns.items():
            column = self._columns.get(name)
            if column is None:
                column = self._columns[name] = _column(name, self._rows)
            if isinstance(values, np.ndarray):
                column.frombytes(values.astype(column.typecode).tobytes())
            else:
                column.extend(array(column.typecode, values))  # twice as fast as one by one
        self._rows += count
        for column in self._columns.values():
            if len(column) < self._rows:
                column.extend(array(column.typecode, [np.nan]) * count)

    def drop(self, round: int) -> None:
        """Remove the last rows, those of a round."""
        rounds = self._columns["round"]
        while self._rows and rounds[self._rows - 1] == round:
            self._rows -= 1
        for values in self._columns.values():
            del values[self._rows :]

    def columns(self, first: int = 0) -> dict[str, NDArray[Any]]:
        """Return all columns as new arrays, without the rows before `first`."""
        return {name: np.array(values[first:]) for name, values in self._columns.items()}

    def save(self, first: int = 0) -> State:
        """Return the rows from `first` on."""
        return self.columns(first)

    def restore(self, state: Mapping[str, NDArray[Any]]) -> None:
        """Append rows that `save` returned."""
        self.add(state)


def _column(name: str, rows: int = 0) -> array[Any]:
    """Return a column with so many rows that lack it."""
    if name in AGENT_COUNTS:
        assert not rows, "counts are in every row, or in none"
        return array("q")
    return array("d", [np.nan] * rows)
