"""The tables of a run while it runs: `metrics.csv` and `agents.csv` grow with its rows.

At its end, the record replaces them. A run that was killed leaves the rows until then.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

import numpy as np

from p2pfrl.results.files import Table, encode_csv
from p2pfrl.results.record import AGENT_COUNTS, AGENTS, COUNTS

Rows = Sequence[Mapping[str, float]]
PERIOD = 1.0
"""Seconds between two writes. A row that comes later than that is written at once."""


class Stream:
    """Writer of the rows of a run.

    If the disk is full, the run continues without it.

    Args:
        folder: the run directory.
        scenario: the resolved scenario.
        now: wall clock, seconds.
    """

    def __init__(
        self, folder: Path, scenario: str, now: Callable[[], float] = time.monotonic
    ) -> None:
        self._folder, self._scenario, self._now = folder, scenario, now
        self._tables = (
            _GrowingTable(folder / "metrics.csv"),
            _GrowingTable(folder / "agents.csv", AGENTS, AGENT_COUNTS),
        )
        self._due = 0.0
        self._is_open = False

    def begin(self) -> None:
        """Write the scenario and begin the tables anew."""
        self._is_open = True
        self._try(self._begin)

    def write(self, rows: Rows, agents: Rows) -> None:
        """Write the rows that are new, unless the last write was a moment ago."""
        if self._is_open and self._now() >= self._due:
            self._try(lambda: self._write(rows, agents))
            self._due = self._now() + PERIOD

    def close(self, rows: Rows, agents: Rows) -> None:
        """Write the rows that are new and close the files."""
        if self._is_open:
            self._try(lambda: self._write(rows, agents))
        self._end()

    def _begin(self) -> None:
        (self._folder / "scenario.toml").write_text(self._scenario, encoding="utf-8")
        for table in self._tables:
            table.begin()

    def _write(self, rows: Rows, agents: Rows) -> None:
        for table, all_rows in zip(self._tables, (rows, agents), strict=True):
            table.write(all_rows)

    def _try(self, write: Callable[[], None]) -> None:
        try:
            write()
        except OSError as error:
            self._end()
            print(f"{self._folder}: rows are not written: {error.strerror}", file=sys.stderr)

    def _end(self) -> None:
        self._is_open = False
        for table in self._tables:
            table.end()


@dataclass
class _GrowingTable:
    """A CSV file that grows. Its columns are those of its first rows.

    Attributes:
        path: the file.
        columns: its first columns; those of its first rows follow.
        counts: columns with whole numbers.
        file: the open file.
        header: all columns, when there were rows.
        written: number of written rows.
    """

    path: Path
    columns: tuple[str, ...] = ()
    counts: tuple[str, ...] = COUNTS
    file: BinaryIO | None = None
    header: tuple[str, ...] = ()
    written: int = field(default=0)

    def begin(self) -> None:
        """Open the file anew."""
        self.file, self.header, self.written = self.path.open("wb"), (), 0

    def write(self, rows: Rows) -> None:
        """Append the rows that are not yet in the file."""
        new, is_first = rows[self.written :], not self.header
        if not new or self.file is None:
            return
        if is_first:
            names = dict.fromkeys((*self.columns, *(name for row in new for name in row)))
            self.header = tuple(names)
        table: Table = {
            name: np.array([row.get(name, np.nan) for row in new], dtype=np.float64)
            for name in self.header
        }
        content = encode_csv(table, self.counts)
        self.file.write(content if is_first else content.partition(b"\n")[2])
        self.file.flush()
        self.written = len(rows)

    def end(self) -> None:
        """Close the file. Rows that do not fit on the disk are lost."""
        if self.file is not None:
            with suppress(OSError):
                self.file.close()
            self.file = None
