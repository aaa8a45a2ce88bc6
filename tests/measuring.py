"""What programs share that measure cells of tables into a file: arguments, and the way to the file.

A cell is a list of what runs gave, one after the other by seed. The file is written after every
run, so that a program may be stopped; with `--more` it measures only what is not there.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from p2pfrl.results.versions import kernels, processor

Content = Mapping[str, Any]
"""Name of a table -> what was measured for it."""


@dataclass(frozen=True)
class Cell:
    """A cell of a table.

    Attributes:
        path: its keys within the table's part of the file.
        seeds: of its runs.
        measure: a seed -> what its run gives.
    """

    path: tuple[str, ...]
    seeds: Sequence[int]
    measure: Callable[[int], Any]


def main(
    description: str | None,
    file: Path,
    key: str,
    cells: Mapping[str, Sequence[Cell]],
    lines: Callable[[Content, Sequence[str]], Iterator[str]],
    arguments: Sequence[str] | None = None,
) -> None:
    """Measure the tables that are named, or all; or print the lines of what is there.

    Args:
        description: of the program.
        file: to write, unless `--out` names another one.
        key: of the file, under which the tables are.
        cells: name of a table -> its cells.
        lines: (what was measured, names of tables) -> lines of the page.
        arguments: of the command line; None: those of the process.
    """
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("names", nargs="*", help=f"of {', '.join(cells)}")
    parser.add_argument("--out", type=Path, default=file, help="the file to write")
    parser.add_argument("--table", action="store_true", help="print what is there; measure nothing")
    parser.add_argument("--more", action="store_true", help="measure only what is not there")
    options = parser.parse_args(arguments)
    if unknown := [name for name in options.names if name not in cells]:
        parser.error(f"there is no {', '.join(unknown)}; it is one of {', '.join(cells)}")
    names = options.names or list(cells)
    known = json.loads(options.out.read_text())[key] if options.out.exists() else {}
    if options.table:
        print(*lines(known, names), sep="\n")
        return
    machine = {"processor": processor(), "kernels": kernels()}
    for name in names:
        for cell in cells[name]:
            found = _place(known, (name, *cell.path))
            if not options.more:
                found.clear()
            for seed in cell.seeds[len(found) :]:
                found.append(cell.measure(seed))
                text = json.dumps({"machine": machine, key: known}, indent=1)
                options.out.write_text(f"{text}\n", encoding="utf-8")
            print(": ".join((name, *cell.path)), f"has {len(found)} runs", flush=True)


def _place(known: dict[str, Any], path: Sequence[str]) -> list[Any]:
    """Return the list at a path, which is made if there is none."""
    for part in path[:-1]:
        known = known.setdefault(part, {})
    found: list[Any] = known.setdefault(path[-1], [])
    return found
