"""Finder of the files that come with the package or stand in the working directory, by name."""

from __future__ import annotations

import os
from pathlib import Path

PACKAGE = Path(__file__).parents[1]


def folders(kind: str) -> tuple[Path, ...]:
    """Return the folders that hold `kind` ("scenarios" or "topologies"): here, in the wheel, in a source checkout."""
    return Path(kind), PACKAGE / "data" / kind, PACKAGE.parent / kind


def search(name: str, kind: str, suffix: str = "") -> Path | None:
    """Return the file that `name` means, with or without the suffix: as a path, then in the folders of its kind."""
    for place in (Path(), *folders(kind)):
        for candidate in (place / name, place / f"{name}{suffix}"):
            if is_file(candidate):
                return candidate
    return None


def is_file(path: Path) -> bool:
    """Return whether there is such a file; False, unlike `Path.is_file`, for names that no file can have."""
    return os.path.isfile(path)


def files(kind: str, suffix: str) -> dict[str, Path]:
    """Return all files of a kind by name, in order of name: of two with one name the one that `search` finds."""
    paths = [path for folder in folders(kind) for path in sorted(folder.glob(f"*{suffix}"))]
    return dict(sorted({path.name: path for path in reversed(paths)}.items()))
