"""Modules that are imported when they are first used, such as torch and gymnasium.

The commands `--help`, `list` and `validate` need neither, and answer at once.
"""

from __future__ import annotations

import importlib
from types import ModuleType


class LazyModule(ModuleType):
    """A module imported at its first attribute access.

    Used as `if TYPE_CHECKING: import torch` / `else: torch = LazyModule("torch")`: type checkers
    see the real one. One that is not installed has no special attributes, and no others.
    """

    def __getattr__(self, name: str) -> object:
        try:
            module = importlib.import_module(self.__name__)
        except ModuleNotFoundError as error:
            if name.startswith("__"):  # asked by tools that look at modules, such as doctest
                raise AttributeError(name) from error
            raise
        value: object = getattr(module, name)
        setattr(self, name, value)  # found without this method from now on
        return value
