"""Sources of a scenario: the contents of files and modules that it names.

Two scenarios of one text are the same only if their sources are.
"""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Iterator, Mapping
from hashlib import blake2b
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path

from p2pfrl.core.causes import foreign
from p2pfrl.core.errors import P2PFRLError
from p2pfrl.core.files import read_regular, write_file
from p2pfrl.core.finder import folders
from p2pfrl.core.located import INPUTS, Located
from p2pfrl.core.modules import MAIN
from p2pfrl.exchange.payloads import RULES as PAYLOADS
from p2pfrl.scenario.sections import Scenario

_LARGEST = 2**26
_MOST_FILES = 1000


def located(scenario: Scenario) -> Iterator[Located]:
    """Yield the rules and sections of a scenario that name files or modules."""
    yield from (rule for rule in _rules(scenario) if isinstance(rule, Located))


def sources(scenario: Scenario) -> dict[str, str]:
    """Return a checksum of the contents of every file and module that a scenario names.

    The modules are those of a user's own rules and of environments. A module that is part of an
    installed package has its version, too. What a module imports is not part of it.
    """
    found: dict[str, str] = {}
    for rule in (*_rules(scenario), PAYLOADS[scenario.exchange.payload]()):
        modules = [type(rule).__module__]
        if isinstance(rule, Located):
            modules += rule.modules()
            for name, path in rule.files().items():
                found[f"file {name}"] = _file(path)
        for module in modules:
            if module.partition(".")[0] not in ("p2pfrl", "gymnasium", "builtins", MAIN):
                found[f"module {module}"] = _module(module)
    return dict(sorted(found.items()))


def copy_files(scenario: Scenario, folder: Path) -> None:
    """Copy the files that a scenario names to `inputs` in a folder, for a scenario file there.

    Files that come with the package are left out.

    Raises:
        P2PFRLError: a file cannot be read or written.
    """
    shipped = [place.resolve() for place in folders("topologies")[1:]]
    for rule in located(scenario):
        for path in rule.files().values():
            if path.resolve().parent in shipped:
                continue
            target = folder / INPUTS / rule.copy_of(path)
            try:
                content = read_regular(path, _LARGEST)
                target.parent.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise P2PFRLError(f"{path}: cannot be copied: {error.strerror or error}") from error
            if path.resolve() != target.resolve():
                write_file(target, content)


def differences(then: Mapping[str, str], now: Mapping[str, str]) -> dict[str, tuple[str, str]]:
    """Return what differs between sources: name -> (then, now).

    A module that is only there now is one that an earlier version did not record.
    """
    names = sorted({*then, *(name for name in now if not name.startswith("module "))})
    return {
        name: (then.get(name, "none"), now.get(name, "none"))
        for name in names
        if then.get(name) != now.get(name)
    }


def _rules(scenario: Scenario) -> Iterator[object]:
    """Yield all rules and sections of a scenario, nested ones and those of groups included."""
    yield from _nested(scenario)
    if scenario.groups:
        for make in scenario.makes:
            yield from _nested(make.learner)
            yield from _nested(make.environment)


def _nested(value: object) -> Iterator[object]:
    if isinstance(value, Mapping):
        for child in value.values():
            yield from _nested(child)
    elif isinstance(value, tuple | list):
        for child in value:
            yield from _nested(child)
    elif dataclasses.is_dataclass(value) and not isinstance(value, type):
        yield value
        for field in dataclasses.fields(value):
            yield from _nested(getattr(value, field.name))


def _file(path: Path) -> str:
    try:
        return blake2b(read_regular(path, _LARGEST), digest_size=8).hexdigest()
    except OSError as error:
        return f"cannot be read: {error.strerror or error}"


def _module(name: str) -> str:
    """Return the version and the checksum of the source of a module, or of its package."""
    top = name.partition(".")[0]
    try:
        known = sys.modules.get(top)
        spec = getattr(known, "__spec__", None) or find_spec(top)
        places = list(spec.submodule_search_locations or ()) if spec else []
        files = [path for place in places for path in sorted(Path(place).rglob("*.py"))]
    except foreign():  # what a user's own finder of modules raises
        return "not found"
    if not places and spec is not None and spec.origin:
        files = [Path(spec.origin)]
    if not files:
        return "not found"
    total = blake2b(digest_size=8)
    for path in files[:_MOST_FILES]:
        total.update(f"{path.name} {_file(path)}".encode())
    return f"{_version(top)}{total.hexdigest()}"


def _version(module: str) -> str:
    try:
        return f"{version(module)} "
    except PackageNotFoundError:
        return ""
