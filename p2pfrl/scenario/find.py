"""Finder of scenario files, recipes and graph files: path, working directory, package."""

from __future__ import annotations

from collections.abc import Iterator
from importlib import resources
from pathlib import Path

from p2pfrl.core.errors import ScenarioError
from p2pfrl.core.options import did_you_mean

_PACKAGE = Path(str(resources.files("p2pfrl")))


def folders(kind: str) -> Iterator[Path]:
    """Yield the folders that hold `kind` ("scenarios" or "topologies"): here, in the wheel, in a source checkout."""
    yield Path(kind)
    yield _PACKAGE / "data" / kind
    yield _PACKAGE.parent / kind


def find(name: str, kind: str, suffix: str) -> Path:
    """Return the file that `name` means; the suffix may be left out.

    Raises:
        ScenarioError: there is none; the message says where was looked and what is close.
    """
    if "\0" in name:
        raise ScenarioError([f"{name!r}: a file name holds no NUL"])
    places = [Path(), *folders(kind)]
    for place in places:
        for candidate in (place / name, place / f"{name}{suffix}"):
            if is_file(candidate):
                return candidate
    known = {path.name for place in places if place.is_dir() for path in place.glob(f"*{suffix}")}
    looked = f"looked here, in ./{kind} and in the package's {kind}"
    raise ScenarioError([f"{name}: no such file ({looked}){did_you_mean(Path(name).name, known)}"])


def is_file(path: Path) -> bool:
    """Return whether there is such a file; False too for a name that no file can have."""
    try:
        return path.is_file()
    except (OSError, ValueError):
        return False


def recipes() -> dict[str, Path]:
    """Return the recipes by name."""
    return {path.stem: path for path in sorted((_PACKAGE / "recipes").glob("*.toml"))}
