"""Rows of a record as columns, as checkpoints keep them: millions of rows are few arrays."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import groupby
from typing import Any

import numpy as np

from p2pfrl.core.state import State

Rows = Sequence[Mapping[str, Any]]


def by_column(rows: Rows) -> list[State]:
    """Return rows as blocks: successive rows with the same keys have one column per key.

    >>> by_column([{"round": 1, "return": 0.5}, {"round": 2, "return": 1.0}])
    [{'count': 2, 'columns': {'round': array([1, 2]), 'return': array([0.5, 1. ])}}]
    """
    blocks: list[State] = []
    for names, group in groupby(rows, key=tuple):
        block = list(group)
        columns = {name: _column([row[name] for row in block]) for name in names}
        blocks.append({"count": len(block), "columns": columns})
    return blocks


def _column(values: list[Any]) -> Any:
    """Return values of one type as an array, and others as they are."""
    if all(type(value) is float for value in values):
        return np.array(values, dtype=np.float64)
    if all(type(value) is int and abs(value) < 2**63 for value in values):
        return np.array(values, dtype=np.int64)
    return values


def by_row(blocks: Sequence[State]) -> list[dict[str, Any]]:
    """Return the rows of which `by_column` made blocks."""
    rows: list[dict[str, Any]] = []
    for block in blocks:
        columns = {
            name: values.tolist() if isinstance(values, np.ndarray) else values
            for name, values in block["columns"].items()
        }
        rows += (
            [
                dict(zip(columns, cells, strict=True))
                for cells in zip(*columns.values(), strict=True)
            ]
            if columns
            else [{} for _ in range(block["count"])]
        )
    return rows
