"""Records of several runs as one table for other tools: columns in memory, or a Parquet file."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from p2pfrl.core.errors import P2PFRLError, RecordError, ScenarioError
from p2pfrl.core.files import open_regular
from p2pfrl.core.finder import install
from p2pfrl.core.tables import leaves
from p2pfrl.results.groups import scenario_keys
from p2pfrl.results.record import COUNTS, Record, load

_PARQUET = b"PAR1"
"""The first bytes of a Parquet file."""

Columns = dict[str, NDArray[Any]]
"""Name -> values, all of one length: what `pandas.DataFrame` takes."""


def _rounds(record: Record) -> Columns:
    whole = {
        name: record.metrics[name].astype(np.int64)
        for name in COUNTS
        if name in record.metrics and np.isfinite(record.metrics[name]).all()
    }
    return {**record.metrics, **whole}


def _agents(record: Record) -> Columns:
    return dict(record.agents)


def _runs(record: Record) -> Columns:
    """Return one row: the numbers and words of the summary, and the keys of the scenario."""
    summary = {key: value for key, value in record.summary.items() if key not in _ELSEWHERE}
    found = {key.replace(".", "_"): value for key, value in leaves(summary)}
    found |= {"lambda_2": record.lambda_2}
    found |= {f"heterogeneity_{key}": value for key, value in record.heterogeneity.items()}
    found |= {
        f"scenario_{key.replace('.', '_')}": value
        for key, value in scenario_keys(record.scenario).items()
    }
    return {name: _one(value) for name, value in found.items() if name not in _OF_RUN}


def _staleness(record: Record) -> Columns:
    return {"staleness": np.arange(len(record.staleness)), "messages": record.staleness}


def _timeline(record: Record) -> Columns:
    return {
        "agent": np.array([i.agent for i in record.timeline], dtype=np.int64),
        "kind": np.array([i.kind for i in record.timeline], dtype=object),
        "start": np.array([i.start for i in record.timeline], dtype=np.float64),
        "end": np.array([i.end for i in record.timeline], dtype=np.float64),
    }


TABLES: dict[str, Callable[[Record], Columns]] = {
    "rounds": _rounds,
    "agents": _agents,
    "runs": _runs,
    "staleness": _staleness,
    "timeline": _timeline,
}
"""Name of a table -> its columns in one run."""
_OF_RUN = ("run", "name", "mode", "seed")
"""Columns in front of those of a table: which run a row is of."""
_ELSEWHERE = ("files", "versions", "sources")


def table(directories: Sequence[Path | str], name: str = "rounds") -> Columns:
    """Return one table of all runs; a column that a run does not have is nan or None there.

    Args:
        directories: run directories.
        name: one of `TABLES`. `rounds` has a row per round (metrics.csv), `agents` one per agent
            and round, `runs` one per run, `staleness` and `timeline` those of their files.

    Raises:
        RecordError: a run is missing or damaged.
        P2PFRLError: there is no such table.
    """
    if name not in TABLES:
        raise ScenarioError([f"table: expected one of {', '.join(TABLES)}, got {name!r}"])
    parts: list[Columns] = []
    for directory in directories:
        record = load(directory)
        own = TABLES[name](record)
        count = len(next(iter(own.values()), ()))
        of_run = {"run": str(directory), "name": record.name, "mode": record.mode}
        first: Columns = {key: np.full(count, value, dtype=object) for key, value in of_run.items()}
        parts.append({**first, "seed": np.full(count, record.seed), **own})
    return _joined(parts)


def _joined(parts: Sequence[Columns]) -> Columns:
    """Return tables below each other."""
    names = dict.fromkeys(name for part in parts for name in part)
    counts = [len(part["run"]) for part in parts]
    found: Columns = {}
    for name in names:
        own = [part.get(name) for part in parts]
        kinds = {values.dtype.kind for values in own if values is not None}
        if kinds <= set("iufb") and not ("b" in kinds and len(kinds) > 1):
            is_whole = kinds <= set("iu") and all(values is not None for values in own)
            kind: type = np.int64 if is_whole else np.float64
            kind = np.bool_ if kinds == {"b"} and all(v is not None for v in own) else kind
            filled = [
                np.full(count, np.nan) if values is None else values.astype(kind)
                for values, count in zip(own, counts, strict=True)
            ]
        else:
            filled = [
                np.full(count, None, dtype=object)
                if values is None
                else np.array([_word(value) for value in values.tolist()], dtype=object)
                for values, count in zip(own, counts, strict=True)
            ]
        found[name] = np.concatenate(filled) if filled else np.empty(0)
    return found


def _one(value: object) -> NDArray[Any]:
    """Return a column of one value; lists and tables are JSON."""
    if value is None:
        return np.array([np.nan])
    if isinstance(value, bool | int | float):
        return np.array([value])
    text = value if isinstance(value, str) else json.dumps(value)
    return np.array([text], dtype=object)


def _word(value: object) -> str | None:
    """Return a value in a column of words; nan is nothing."""
    if value is None or value != value:
        return None
    return str(value)


def write_parquet(columns: Mapping[str, NDArray[Any]], path: Path) -> None:
    """Write columns as a Parquet file; nan becomes NULL.

    It needs duckdb, which the extra `analysis` brings.

    Raises:
        P2PFRLError: duckdb is not installed.
        RecordError: the file cannot be written.
        ScenarioError: another file than a Parquet file has this name.
    """
    _refuse_another(path)
    try:
        import duckdb
    except ImportError as error:
        raise P2PFRLError(
            f"--parquet: needs duckdb, which is not installed: {install('analysis')}"
        ) from error
    part = path.with_name(f".{path.name}.part")
    try:
        with duckdb.connect() as connection:
            connection.register("found", dict(columns))
            name = str(part).replace("'", "''")
            connection.execute(f"COPY (SELECT * FROM found) TO '{name}' (FORMAT parquet)")
        os.replace(part, path)
    except (duckdb.Error, OSError) as error:
        part.unlink(missing_ok=True)
        raise RecordError(f"{path}: cannot be written: {error}") from error


def _refuse_another(path: Path) -> None:
    """Refuse to replace a file that is no Parquet file."""
    try:
        with open_regular(path) as file:
            head = file.read(len(_PARQUET))
    except FileNotFoundError:
        return
    except OSError as error:
        raise RecordError(f"{path}: cannot be written: {error.strerror}") from error
    if head != _PARQUET:
        what = "expected a new file or a Parquet file, got another one; give another name"
        raise ScenarioError([f"--parquet {path}: {what}"])
