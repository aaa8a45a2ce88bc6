"""Search for files of the package or the working directory, by name."""

from __future__ import annotations

import json
import os
from pathlib import Path

PACKAGE = Path(__file__).parents[1]


def folders(kind: str) -> tuple[Path, ...]:
    """Return the folders that hold files of `kind` ("scenarios" or "topologies").

    They are those of the working directory, of the wheel and of a source checkout.
    """
    return Path(kind), PACKAGE / "data" / kind, PACKAGE.parent / kind


def search(name: str, kind: str, suffix: str = "") -> Path | None:
    """Return the file that `name` means, with or without its suffix; None if there is none.

    The name is tried as a path first, then in the folders of its kind.
    """
    for place in (Path(), *folders(kind)):
        for candidate in (place / name, place / f"{name}{suffix}"):
            if is_file(candidate):
                return candidate
    return None


def is_file(path: Path) -> bool:
    """Return whether a file exists.

    The answer is False for names that no file can have, where `Path.is_file` raises.
    """
    return os.path.isfile(path)


def files(kind: str, suffix: str) -> dict[str, Path]:
    """Return all files of a kind, by name and in order of name.

    Of two files with one name, the one that `search` finds is returned.
    """
    paths = [path for folder in folders(kind) for path in sorted(folder.glob(f"*{suffix}"))]
    return dict(sorted({path.name: path for path in reversed(paths)}.items()))


def install(extra: str) -> str:
    """Return the command that installs an optional part of this package, from where it came.

    That is a source checkout, a directory, file or repository from which it was installed (PEP
    610), or else an index of packages.
    """
    if (PACKAGE.parent / "pyproject.toml").is_file():
        return f"pip install -e '{PACKAGE.parent}[{extra}]'"
    return f"pip install 'p2pfrl[{extra}]{_source()}'"


def _source() -> str:
    """Return from where this package was installed, as a requirement has it; "" for an index."""
    from importlib.metadata import PackageNotFoundError, distribution

    try:
        origin = json.loads(distribution("p2pfrl").read_text("direct_url.json") or "{}")
    except (PackageNotFoundError, ValueError):
        return ""
    if "url" not in origin:
        return ""
    system = origin.get("vcs_info", {}).get("vcs")
    return f" @ {system}+{origin['url']}" if system else f" @ {origin['url']}"
