"""Classes and functions of users' own modules, by their place "module:Class"."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from functools import reduce
from importlib.util import find_spec
from pathlib import Path
from types import MappingProxyType
from typing import Any

from p2pfrl.core.causes import cause, foreign
from p2pfrl.core.errors import P2PFRLError

MAIN = "__main__"


_MOST_NAMES = 10


class MissingClassError(ValueError):
    """A module has no class of this name."""


_GIVEN: ContextVar[Mapping[str, object]] = ContextVar("given", default=MappingProxyType({}))


@contextmanager
def giving(objects: Mapping[str, object]) -> Iterator[None]:
    """In the block, let `find_object` find objects of a script or function, by their places."""
    token = _GIVEN.set({**_GIVEN.get(), **objects})
    try:
        yield
    finally:
        _GIVEN.reset(token)


def object_given(place: str) -> object | None:
    """Return the object that `giving` lets be found at a place; None if it gives none there."""
    return _GIVEN.get().get(place)


def place_of(cls: Any) -> str:
    """Return the place of a class or function: "module:Class".

    >>> place_of(P2PFRLError)
    'p2pfrl.core.errors:P2PFRLError'
    """
    return f"{cls.__module__}:{cls.__qualname__}"


def is_of_package(cls: Any) -> bool:
    """Return whether a class or function is of this package, and not of a user's own.

    >>> is_of_package(P2PFRLError), is_of_package(Path)
    (True, False)
    """
    return str(cls.__module__).startswith("p2pfrl.")


def is_place(name: str) -> bool:
    """Return whether a name has the form of a place."""
    module, colon, cls = name.partition(":")
    return bool(colon) and all(part.isidentifier() for part in (*module.split("."), *_path(cls)))


def _path(cls: str) -> list[str]:
    return cls.replace("<locals>", "locals").replace("<lambda>", "lambda").split(".")


def find_class(place: str) -> type:
    """Return the class at a place; its module is imported.

    Raises:
        ValueError: there is no such class; the message has the reason and what helps.
    """
    found = find_object(place)
    if not isinstance(found, type):
        raise ValueError(f"{place!r} is no class")
    return found


def find_object(place: str) -> object:
    """Return the class, function or other object at a place; its module is imported.

    Raises:
        ValueError: there is none; the message has the reason and what helps.
    """
    if place in (given := _GIVEN.get()):
        return given[place]
    module, _, name = place.partition(":")
    if "<locals>" in name or "<lambda>" in name:
        what = "is a lambda" if name.endswith("<lambda>") else "was defined inside a function"
        raise ValueError(
            f"{place!r} {what}, from where it cannot be imported; move it to the top of a module, "
            "or pass it from Python"
        )
    try:
        start: Any = sys.modules[module] if module == MAIN else importlib.import_module(module)
        get: Callable[[Any, str], Any] = lambda at, part: getattr(at, part, None)  # noqa: E731
        found = reduce(get, name.split("."), start)
    except foreign() as error:
        raise ValueError(_why_not(place, error)) from error
    if found is None and module == MAIN:
        raise ValueError(_why_not(place))
    if found is None:
        known = [each.__name__ for each in vars(start).values() if _is_of(each, module)]
        has = f"it has {', '.join(sorted(known)[:_MOST_NAMES])}" if known else "it has no class"
        raise MissingClassError(f"{module} has no class {name}; {has}")
    return found


def _why_not(place: str, error: BaseException | None = None) -> str:
    """Return why a class cannot be imported, and what helps."""
    if place.startswith(f"{MAIN}:"):
        return (
            f"{place!r} was defined in a script or notebook, from where it cannot be imported; put it "
            "into a module, or pass the rule from Python"
        )
    if isinstance(error, ModuleNotFoundError):
        return (
            f"{place!r} cannot be imported: {error}; start in the folder of the module, or "
            "install it"
        )
    said = str(error) if error is None or isinstance(error, P2PFRLError) else cause(error)
    return f"{place!r} cannot be imported: {said}"


def _is_of(found: object, module: str) -> bool:
    return isinstance(found, type) and found.__module__ == module


def look_in(folder: Path, module: str) -> None:
    """Let a module be imported from `folder` if it is found nowhere else and stands there."""
    top = module.partition(".")[0]
    if not top.isidentifier() or top == MAIN or top in sys.modules:
        return
    try:
        is_known = find_spec(top) is not None
    except foreign():
        is_known = False
    if not is_known and ((folder / f"{top}.py").is_file() or (folder / top).is_dir()):
        _ADDED.append(str(folder.resolve()))
        sys.path.append(_ADDED[-1])
        importlib.invalidate_caches()


_ADDED: list[str] = []


def search_path() -> str:
    """Return PYTHONPATH for another process that shall find what was found here."""
    return os.pathsep.join(filter(None, (os.environ.get("PYTHONPATH", ""), *_ADDED)))
