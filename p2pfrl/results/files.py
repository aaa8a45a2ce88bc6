"""Files of a run directory: atomic writes, exact numbers, and errors that name a damaged file.

A file appears complete or not at all (temporary file, fsync, rename). A float in a CSV file is
Python's `repr`, the shortest text that reads back as the same number. A file that cannot be read
raises a `RecordError` that names it.
"""

from __future__ import annotations

import csv
import io
import json
import math
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from p2pfrl.core.errors import RecordError
from p2pfrl.core.files import checksum, read_regular, write_file

Table = dict[str, NDArray[Any]]


def write_bytes(path: Path, content: bytes) -> str:
    """Write `content` to `path` atomically and return its checksum."""
    write_file(path, content)
    return checksum(content)


LARGEST = 2**32
"""Most bytes of a file with a run's data."""
_LARGEST_TEXT = {".json": 2**26, ".toml": 2**20, ".csv": 2**30}
"""Suffix of files whose content takes several times their size in memory -> most bytes."""


def read_bytes(path: Path) -> bytes:
    """Return the content of a file of a run directory, which may come from somebody else.

    Raises:
        RecordError: it is missing, is no regular file, is too large, or cannot be read.
    """
    try:
        return read_regular(path, _LARGEST_TEXT.get(path.suffix, LARGEST))
    except FileNotFoundError as error:
        raise RecordError(
            f"{path}: missing; the run is incomplete or this is not a run directory"
        ) from error
    except OSError as error:
        raise RecordError(f"{path}: cannot be read: {error.strerror}") from error


def require_regular(path: Path) -> None:
    """Refuse what is no regular file, without reading it.

    Raises:
        RecordError: it is missing, a directory, a pipe or a device.
    """
    if not path.is_file():
        what = "not a regular file" if path.exists() else "missing"
        raise RecordError(f"{path}: {what}; the run is incomplete or this is not a run directory")


@contextmanager
def refusing(path: Path) -> Iterator[None]:
    """Raise a `RecordError` that names `path` if parsing its content fails in any way."""
    try:
        yield
    except (
        ValueError,
        OverflowError,
        KeyError,
        TypeError,
        IndexError,
        AttributeError,
        csv.Error,
        RecursionError,
    ) as error:
        raise RecordError(f"{path}: damaged or not a p2pfrl record: {_said(error)}") from error


def _said(error: Exception) -> str:
    """Return an error of parsing in words."""
    if isinstance(error, KeyError):
        return f"it has no {error}"
    if isinstance(error, ValueError | csv.Error) and str(error):
        return str(error)
    return f"{type(error).__name__}: {error}"


