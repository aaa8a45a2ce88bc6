"""A scenario as the contents of files, with which another machine can run it."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from tempfile import TemporaryDirectory

from p2pfrl.core.errors import P2PFRLError, ScenarioWarning
from p2pfrl.core.files import write_file
from p2pfrl.scenario import Scenario, load
from p2pfrl.scenario.render import resolved
from p2pfrl.scenario.sources import copy_files

Files = Mapping[str, bytes]
"""Path within a folder -> content."""
_NAME = "scenario.toml"


def contents(folder: Path) -> dict[str, bytes]:
    """Return the contents of all files in a folder."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def write_all(files: Files, folder: Path, last: str = "") -> None:
    """Write files into a folder; the one that says that all are there is the last.

    Raises:
        P2PFRLError: a name leads out of the folder.
    """
    for name in sorted(files, key=lambda name: (name == last, name)):
        path = PurePosixPath(name)
        if path.is_absolute() or ".." in path.parts:
            raise P2PFRLError(f"{folder}: expected a file in it, got {name!r}")
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        write_file(folder / path, files[name])


def packed(scenario: Scenario) -> dict[str, bytes]:
    """Return a scenario and the files that it names."""
    with TemporaryDirectory() as folder:
        copy_files(scenario, Path(folder))
        return {_NAME: resolved(scenario).encode(), **contents(Path(folder))}


def unpacked(files: Files, folder: Path) -> Scenario:
    """Return the scenario, whose files are written to a folder and stay there."""
    write_all(files, folder)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ScenarioWarning)  # said where it came from
        return load(folder / _NAME)
