"""Readers of tables that grow while they are read."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

from p2pfrl.core.files import open_regular

_MOST = 2**24
"""Most bytes that are read of a table at once: what is older than its end is left out."""


class Tail:
    """Reader of the new rows of a CSV file of numbers.

    Rows that are not complete yet are read later. A file that is replaced is read anew.

    Attributes:
        columns: names of its columns; empty before the first row.
        is_new: whether the last call of `read` began anew.

    Args:
        path: the file.
        most: bytes at its end from which the rows are read at the first time; None for all.
    """

    def __init__(self, path: Path, most: int | None = None) -> None:
        self.columns: tuple[str, ...] = ()
        self.is_new = True
        self._path, self._most = path, most
        self._place, self._file = 0, (0, 0)

    def read(self) -> list[list[float]]:
        """Return the rows that are new; a cell that is no number is nan."""
        try:
            with open_regular(self._path) as file:
                found = self._path.stat()
                identity = (found.st_ino, found.st_dev)
                self.is_new = identity != self._file or found.st_size < self._place
                if self.is_new:
                    self.columns, self._place, self._file = (), 0, (0, 0)
                    header = file.readline(_MOST)
                    if not header.endswith(b"\n"):
                        return []
                    self._file = identity
                    self.columns = tuple(header.decode(errors="replace").strip().split(","))
                    self._place = file.tell()
                    if self._most is not None and found.st_size - self._place > self._most:
                        file.seek(found.st_size - self._most)
                        file.readline()
                        self._place = file.tell()
                file.seek(self._place)
                content = file.read(_MOST)
        except OSError:
            return []
        end = content.rfind(b"\n") + 1
        self._place += end
        lines = content[:end].decode(errors="replace").splitlines()
        return [row for line in lines if len(row := _numbers(line)) == len(self.columns)]


def _numbers(line: str) -> list[float]:
    return [_number(cell) for cell in line.split(",")]


def _number(cell: str) -> float:
    try:
        return float(cell)
    except ValueError:
        return math.nan


class Curves:
    """Columns of a table that grows, thinned to at most `most` rows.

    When there are more, every other row is dropped, and from then on only every other new one is
    kept: the rows that are left are evenly spaced. The last row is always there.

    Args:
        columns: names of the columns that are kept.
        most: number of rows that are kept.
    """

    def __init__(self, columns: Sequence[str], most: int = 1200) -> None:
        self.rows = 0
        self._columns, self._most = tuple(columns), most
        self._kept: list[list[float]] = []
        self._last: list[float] | None = None
        self._step = 1

    def add(self, header: Sequence[str], rows: Sequence[Sequence[float]]) -> None:
        """Add rows with the columns of a header."""
        places = [header.index(name) if name in header else -1 for name in self._columns]
        for row in rows:
            self._last = [math.nan if place < 0 else row[place] for place in places]
            if self.rows % self._step == 0:
                self._kept.append(self._last)
                if len(self._kept) > self._most:
                    self._kept = self._kept[::2]
                    self._step *= 2
            self.rows += 1

    def columns(self) -> dict[str, list[float | None]]:
        """Return the columns; null in place of nan and infinities."""
        rows = self._kept
        if self._last is not None and (not rows or rows[-1] is not self._last):
            rows = [*rows, self._last]
        return {
            name: [rounded(row[place]) for row in rows] for place, name in enumerate(self._columns)
        }

    def last(self, name: str) -> float | None:
        """Return a number of the last row, if it is defined."""
        return None if self._last is None else rounded(self._last[self._columns.index(name)])


def rounded(value: float | None) -> float | None:
    """Return a number with six digits, as a page shows it; None if it is not finite."""
    if value is None or not math.isfinite(value):
        return None
    return value if value == int(value) and abs(value) < 2**53 else float(f"{value:.6g}")
