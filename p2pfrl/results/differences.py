"""Differences between the files of a recorded run and the record of its replay.

Somebody who changes a file can change its checksum too. So contents are compared, and checksums
only of what a replay cannot tell.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from p2pfrl.core.errors import RecordError
from p2pfrl.core.files import checksum
from p2pfrl.core.tensors import decode_tensors
from p2pfrl.core.wording import show
from p2pfrl.results.directory import FILES, SUMMARY
from p2pfrl.results.files import decode_csv, plain, read_bytes, refusing
from p2pfrl.results.record import EVALUATION, Record, contents

_OF_THE_MACHINE = ("wall_seconds", "workers", "device", "versions", "sources", "digest", "notes")
"""Keys of a summary that a replay does not repeat, or that are compared elsewhere."""
_OF_THE_FILES = ("files", "format")
_OF_THE_COURSE = ("writes_failed", "episodes_began_anew")
"""Keys that only the first run has, about its disk and how it was resumed."""
_OF_PROCESSES = (
    "name",
    "mode",
    "seed",
    "agents",
    "parameters",
    "rounds",
    "env_steps",
    "final_return",
    "error_is",
)
"""Keys that are equal in a run of processes and in the simulator; times and counts are not."""
_OF_TIMES = (
    "virtual_seconds",
    "bytes_sent",
    "messages_dropped",
    "staleness",
    "staleness_mean",
    "active",
    "policy_kl",
)
"""Columns of a run of processes that depend on when messages arrived, and on restarts."""
_TABLES = ("metrics.csv", "agents.csv")
_EXACT = ("graph.json", "problem.safetensors")
"""Files that are the same in a run of processes and in the simulator."""
_SHOWN = 5
"""Most differences of the summary that are named."""


def read_files(folder: Path, summary: Mapping[str, Any]) -> dict[str, bytes]:
    """Return the contents of the files that the summary of a run lists, by name.

    Raises:
        RecordError: one is missing, cannot be read, or is no file of a record.
    """
    with refusing(folder / SUMMARY):
        names = [str(name) for name in dict(summary["files"])]
    for name in names:
        if name not in FILES:
            raise RecordError(f"{folder / name}: not a file of a run directory")
    return {name: read_bytes(folder / name) for name in names}


def differences(
    found: Mapping[str, bytes],
    summary: Mapping[str, Any],
    replayed: Record,
    *,
    has_changed: bool,
) -> tuple[str, ...]:
    """Return what differs, as "file: where: recorded ..., replayed ..."; one line per file.

    Args:
        found: the files of the run, from `read_files`.
        summary: that of the run.
        replayed: the record of its replay.
        has_changed: whether other versions replayed it; they may have more files, columns and keys.
    """
    is_real = summary.get("transport") == "tcp"
    expected = contents(replayed)
    lines = []
    for name, content in found.items():
        is_changed = checksum(content) != summary["files"][name]
        line = None
        if name != "scenario.toml" and content != expected.get(name, b""):
            if not is_real:
                line = _difference(name, content, expected.get(name), has_changed=has_changed)
            elif name == "parameters.safetensors":
                line = _of_tensors(content, expected[name])
            elif name in _TABLES and not _is_thinned(summary):
                line = _of_processes(content, expected[name])
            elif name in _EXACT:
                line = _difference(name, content, expected.get(name), has_changed=has_changed)
        if line is None and is_changed:
            line = (
                "changed since the run wrote it (its checksum differs from the one in summary.json)"
            )
        if line is not None:
            lines.append(f"{name}: {line}")
    if not has_changed:
        lines += [f"{name}: not listed in summary.json" for name in expected if name not in found]
    keys = _of_summary(summary, replayed, is_real=is_real, has_changed=has_changed)
    more = [f"{SUMMARY}: {len(keys) - _SHOWN} more keys differ"] if len(keys) > _SHOWN else []
    return (*lines, *(f"{SUMMARY}: {line}" for line in keys[:_SHOWN]), *more)


def unchecked(summary: Mapping[str, Any]) -> tuple[str, ...]:
    """Return what `differences` cannot compare with a replay: names of files and columns.

    Of these a changed number with a changed checksum is not noticed.
    """
    if summary.get("transport") != "tcp":
        return ()
    rows = _TABLES if _is_thinned(summary) else [f"{', '.join(_OF_TIMES)} in the tables of rounds"]
    new = ["newcomers.csv"] if "newcomers.csv" in summary.get("files", ()) else []
    return (
        *rows,
        *new,
        "staleness.csv",
        "timeline.csv",
        "times and counts of messages in summary.json",
    )


def _is_thinned(summary: Mapping[str, Any]) -> bool:
    """Whether a run of processes has only every k-th round."""
    return summary.get("journal") is not None


def _of_processes(content: bytes, expected: bytes) -> str | None:
    """Return what differs in the rows of a run of processes, where it is equal in the simulator.

    Evaluations are compared where there are any: `collect` leaves out those of real machines.
    """
    try:
        own, other = (decode_csv(file, words=("kind",)) for file in (content, expected))
    except (ValueError, OverflowError) as error:
        return f"not a table of numbers: {error}"
    rows = [len(next(iter(table.values()), ())) for table in (own, other)]
    if rows[0] != rows[1]:
        return f"recorded {rows[0]} rows, replayed {rows[1]}"
    for name in own:
        if name not in other or name in _OF_TIMES:
            continue
        if name.startswith(EVALUATION) and not np.isfinite(own[name]).any():
            continue
        if line := _of_column(name, own[name], other[name]):
            return line
    return None


def _difference(
    name: str, content: bytes, expected: bytes | None, *, has_changed: bool
) -> str | None:
    """Return what differs in a file of a simulated run, or None if only new columns do."""
    if expected is None:
        return "the replay has no such file"
    if name.endswith(".csv"):
        return _of_rows(content, expected, has_changed=has_changed)
    if name.endswith(".safetensors"):
        return _of_tensors(content, expected)
    pairs = zip(content.splitlines(), expected.splitlines(), strict=False)
    for number, (own, other) in enumerate(pairs, start=1):
        if own != other:
            return f"line {number}: recorded {_text(own)}, replayed {_text(other)}"
    return f"recorded {len(content)} bytes, replayed {len(expected)}"


def _of_rows(content: bytes, expected: bytes, *, has_changed: bool) -> str | None:
    try:
        own, other = (decode_csv(file, words=("kind",)) for file in (content, expected))
    except (ValueError, OverflowError) as error:
        return f"not a table of numbers: {error}"
    missing = [name for name in (*own, *other) if name not in own or name not in other]
    if missing and (missing[0] in own or not has_changed):
        has = "replayed" if missing[0] in own else "recorded"
        return f"column {missing[0]} is missing in the {has} file"
    rows = [len(next(iter(table.values()))) for table in (own, other)]
    if rows[0] != rows[1]:
        return f"recorded {rows[0]} rows, replayed {rows[1]}"
    for name in own:
        if name in other and (line := _of_column(name, own[name], other[name])):
            return line
    return None if has_changed else "numbers are equal, and written differently"


def _of_column(name: str, own: NDArray[Any], other: NDArray[Any]) -> str | None:
    """Return the first difference of two columns, with its line in the file, or None."""
    places = _unequal(own, other)
    if not len(places):
        return None
    place = places[0]
    return (
        f"line {place + 2}, {name}: recorded {own[place]}, replayed {other[place]}"
        f"{_more(len(places))}"
    )


def _of_tensors(content: bytes, expected: bytes) -> str | None:
    try:
        own, other = decode_tensors(content), decode_tensors(expected)
    except ValueError as error:
        return f"not a safetensors file: {error}"
    if own.keys() != other.keys():
        return f"recorded {', '.join(own)}, replayed {', '.join(other)}"
    for name in own:
        if own[name].shape != other[name].shape or own[name].dtype != other[name].dtype:
            kinds = [f"{array.dtype} of shape {array.shape}" for array in (own[name], other[name])]
            return f"{name}: recorded {kinds[0]}, replayed {kinds[1]}"
        flat, replayed = own[name].ravel(), other[name].ravel()
        if len(places := _unequal(flat, replayed)):
            at = ", ".join(str(int(i)) for i in np.unravel_index(places[0], own[name].shape))
            return (
                f"{name}[{at}]: recorded {flat[places[0]]}, replayed {replayed[places[0]]}"
                f"{_more(len(places))}"
            )
    return "numbers are equal, and the layout or metadata differs"


def _unequal(own: NDArray[Any], other: NDArray[Any]) -> NDArray[np.int64]:
    """Return where two columns differ; nan equals nan."""
    differ = own != other
    if own.dtype.kind == "f" and other.dtype.kind == "f":
        differ &= ~(np.isnan(own) & np.isnan(other))
    return np.flatnonzero(differ)


def _more(count: int) -> str:
    return f"; {count} numbers differ" if count > 1 else ""


def _of_summary(
    summary: Mapping[str, Any], replayed: Record, *, is_real: bool, has_changed: bool
) -> list[str]:
    """Return the keys of a summary that differ, with both values."""
    other = plain(
        {
            **replayed.summary,
            "lambda_2": replayed.lambda_2,
            "heterogeneity": replayed.heterogeneity,
        }
    )
    skipped = (*_OF_THE_MACHINE, *_OF_THE_FILES, *_OF_THE_COURSE)
    names = dict.fromkeys((*summary, *other))
    if is_real:
        names = dict.fromkeys(name for name in _OF_PROCESSES if name in names)
    lines: list[str] = []
    for name in names:
        if name not in skipped and not (has_changed and name not in summary):
            lines += _unlike(name, summary.get(name, _NONE), other.get(name, _NONE))
    if is_real and summary["digest"] != summary["parameters_digest"]:
        lines += _unlike("digest", summary["digest"], summary["parameters_digest"])
    return lines


_NONE = object()


def _unlike(name: str, own: object, other: object) -> list[str]:
    """Return the values of two JSON trees that differ."""
    if isinstance(own, Mapping) and isinstance(other, Mapping):
        return [
            line
            for key in dict.fromkeys((*own, *other))
            for line in _unlike(f"{name}.{key}", own.get(key, _NONE), other.get(key, _NONE))
        ]
    if own == other and isinstance(own, bool) == isinstance(other, bool):
        return []
    values = ["nothing" if value is _NONE else _shown(value) for value in (own, other)]
    return [f"{name}: recorded {values[0]}, replayed {values[1]}"]


def _shown(value: object) -> str:
    return "null" if value is None else show(value)


def _text(line: bytes) -> str:
    return show(line.decode(errors="replace").strip())
