"""Rules and sections that name files: a name is looked up beside the scenario file first."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from p2pfrl.core.finder import is_file

INPUTS = "inputs"
"""Folder beside a scenario that was written by a run, with copies of the files that it names."""


class Located:
    """A rule or section that names files.

    The folder is no option: it is where the scenario was found, and it differs between machines
    that run one scenario.
    """

    @property
    def folder(self) -> Path | None:
        """Folder of the scenario file; None for a scenario that has none."""
        found: Path | None = vars(self).get("_folder")
        return found

    def locate(self, folder: Path | None) -> None:
        """Set the folder."""
        object.__setattr__(self, "_folder", folder)

    def beside(self, name: str) -> Path | None:
        """Return the file that a name means beside the scenario; None if there is none."""
        if self.folder is None:
            return None
        copies = self.folder / INPUTS / Path(name).name
        return next((path for path in (self.folder / name, copies) if is_file(path)), None)

    def files(self) -> Mapping[str, Path]:
        """Return the named files that exist: name in the scenario -> path."""
        return {}

    def copy_of(self, path: Path) -> str:
        """Return the name that the copy of a file has in `INPUTS`."""
        return path.name

    def modules(self) -> tuple[str, ...]:
        """Return the names of the modules on which a result depends."""
        return ()
