"""Search for scenario files and recipes by name."""

from __future__ import annotations

import os
from pathlib import Path

from p2pfrl.core import finder
from p2pfrl.core.errors import ScenarioError
from p2pfrl.core.wording import closest


def find(name: str, kind: str, suffix: str) -> Path:
    """Return the file with this name. The suffix is optional.

    Raises:
        ScenarioError: there is none. The message lists the searched folders and similar names.
    """
    if "\0" in name:
        raise ScenarioError([f"{name!r}: a file name holds no NUL"])
    if not name:
        raise ScenarioError([f"expected a file or the name of one of {kind}, got an empty text"])
    if (found := finder.search(name, kind, suffix)) is not None:
        return found
    if os.path.isdir(name):
        raise ScenarioError([f"{name[:200]}: expected a file, got a directory"])
    if os.path.exists(name):
        raise ScenarioError([f"{name[:200]}: expected a regular file, got a device or a pipe"])
    if os.path.islink(name):
        where = os.readlink(name)
        raise ScenarioError(
            [f"{name[:200]}: expected a file, got a link to {where}, which is none"]
        )
    known = {*finder.files(kind, suffix)} | {path.name for path in Path().glob(f"*{suffix}")}
    looked = f"looked here, in ./{kind} and in the package's {kind}"
    stems = {name.removesuffix(suffix): name for name in known}
    close = closest(Path(name).name.removesuffix(suffix), [*stems])
    hint = f"did you mean {stems[close]!r}?" if close else f"`p2pfrl list {kind}` names them"
    raise ScenarioError([f"{name[:200]}: no such file ({looked}); {hint}"])


def recipes() -> dict[str, Path]:
    """Return the recipes by name."""
    return {path.stem: path for path in sorted((finder.PACKAGE / "recipes").glob("*.toml"))}
