"""The tables of a run while it runs: `metrics.csv` and `agents.csv` grow with its rows.

At its end, the record replaces them. A run that was killed leaves the rows until then.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

import numpy as np

from p2pfrl.core.errors import RecordError
from p2pfrl.results.agent_table import AgentTable
from p2pfrl.results.files import Table, encode_csv
from p2pfrl.results.record import AGENT_COUNTS, COUNTS

Rows = Sequence[Mapping[str, float]]
PERIOD = 1.0
"""Seconds between two writes. A row that comes later than that is written at once."""


class Stream:
    """Writer of the rows of a run.

    Rows that cannot be written, as on a full disk, are written later if they can be.

    Args:
        folder: the run directory.
        scenario: the resolved scenario.
        writes: tries a write (core/writes.py).
        now: wall clock, seconds.
    """

    def __init__(
        self,
        folder: Path,
        scenario: str,
        writes: Callable[[str, Callable[[], object]], bool],
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._folder, self._scenario, self._writes, self._now = folder, scenario, writes, now
        self._tables = (
            _GrowingTable(folder / "metrics.csv"),
            _GrowingTable(folder / "agents.csv", AGENT_COUNTS),
        )
        self._due = 0.0
        self._is_open = self._has_begun = False

    def begin(self) -> None:
        """Write the scenario and begin the tables anew."""
        self._is_open = True
        self._has_begun = False
        self._try(lambda: None)

    def write(self, rows: Rows, agents: AgentTable) -> None:
        """Write the rows that are new, unless the last write was a moment ago."""
        if self._is_open and self._now() >= self._due:
            self._try(lambda: self._write(rows, agents))
            self._due = self._now() + PERIOD

    def close(self, rows: Rows, agents: AgentTable) -> None:
        """Write the rows that are new and close the files."""
        if self._is_open:
            with suppress(RecordError):  # the record has all rows
                self._try(lambda: self._write(rows, agents))
        self._is_open = False
        for table in self._tables:
            table.end()

    def _begin(self) -> None:
        with _new(self._folder / "scenario.toml") as file:
            file.write(self._scenario.encode())
        for table in self._tables:
            table.begin()

    def _write(self, rows: Rows, agents: AgentTable) -> None:
        metrics, own = self._tables
        metrics.write(len(rows), lambda first: _columns(rows[first:]))
        own.write(len(agents), agents.columns)

    def _try(self, write: Callable[[], None]) -> None:
        def attempt() -> None:
            try:
                if not self._has_begun:
                    self._begin()
                    self._has_begun = True
                write()
            except OSError as error:
                what = f"{self._folder}: rows of the run cannot be written: {error.strerror}"
                raise RecordError(what) from error

        self._writes("rows", attempt)


@dataclass
class _GrowingTable:
    """A CSV file that grows. Its columns are those of its first rows.

    Attributes:
        path: the file.
        counts: columns with whole numbers.
        file: the open file.
        header: all columns, when there were rows.
        written: number of written rows.
        size: number of bytes of these rows.
    """

    path: Path
    counts: tuple[str, ...] = COUNTS
    file: BinaryIO | None = None
    header: tuple[str, ...] = ()
    written: int = field(default=0)
    size: int = field(default=0)

    def begin(self) -> None:
        """Open the file anew."""
        self.end()
        self.file, self.header, self.written = _new(self.path), (), 0
        self.size = 0

    def write(self, rows: int, columns: Callable[[int], Table]) -> None:
        """Append the rows that are not yet in the file.

        Args:
            rows: how many there are.
            columns: returns the columns of those from a row on.
        """
        is_first = not self.written
        if rows == self.written:
            return
        if self.file is None:  # the last write failed, perhaps within a row
            self.file = self.path.open("r+b")
            self.file.truncate(self.size)
            self.file.seek(self.size)
        table = columns(self.written)
        if is_first:
            self.header = tuple(table)
        content = encode_csv({name: table[name] for name in self.header}, self.counts)
        lines = content if is_first else content.partition(b"\n")[2]
        try:
            self.file.write(lines)
            self.file.flush()
        except OSError:
            self.end()
            raise
        self.written = rows
        self.size += len(lines)

    def end(self) -> None:
        """Close the file. Rows that do not fit on the disk are lost."""
        if self.file is not None:
            with suppress(OSError):
                self.file.close()
            self.file = None


def _new(path: Path) -> BinaryIO:
    """Open a new file in the place of what is there, which may be a pipe that nobody reads."""
    path.unlink(missing_ok=True)
    return path.open("xb")


def _columns(rows: Rows) -> Table:
    """Return rows as columns; the names are those of the first row."""
    return {name: np.array([row[name] for row in rows], dtype=np.float64) for name in rows[0]}