def plain(value: Any) -> Any:
    """Return `value` in JSON's types: numpy numbers and arrays become Python's, nan and inf null.

    >>> plain({"mean": np.float64(0.5), "p95": float("nan"), "layers": (1, 2)})
    {'mean': 0.5, 'p95': None, 'layers': [1, 2]}
    """
    if isinstance(value, Mapping):
        return {str(k): plain(v) for k, v in value.items()}
    if isinstance(value, np.ndarray | np.generic):
        return plain(value.tolist())
    if isinstance(value, list | tuple):
        return [plain(v) for v in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def encode_json(value: Any) -> bytes:
    """Return `value` as indented JSON."""
    return (json.dumps(plain(value), indent=2, allow_nan=False, ensure_ascii=False) + "\n").encode()


_BLOCK = 2**16
"""Rows that are encoded or decoded at a time."""


def _cells(values: NDArray[Any], *, whole: bool) -> list[str]:
    if values.dtype.kind == "U":
        return [str(v) for v in values.tolist()]
    if values.dtype.kind in "biu":
        return [str(int(v)) for v in values.tolist()]
    if whole:
        return [
            str(int(v)) if v.is_integer() else repr(v) for v in values.astype(np.float64).tolist()
        ]
    return [repr(v) for v in values.astype(np.float64).tolist()]


def encode_csv(table: Mapping[str, NDArray[Any]], whole: Sequence[str] = ()) -> bytes:
    """Return columns of equal length as CSV with a header.

    Args:
        table: column name -> `(rows,)` integers, floats or words.
        whole: float columns whose whole numbers are written without ".0", such as rounds and
            counts.
    """
    held = io.BytesIO()
    out = io.TextIOWrapper(held, encoding="utf-8", newline="")
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(table)
    arrays = {name: np.asarray(values) for name, values in table.items()}
    # Block by block: the cells of millions of rows do not fit into memory as text.
    for start in range(0, max(map(len, arrays.values()), default=0), _BLOCK):
        cells = [_cells(v[start : start + _BLOCK], whole=n in whole) for n, v in arrays.items()]
        writer.writerows(zip(*cells, strict=True))
    out.flush()
    return held.getvalue()


def encode_rows(header: Sequence[str], rows: Sequence[Mapping[str, Any]]) -> bytes:
    """Return rows of words and numbers as CSV. A cell that is missing or nan is empty."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(header)
    writer.writerows([_cell(row.get(name)) for name in header] for row in rows)
    return out.getvalue().encode()


def _cell(value: Any) -> str:
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return ""
    if isinstance(value, float):
        return str(int(value)) if value.is_integer() else repr(value)
    return str(value)


def decode_csv(content: bytes, words: Sequence[str] = ()) -> Table:
    """Return the columns of a CSV file.

    A column has int64 numbers if every cell is a whole number without a point, else float64.

    Args:
        content: the file.
        words: columns that remain text.
    """
    if not words and (found := _numbers(content)) is not None:
        return found
    # Rows become numbers block by block: the cells of millions of rows do not fit into memory.
    rows = csv.reader(io.TextIOWrapper(io.BytesIO(content), encoding="utf-8", newline=""))
    header = next(rows, [])
    if not header:
        raise ValueError("no header")
    if len(set(header)) != len(header):
        raise ValueError("a column occurs twice")
    parts: list[list[NDArray[Any]]] = [[] for _ in header]
    number = 1
    while block := list(islice(rows, _BLOCK)):
        for row in block:
            number += 1
            if len(row) != len(header):
                raise ValueError(f"line {number} has {len(row)} cells, expected {len(header)}")
        for name, own, cells in zip(header, parts, zip(*block, strict=True), strict=True):
            own.append(np.array(cells, dtype=str) if name in words else _column(cells))
    return {
        name: np.concatenate(own) if own else np.empty(0, dtype=str if name in words else float)
        for name, own in zip(header, parts, strict=True)
    }


_PIECE = 2**24
"""Bytes of a table of numbers that are decoded at a time."""


def _numbers(content: bytes) -> Table | None:
    """Return the columns of a plain table of numbers, as numpy reads it; None of all others.

    Numpy is six times as fast as Python's `csv`. A column is of whole numbers if its first cell is
    one. Where that is not so in all rows, numpy refuses the table, as everything that is not plain.
    """
    start = content.find(b"\n") + 1
    second = content.find(b"\n", start)
    cells = content[start : second if second > 0 else len(content)].removesuffix(b"\r").split(b",")
    names = content[: max(0, start - 1)].decode().removesuffix("\r").split(",")
    is_plain = not any(sign in content for sign in (b'"', b"\n\n", b"\n\r", b"\n+", b",+"))
    if not cells[0] or not is_plain or len(set(names)) != len(cells) or len(names) != len(cells):
        return None
    whole = [cell.removeprefix(b"-").isdigit() for cell in cells]
    kinds = np.dtype([(str(i), "i8" if w else "f8") for i, w in enumerate(whole)])
    parts: list[NDArray[Any]] = []
    while start < len(content):
        end = content.find(b"\n", min(start + _PIECE, len(content)) - 1) + 1 or len(content)
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # such as of a whole number that has a point
            try:
                text = io.BytesIO(content[start:end])
                part = np.loadtxt(text, kinds, comments=None, delimiter=",", ndmin=1)
            except (ValueError, Warning):
                return None
        parts.append(part)
        start = end
    return {name: np.concatenate([part[str(i)] for part in parts]) for i, name in enumerate(names)}


def _column(cells: Sequence[str]) -> NDArray[Any]:
    if cells and all(cell.removeprefix("-").isdecimal() for cell in cells):
        return np.array([int(cell) for cell in cells], dtype=np.int64)
    return np.array([float(cell) for cell in cells], dtype=np.float64)
