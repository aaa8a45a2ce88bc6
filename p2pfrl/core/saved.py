"""Saved parameters: the tensors of a run directory, or of a safetensors file."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from p2pfrl.core.errors import ScenarioError
from p2pfrl.core.files import checksum, read_regular, read_table
from p2pfrl.core.located import INPUTS
from p2pfrl.core.tensors import decode_layout, decode_tensors, split

Saved = Mapping[str, NDArray[Any]]
"""Saved parameters by name of the tensor, `(k, *shape)` of k models each."""
PARAMETERS = "parameters.safetensors"
_SUMMARY = "summary.json"
LARGEST, _LARGEST_SUMMARY = 2**32, 2**26


def find_saved(name: str, folder: Path | None, copy: str) -> Path:
    """Return the file that a name means, which need not exist.

    A copy beside a scenario that was run comes first, then what is beside the scenario, then what
    is in the working directory.

    Args:
        name: of a run directory or a file.
        folder: of the scenario file; None if it has none.
        copy: the name of the copy in `INPUTS`.
    """
    places = [Path(name)]
    if folder is not None:
        if (folder / INPUTS / copy).is_file():
            return folder / INPUTS / copy
        places.insert(0, folder / name)
    found = next((place for place in places if _exists(place)), places[-1])
    return found / PARAMETERS if _exists(found) and found.is_dir() else found


def _exists(place: Path) -> bool:
    try:
        return place.exists()
    except (OSError, ValueError):  # a name that no file can have
        return False


def read_saved(file: Path, key: str) -> Saved:
    """Return the saved parameters in a file, by name of the tensor `(k, *shape)` of k models.

    Args:
        file: from `find_saved`.
        key: of the scenario, for messages.

    Raises:
        ScenarioError: there is no such file, it is damaged, or it has no tensors.
    """
    content = read_named(file, key)
    summary = (
        read_table(file.parent / _SUMMARY, _LARGEST_SUMMARY) if file.name == PARAMETERS else {}
    )
    recorded = (summary or {}).get("files")
    expected = recorded.get(PARAMETERS) if isinstance(recorded, dict) else None
    if expected is not None and checksum(content) != expected:
        what = "changed since the run wrote it, or torn: its checksum is not the one of the run"
        raise ScenarioError([f"{key}: {file}: {what}"])
    try:
        tensors = decode_tensors(content)
        layout = decode_layout(content)
        if layout is not None:
            return split(tensors["parameters"], layout)
    except (ValueError, KeyError, TypeError, OverflowError, RecursionError) as error:
        what = "damaged, or no safetensors file of parameters"
        text = f"{file}: {what}: {type(error).__name__}: {error}"
        raise ScenarioError([f"{key}: {text}"]) from error
    if not tensors:
        raise ScenarioError([f"{key}: {file}: it has no tensors"])
    return {name: values[None] for name, values in tensors.items()}


def read_named(file: Path, key: str) -> bytes:
    """Return the content of a file that a key of a scenario names.

    Raises:
        ScenarioError: there is no such file.
    """
    try:
        return read_regular(file, LARGEST)
    except OSError as error:
        if file.name == PARAMETERS and file.parent.is_dir() and not file.exists():
            text = f"{file.parent} is no finished run: it has no {PARAMETERS}"
            raise ScenarioError([f"{key}: {text}"]) from error
        fix = "expected a run directory or a file"
        raise ScenarioError([f"{key}: {file}: {error.strerror or error}; {fix}"]) from error
